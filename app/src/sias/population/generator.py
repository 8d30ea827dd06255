"""A population, household by household, as rows for COPY. The same seed gives the same bytes, on any machine.

The work is cut into a fixed number of shards, each with its own random stream and its own range of identifiers and NIR
order numbers, so that processes need not talk to each other and their number changes nothing.
"""

import random
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from itertools import accumulate

from sias.population import pool
from sias.repertoire import nir
from sias.repertoire.names import street
from sias.socle import geography
from sias.socle.text import compact

SHARDS = 32
ORDERS = 999 // SHARDS  # NIR order numbers of a shard, per sex, month and town
TODAY = date(2026, 1, 1)  # ages are counted on this day whatever the day of the load
STAMP = "2026-01-01 08:00:00+01"
ADULT = 18
PERSON_COLUMNS = (
    "id",
    "number",
    "birth_name",
    "usage_name",
    "first_names",
    "sex",
    "birth_date",
    "birth_place",
    "address",
    "postal_code",
    "commune_id",
    "phone",
    "email",
    "nir_encrypted",
    "nir_index",
    "birth_norm",
    "usage_norm",
    "first_norm",
    "address_norm",
    "version",
    "created_at",
    "updated_at",
)
HOUSEHOLD_COLUMNS = ("id", "number", "created_at")
MEMBERSHIP_COLUMNS = ("person_id", "household_id", "role", "since", "until")
# Kinds of households and their shares (INSEE's order of magnitude for the département).
KINDS = ("single", "couple", "family", "lone parent", "others")
KIND_WEIGHTS = list(accumulate((36, 27, 24, 9, 4)))
MARRIED_NAME = ((1950, 0.95), (1970, 0.85), (1990, 0.6), (2100, 0.35))  # born before -> takes the husband's name

# Chances, orders of magnitude.
EVEN = 0.5
DOUBLE_NAME = 0.02  # KLEIN-MULLER
FROM_ELSEWHERE = 0.09  # first name that a family brought with it
OTHER_DECADE = 0.12  # fashions overlap
FIRST_DECADE, LAST_DECADE = 1920, 2020
SECOND_NAME = 0.55  # second first name
BORN_IN_A_VILLAGE = 0.22  # else in a town with a maternity ward, or abroad
NIR_UNKNOWN = 0.03
HAS_PHONE, LANDLINE, NEW_MOBILE, HAS_EMAIL = 0.85, 0.35, 0.3, 0.4
THIRD_ADULT = 0.3  # of households of unrelated adults
WIDOW, WIDOWS_BORN_BEFORE = 0.6, 1960  # a woman alone who bears a husband's name
MOVED_OUT, MOST_FORMER = 0.06, 2000  # adults whose former household is known; households kept to choose from
ALONE_AND_OLD, WOMEN_ALONE_OLD, WOMEN_ALONE = 0.45, 0.7, 0.45
LONE_MOTHERS, GIRLS_BORN = 0.84, 0.49


@dataclass
class Shard:
    """Rows of a shard, as COPY's text format wants them."""

    persons: bytes
    households: bytes
    memberships: bytes
    count: int
    last_names: Counter
    first_names: Counter


@cache
def _communes() -> tuple[list[geography.Place], list[int]]:
    found = geography.inhabited()
    return found, list(accumulate(place.population for place in found))


@cache
def _zipf(size: int) -> list[float]:
    return list(accumulate(1 / (rank + 2) for rank in range(size)))


_compacted: dict[str, str] = {}


def _compact(name: str) -> str:
    known = _compacted.get(name)
    if known is None:
        known = _compacted[name] = compact(name)
    return known


def shard_sizes(persons: int) -> list[int]:
    """Return how many persons each shard makes; their sum is `persons`."""
    base, rest = divmod(persons, SHARDS)
    return [base + (index < rest) for index in range(SHARDS)]


