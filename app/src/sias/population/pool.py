"""Names and addresses of the region to draw from (data/names.json).

Surnames follow a Zipf law over a pool of Germanic, French, Italian, Polish, Portuguese, Turkish and Maghrebi names, the
common ones first, then forms composed from roots and endings, then other spellings of these: a few tens of thousands of
distinct names in a million persons, as a real registry has.
"""

import json
from functools import cache
from importlib import resources
from itertools import accumulate, product

from sias.socle.text import compact

# Spellings of the same name that clerks wrote down differently.
SPELLINGS = (
    ("TZ", "Z"),
    ("CK", "K"),
    ("EI", "EY"),
    ("AI", "AY"),
    ("SS", "S"),
    ("LL", "L"),
    ("TH", "T"),
    ("MANN", "MAN"),
    ("K", "CK"),
    ("I", "Y"),
)
ZIPF_EXPONENT, ZIPF_OFFSET = 0.85, 8


@cache
def data() -> dict:
    """Return the names and streets as shipped."""
    return json.loads(resources.files("sias.population").joinpath("data/names.json").read_text(encoding="utf-8"))


@cache
def surnames() -> tuple[list[str], list[float]]:
    """Return the distinct surnames, common ones first, and their cumulative Zipf weights."""
    pool = data()
    composed = [
        root + ending for family in pool["composed"] for root, ending in product(family["roots"], family["endings"])
    ]
    composed += [f"{first} {second}" for first, second in product(pool["iberian_pairs"], repeat=2) if first != second]
    composed.sort(key=_scatter)  # spreads the origins over the ranks, in an order that depends only on the names
    spelled = [
        name[0] + name[1:].replace(old, new, 1) for name in composed for old, new in SPELLINGS if old in name[1:]
    ]
    distinct: dict[str, str] = {}
    for name in (*pool["common"], *composed, *spelled):
        distinct.setdefault(compact(name), name)
    names = list(distinct.values())
    return names, list(accumulate(1 / (rank + ZIPF_OFFSET) ** ZIPF_EXPONENT for rank in range(len(names))))


@cache
def first_names(sex: str) -> dict[int, list[str]]:
    """Return the first names of a sex by decade of birth, the commonest first."""
    return {int(decade): names for decade, names in data()["girls" if sex == "F" else "boys"].items()}


@cache
def first_names_elsewhere(sex: str) -> list[str]:
    """Return first names that families brought with them, whatever the decade."""
    return data()["girls_elsewhere" if sex == "F" else "boys_elsewhere"]


@cache
def birth_towns() -> tuple[list[tuple[str, str]], list[int]]:
    """Return towns where people are born (INSEE code, name), and their cumulative weights.

    Most births of the Moselle happen in its maternity wards.
    """
    towns = data()["birth_towns"]
    return [(code, name) for code, name, _weight in towns], list(accumulate(weight for *_, weight in towns))


def _scatter(name: str) -> int:
    """FNV-1a: the same on every machine, unlike hash()."""
    value = 2166136261
    for letter in name.encode():
        value = ((value ^ letter) * 16777619) & 0xFFFFFFFF
    return value
