"""What an entry says of an agent, whether they are still here, and why an entry cannot be taken."""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils import timezone

from sias.directory.client import Entry
from sias.socle.text import normalise

LOCKED_FOR_GOOD = "000001010000Z"  # any other time is that of a lock after wrong passwords, which ends by itself
LEFT = {"SORTI", "PARTI", "RETRAITE", "INACTIF", "DECEDE"}  # values of employeeType
_UID = re.compile(r"^[a-z0-9][a-z0-9._-]{0,99}$")
_TIME = re.compile(r"^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)?(\d\d)?(?:[.,]\d+)?Z$")


@dataclass(frozen=True)
class Seen:
    """An agent as the directory describes them."""

    entry: Entry
    identity: str
    username: str
    last_name: str
    first_name: str
    email: str
    service: str
    function: str
    gone: str = ""  # why they are no longer here, "" while they are
    wrong: str = ""  # why the entry cannot be taken, "" when it can


def why_gone(entry: Entry, now: datetime) -> str:
    """Return why the agent of an entry may no longer sign in, "" when they may. Raises ValueError for no date."""
    if entry["pwdAccountLockedTime"] == LOCKED_FOR_GOOD:
        return "compte verrouillé dans l'annuaire"
    if normalise(entry["employeeType"]) in LEFT:
        return f"situation « {entry['employeeType']} » dans l'annuaire"
    end = entry["pwdEndTime"]
    if end and (ended := _time(end)) <= now:
        return f"fin d'accès le {timezone.localtime(ended):%d/%m/%Y}"
    return ""


def _time(text: str) -> datetime:
    found = _TIME.match(text)
    if found is None:
        raise ValueError(f"« {text} » n'est pas une date d'annuaire")
    return datetime(*(int(part or 0) for part in found.groups()), tzinfo=UTC)


def look(entries: list[Entry], services: set[str], now: datetime) -> list[Seen]:
    """Look at every entry, by itself and beside the others. `services` are the codes in force."""
    names = Counter(entry["uid"].lower() for entry in entries if entry["uid"])
    here = [_seen(entry, services, now) for entry in entries]
    mails = Counter(one.email.lower() for one in here if one.email and not one.gone)
    seen = []
    for one in here:
        wrong = one.wrong
        if names[one.username] > 1:
            wrong = f"{wrong} Plusieurs entrées portent l'identifiant « {one.username} ».".strip()
        if not one.gone and mails[one.email.lower()] > 1:
            wrong = f"{wrong} Plusieurs entrées portent l'adresse « {one.email} ».".strip()
        seen.append(Seen(**{**one.__dict__, "wrong": wrong[:300]}))
    return seen


def _seen(entry: Entry, services: set[str], now: datetime) -> Seen:
    wrong, gone = [], ""
    username, service = entry["uid"].lower(), entry["departmentNumber"]
    if not entry["entryUUID"]:
        wrong.append("Sans entryUUID : le compte de lecture n'a pas ce droit.")
    if not username:
        wrong.append("Sans identifiant (uid).")
    elif not _UID.match(username):
        wrong.append(f"Identifiant « {username[:40]} » : lettres sans accent, chiffres et . _ - seulement.")
    try:
        gone = why_gone(entry, now)
    except ValueError as error:
        wrong.append(f"Date de fin : {error}.")
    if entry["mail"]:
        try:
            validate_email(entry["mail"])
        except ValidationError:
            wrong.append(f"« {entry['mail'][:60]} » n'est pas une adresse.")
    if service and service not in services:
        wrong.append(f"Service « {service[:30]} » inconnu au dictionnaire.")
    return Seen(
        entry,
        entry["entryUUID"],
        username,
        entry["sn"][:150],
        entry["givenName"][:150],
        entry["mail"][:254],
        service,
        entry["title"][:100],
        gone,
        " ".join(wrong),
    )
