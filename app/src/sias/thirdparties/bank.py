"""SIRET and IBAN: checked, the IBAN encrypted at rest, compared by blind index, shown masked."""

import hashlib
import hmac
import re
from functools import cache

from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from stdnum import exceptions, iban
from stdnum.fr import siret

_CONTEXT = [b"sias iban v1"]
SIRET_LENGTH = 14


def clean(text: str) -> str:
    """Return a number without the separators people write."""
    return re.sub(r"[\s.\-]", "", text).upper()


def siret_problem(number: str) -> str:
    """Return what is wrong with a cleaned SIRET, "" when nothing is. La Poste's have a key of their own."""
    try:
        siret.validate(number)
    except (exceptions.InvalidLength, exceptions.InvalidFormat):
        return f"Un SIRET compte {SIRET_LENGTH} chiffres ; {len(number)} caractères reçus."
    except exceptions.ValidationError:
        return "La clé de ce SIRET est fausse : une erreur de frappe est probable."
    return ""


def iban_problem(number: str) -> str:
    """Return what is wrong with a cleaned IBAN, "" when nothing is: country, length, both keys where national ones exist."""
    try:
        iban.validate(number)
    except exceptions.InvalidChecksum:
        return "La clé de cet IBAN est fausse : une erreur de frappe est probable."
    except exceptions.ValidationError:
        return "Ce n'est pas un IBAN : deux lettres de pays, deux chiffres, puis le compte (FR : 27 caractères)."
    return ""


@cache
def _keys() -> tuple[AESSIV, bytes]:
    derived = HKDF(algorithm=SHA256(), length=96, salt=b"sias", info=b"iban").derive(settings.IDENTIFIER_KEY.encode())
    return AESSIV(derived[:64]), derived[64:]


def encrypt(number: str) -> bytes:
    """Return the ciphertext of a cleaned IBAN."""
    return _keys()[0].encrypt(number.encode(), _CONTEXT)


def decrypt(ciphertext: bytes) -> str:
    """Return the IBAN; raises cryptography's InvalidTag on a damaged or foreign ciphertext."""
    return _keys()[0].decrypt(bytes(ciphertext), _CONTEXT).decode()


def blind_index(number: str) -> bytes:
    """Return 16 bytes that are the same for the same IBAN, and tell nothing without the key."""
    return hmac.digest(_keys()[1], number.encode(), hashlib.sha256)[:16]


def mask(number: str) -> str:
    """Return country, key and the last three characters: `FR76 •••• 189`."""
    return f"{number[:4]} •••• {number[-3:]}"
