"""An imaginary directory: agents and groups as LDIF, for tests and for the lab. The same seed gives the same people."""

import random
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterator

from django.utils import timezone

from sias.directory.models import GroupRule
from sias.socle.organisation import services
from sias.socle.text import normalise

LAST = (  # noqa: SIM905 - a list of forty lines says no more
    "Muller Schmitt Weber Klein Schneider Wagner Becker Hoffmann Meyer Kieffer Thill Reuter Jacob Antoine "
    "Mangin Collignon Humbert Pierron Marchal Thomas Simon Laurent Petitjean Bastien Vautrin Noël Gérard "
    "Masson Rémy Bour Kirsch Steinmetz Hamann Fischer Bauer Kremer Schaeffer Gangloff Ney Bettinger"
).split()
FIRST = (  # noqa: SIM905 - a list of forty lines says no more
    "Camille Dominique Claude Élise Nadia Sophie Julie Marie Hélène Lucie Sarah Inès Zoé Anaïs Chloé Manon "
    "Laure Agnès Thomas Nicolas Julien Mehdi Paul Hugo Louis Karim Bruno Éric Marc Denis Yann Loïc"
).split()
# Group -> (share of the agents, profile, territory, service) as the demonstration's table has it.
GROUPS = {
    "sias-travailleurs-sociaux": (0.55, "TS", "*", ""),
    "sias-secretaires": (0.2, "ST", "*", ""),
    "sias-pmi": (0.12, "PM", "57", ""),
    "sias-ecoutants-115": (0.08, "EC", "57", ""),
    "sias-finances": (0.05, "AF", "57", ""),
}
FUNCTIONS = {
    "TS": "assistant social",
    "ST": "secrétaire",
    "PM": "puéricultrice",
    "EC": "écoutant",
    "AF": "gestionnaire",
}


def agents(count: int, seed: int = 57) -> Iterator[dict[str, str]]:
    """Yield agents: attributes of their entries, and the group each is in."""
    rng = random.Random(f"annuaire {seed}")  # noqa: S311 - imaginary people
    units = [code for code, _kind, _parent, _name, territory in services() if territory]
    names, weights = list(GROUPS), [share for share, *_ in GROUPS.values()]
    taken: dict[str, int] = defaultdict(int)
    for _ in range(count):
        last, first = rng.choice(LAST), rng.choice(FIRST)
        group = rng.choices(names, weights)[0]
        stem = f"{normalise(first)[0]}{normalise(last).replace(' ', '')}".lower()
        taken[stem] += 1
        uid = stem if taken[stem] == 1 else f"{stem}{taken[stem]}"
        yield {
            "uid": uid,
            "sn": last,
            "givenName": first,
            "cn": f"{first} {last}",
            "mail": f"{uid}@moselle.example",
            "departmentNumber": rng.choice(units),
            "title": FUNCTIONS[GROUPS[group][1]],
            "employeeType": "titulaire",
            "group": group,
        }


def ldif(count: int, base: str, *, seed: int = 57, password: str = "") -> Iterator[str]:
    """Yield the lines of an LDIF: agents below ou=agents, groups below ou=groups. `password` is a hash for all."""
    members: dict[str, list[str]] = defaultdict(list)
    for agent in agents(count, seed):
        name = f"uid={agent['uid']},ou=agents,{base}"
        members[agent.pop("group")].append(name)
        yield f"dn: {name}"
        yield "objectClass: inetOrgPerson"
        for attribute, text in agent.items():
            yield _line(attribute, text)
        if password:
            yield _line("userPassword", password)
        yield ""
    for group, names in members.items():
        yield f"dn: cn={group},ou=groups,{base}"
        yield "objectClass: groupOfNames"
        yield f"cn: {group}"
        yield from (f"member: {name}" for name in names)
        yield ""


def rules() -> bool:
    """Give each of these groups its rights, as an installation does; tell whether any lacked them."""
    made = False
    for group, (_share, profile, territory, service) in GROUPS.items():
        wanted = {"group": group, "profile": profile, "territory": territory, "service": service}
        made = GroupRule.objects.get_or_create(**wanted, defaults={"validated_at": timezone.now()})[1] or made
    return made


def _line(attribute: str, text: str) -> str:
    if text.isascii() and text[:1] not in {" ", ":", "<"}:
        return f"{attribute}: {text}"
    return f"{attribute}:: {b64encode(text.encode()).decode()}"
