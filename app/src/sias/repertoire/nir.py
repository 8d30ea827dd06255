"""The national identifier (NIR): checked, encrypted at rest, found through a blind index, shown masked.

AES-SIV is deterministic: the same number gives the same bytes, which the blind index reveals anyway, and no nonce can
ever be repeated by mistake. Both keys derive from the one secret `identifier_key`.
"""

import hashlib
import hmac
import re
from functools import cache

from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

_SHAPE = re.compile(r"^[1-478]\d{2}(0[1-9]|1[0-2]|[2-9]\d)(\d{2}|2[AB])\d{6}$")
LENGTH = 15  # with the key
_CONTEXT = [b"sias nir v1"]


def clean(text: str) -> str:
    """Return the number without the spaces and dots people write in it."""
    return re.sub(r"[\s.\-]", "", text).upper()


def key(number: str) -> int:
    """Return the control key (1-97) of the 13 first characters; Corsica counts as 19 and 18."""
    digits = number[:13].replace("2A", "19").replace("2B", "18")
    return 97 - int(digits) % 97


def problem(number: str) -> str:
    """Return what is wrong with a cleaned number in one French sentence, "" when nothing is."""
    if len(number) != LENGTH:
        return f"Le NIR compte 13 caractères et une clé de 2 chiffres ; {len(number)} reçus."
    if not _SHAPE.match(number[:13]):
        return "Le NIR n'a pas la forme attendue : sexe, année, mois, département, commune, ordre."
    if not number[13:].isdigit() or int(number[13:]) != key(number):
        return f"La clé {number[13:]} ne correspond pas au numéro : une erreur de frappe est probable."
    return ""


@cache
def _keys() -> tuple[AESSIV, bytes]:
    derived = HKDF(algorithm=SHA256(), length=96, salt=b"sias", info=b"nir").derive(settings.IDENTIFIER_KEY.encode())
    return AESSIV(derived[:64]), derived[64:]


def encrypt(number: str) -> bytes:
    """Return the ciphertext of a cleaned number."""
    return _keys()[0].encrypt(number.encode(), _CONTEXT)


def decrypt(ciphertext: bytes) -> str:
    """Return the number; raises cryptography's InvalidTag on a damaged or foreign ciphertext."""
    return _keys()[0].decrypt(bytes(ciphertext), _CONTEXT).decode()


def blind_index(number: str) -> bytes:
    """Return 16 bytes that are the same for the same number, and tell nothing without the key."""
    return hmac.digest(_keys()[1], number[:13].encode(), hashlib.sha256)[:16]


def mask(number: str) -> str:
    """Return sex and year in clear, the rest hidden: `2 75 •• •• ••• ••• ••`."""
    return f"{number[0]} {number[1:3]} •• •• ••• ••• ••"
