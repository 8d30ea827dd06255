"""Filter `monitoring_bcrypt`: a bcrypt hash that is the same for the same password and the same place.

Prometheus wants bcrypt. A hash with a random salt would differ at each run and report a change that is none. The salt
here is derived from a name (it need not be secret, only different in each place), so the hash changes with the
password and with nothing else.
"""

from __future__ import annotations

import hashlib
from typing import Any

import bcrypt
from ansible.errors import AnsibleFilterError

COST = 10  # 2^10 rounds: about 50 ms for each sign-in, which Prometheus then remembers
ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
LAST = ".Oeu"  # 22 characters hold 132 bits, a salt 128: the last one carries two
LONGEST = 72  # bytes of a password that bcrypt reads


def salt_from(place: str) -> bytes:
    """Return a bcrypt salt that depends on the place alone."""
    digest = hashlib.sha256(place.encode()).digest()
    salt = "".join(ALPHABET[byte % 64] for byte in digest[:21]) + LAST[digest[21] % 4]
    return f"$2b${COST}${salt}".encode()


def monitoring_bcrypt(password: str, place: str) -> str:
    """Return the bcrypt hash of a password, with a salt made from the place's name."""
    secret = str(password).encode()
    if not secret:
        raise AnsibleFilterError("monitoring_bcrypt: the password is empty")
    if len(secret) > LONGEST:
        raise AnsibleFilterError(f"monitoring_bcrypt: bcrypt reads {LONGEST} bytes, this password is longer")
    return bcrypt.hashpw(secret, salt_from(str(place))).decode()


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"monitoring_bcrypt": monitoring_bcrypt}