class _Maker:
    """State of one shard."""

    def __init__(self, seed: int, index: int, first_id: int) -> None:
        self.random = random.Random(f"sias population {seed} {index}")  # noqa: S311 - not a secret
        self.draw = self.random.random
        self.index = index
        self.next_person = first_id
        self.next_household = first_id  # never more households than persons
        self.orders: dict[tuple, int] = {}
        self.persons: list[str] = []
        self.households: list[str] = []
        self.memberships: list[str] = []
        self.last_names: Counter = Counter()
        self.first_names: Counter = Counter()
        self.left: list[int] = []  # households that grown children may have left

    def pick(self, items, cumulated):
        return items[bisect(cumulated, self.draw() * cumulated[-1])]

    def between(self, low: float, high: float) -> float:
        return low + self.draw() * (high - low)

    def surname(self) -> str:
        names, weights = pool.surnames()
        name = self.pick(names, weights)
        if self.draw() < DOUBLE_NAME:
            other = self.pick(names, weights)
            if other != name:
                return f"{name}-{other}"
        return name

    def first(self, sex: str, year: int) -> str:
        if self.draw() < FROM_ELSEWHERE:
            names = pool.first_names_elsewhere(sex)
            return names[int(self.draw() * len(names))]
        decade = year // 10 * 10
        if self.draw() < OTHER_DECADE:
            decade += 10 if self.draw() < EVEN else -10
        names = pool.first_names(sex)[min(max(decade, FIRST_DECADE), LAST_DECADE)]
        return self.pick(names, _zipf(len(names)))

    def born(self, low: float, high: float) -> date:
        """Return the birth date of someone between `low` and `high` years old."""
        return TODAY - timedelta(days=1 + int(self.between(low, high) * 365.25))

    def national(self, sex: str, born: date) -> tuple[str, str]:
        """Return a NIR that no other person has (13 characters and key), and the place of birth in words."""
        for _ in range(50):
            if self.draw() < BORN_IN_A_VILLAGE:
                place = self.pick(*_communes())
                code, name = place.code, place.name
            else:
                code, name = self.pick(*pool.birth_towns())
            cell = (sex, born.year % 100, born.month, code)
            order = self.orders.get(cell, 0)
            if order < ORDERS:
                self.orders[cell] = order + 1
                number = (
                    f"{2 if sex == 'F' else 1}{born.year % 100:02d}{born.month:02d}{code}"
                    f"{self.index * ORDERS + order + 1:03d}"
                )
                return f"{number}{nir.key(number):02d}", name
        return "", name

    def person(self, home: tuple, sex: str, born: date, birth_name: str, usage_name: str = "") -> int:
        """Add a person and return the identifier."""
        identity = self.next_person
        self.next_person += 1
        first = self.first(sex, born.year)
        firsts = first
        if self.draw() < SECOND_NAME:
            second = self.first(sex, born.year - 25)
            if second != first:
                firsts = f"{first} {second}"
        number, birthplace = self.national(sex, born)
        if self.draw() < NIR_UNKNOWN:
            number = ""
        adult = born.year < TODAY.year - ADULT
        phone = email = ""
        if adult and self.draw() < HAS_PHONE:
            digits = int(self.draw() * 1_000_000)
            phone = (
                f"0387{digits:06d}"
                if self.draw() < LANDLINE
                else f"0{6 + (self.draw() < NEW_MOBILE)}{int(self.draw() * 100):02d}{digits:06d}"
            )
        if adult and self.draw() < HAS_EMAIL:
            email = (
                f"{_compact(first).lower()}.{_compact(usage_name or birth_name).lower()}{identity % 1000}@example.org"
            )
        birth_norm, usage_norm, first_norm = _compact(birth_name), _compact(usage_name), _compact(first)
        self.last_names[birth_norm] += 1
        if usage_norm:
            self.last_names[usage_norm] += 1
        self.first_names[first_norm] += 1
        secret, index = (
            (r"\\x" + nir.encrypt(number).hex(), r"\\x" + nir.blind_index(number).hex()) if number else (r"\N", r"\N")
        )
        address, postal_code, commune = home
        self.persons.append(
            f"{identity}\tP{identity:08d}\t{birth_name}\t{usage_name}\t{firsts}\t{sex}\t{born}\t{birthplace}\t{address}\t"
            f"{postal_code}\t{commune}\t{phone}\t{email}\t{secret}\t{index}\t{birth_norm}\t{usage_norm}\t{first_norm}\t{street(address)}\t1\t"
            f"{STAMP}\t{STAMP}\n"
        )
        return identity

    def member(self, person: int, household: int, role: str, since: date, until: date | None = None) -> None:
        self.memberships.append(f"{person}\t{household}\t{role}\t{since}\t{until or chr(92) + 'N'}\n")

    def household(self, room: int) -> int:
        """Add a household of at most `room` persons; return how many it has."""
        before = self.next_person
        identity = self.next_household
        self.next_household += 1
        self.households.append(f"{identity}\tF{identity:08d}\t{STAMP}\n")
        place = self.pick(*_communes())
        home = (
            f"{1 + int(self.draw() ** 2 * 120)} {self.street()}",
            place.postal_codes[int(self.draw() * len(place.postal_codes))],
            place.code,
        )
        kind = self.pick(KINDS, KIND_WEIGHTS)
        if room == 1:
            kind = "single"
        if kind == "single":
            self.alone(identity, home)
        elif kind in {"couple", "family"}:
            self.couple(identity, home, children=min(room - 2, self.children()) if kind == "family" else 0)
        elif kind == "lone parent":
            self.lone_parent(identity, home, min(room - 1, self.children()))
        else:
            for _ in range(min(room, 2 + (self.draw() < THIRD_ADULT))):
                self.adult(identity, home, self.born(19, 80))
        return self.next_person - before

    def street(self) -> str:
        streets = pool.data()["streets"]
        return streets[int(self.draw() * len(streets))]

    def children(self) -> int:
        return self.pick((1, 2, 3, 4, 5), (40, 80, 94, 98, 100))

    def adult(self, household: int, home: tuple, born: date, sex: str = "") -> None:
        sex = sex or ("F" if self.draw() < EVEN else "M")
        name = self.surname()
        usage = self.surname() if sex == "F" and born.year < WIDOWS_BORN_BEFORE and self.draw() < WIDOW else ""
        person = self.person(home, sex, born, name, usage if usage != name else "")
        self.settle(person, household, born)

    def settle(self, person: int, household: int, born: date) -> None:
        """Put an adult into the household; some came from another, which they left as a young adult."""
        grown = born + timedelta(days=int(self.between(18.2, 26) * 365.25))
        since = max(born, min(grown, TODAY - timedelta(days=30)))
        if self.left and since > born and self.draw() < MOVED_OUT:
            former = self.left[int(self.draw() * len(self.left))]
            self.member(person, former, "E", born, since)
        self.member(person, household, "A", since)

    def alone(self, household: int, home: tuple) -> None:
        old = self.draw() < ALONE_AND_OLD
        sex = "F" if self.draw() < (WOMEN_ALONE_OLD if old else WOMEN_ALONE) else "M"
        self.adult(household, home, self.born(66, 99) if old else self.born(18.1, 66), sex)

    def couple(self, household: int, home: tuple, children: int) -> None:
        his_birth = self.born(26, 54) if children else self.born(21, 92)
        hers = his_birth + timedelta(days=int(self.between(-3, 6) * 365.25))
        her_birth = min(hers, TODAY - timedelta(days=int(19 * 365.25)))
        his_name, her_name = self.surname(), self.surname()
        chance = next(share for year, share in MARRIED_NAME if her_birth.year < year)
        usage = his_name if her_name != his_name and self.draw() < chance else ""
        together = max(his_birth, her_birth) + timedelta(days=int(19 * 365.25))
        together = min(together + timedelta(days=int(self.between(0, 10) * 365.25)), TODAY - timedelta(days=30))
        self.member(self.person(home, "M", his_birth, his_name), household, "A", together)
        self.member(self.person(home, "F", her_birth, her_name, usage), household, "A", together)
        self.kids(household, home, her_birth, his_name, children)

    def lone_parent(self, household: int, home: tuple, children: int) -> None:
        sex = "F" if self.draw() < LONE_MOTHERS else "M"
        born = self.born(22, 55)
        name = self.surname()
        self.settle(self.person(home, sex, born, name), household, born)
        kids_name = name if sex == "M" or self.draw() < EVEN else self.surname()
        self.kids(household, home, born, kids_name, children)

    def kids(self, household: int, home: tuple, mother: date, name: str, count: int) -> None:
        oldest = min(24.0, max(0.2, (TODAY - mother).days / 365.25 - 19))
        for _ in range(max(count, 0)):
            born = self.born(0, oldest)
            role = "E" if born.year >= TODAY.year - ADULT else "A"
            person = self.person(home, "F" if self.draw() < GIRLS_BORN else "M", born, name)
            self.member(person, household, role, born)
        if count > 0 and len(self.left) < MOST_FORMER:
            self.left.append(household)


def make_shard(task: tuple[int, int, int, int]) -> Shard:
    """Make a shard; the task is (seed, index, identifier of its first person, number of persons)."""
    seed, index, first_id, count = task
    maker = _Maker(seed, index, first_id)
    left = count
    while left > 0:
        left -= maker.household(left)
    return Shard(
        "".join(maker.persons).encode(),
        "".join(maker.households).encode(),
        "".join(maker.memberships).encode(),
        count,
        maker.last_names,
        maker.first_names,
    )


def tasks(persons: int, seed: int) -> list[tuple[int, int, int, int]]:
    """Return the shards to make, in order."""
    found, first = [], 1
    for index, size in enumerate(shard_sizes(persons)):
        found.append((seed, index, first, size))
        first += size
    return found


def shards(persons: int, seed: int) -> Iterator[Shard]:
    """Make every shard in this process, in order."""
    for task in tasks(persons, seed):
        yield make_shard(task)
