"""How people get names wrong: for measuring the search, in tests and by `bench_search`."""

import random
import re
from collections.abc import Callable

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Written as heard: pairs that sound the same in the region, either way.
SOUNDS = (
    ("PH", "F"),
    ("CK", "K"),
    ("SCH", "CH"),
    ("TZ", "Z"),
    ("EI", "AI"),
    ("Y", "I"),
    ("TH", "T"),
    ("W", "V"),
    ("AU", "O"),
    ("DT", "T"),
    ("MM", "M"),
    ("NN", "N"),
    ("LL", "L"),
    ("SS", "S"),
    ("TT", "T"),
    ("K", "C"),
    ("Z", "S"),
    ("EY", "AY"),
)


def _at(rng: random.Random, name: str, last: int = 0) -> int:
    return rng.randrange(len(name) - last)


def wrong_letter(rng: random.Random, name: str) -> str:
    """Replace a letter."""
    place = _at(rng, name)
    return name[:place] + rng.choice(LETTERS.replace(name[place], "")) + name[place + 1 :]


def missing_letter(rng: random.Random, name: str) -> str:
    """Leave a letter out."""
    place = _at(rng, name)
    return name[:place] + name[place + 1 :]


def added_letter(rng: random.Random, name: str) -> str:
    """Add a letter."""
    place = rng.randrange(len(name) + 1)
    return name[:place] + rng.choice(LETTERS) + name[place:]


def swapped_letters(rng: random.Random, name: str) -> str:
    """Exchange two neighbours."""
    place = _at(rng, name, 1)
    return name[:place] + name[place + 1] + name[place] + name[place + 2 :]


def doubled_letter(rng: random.Random, name: str) -> str:
    """Type a letter twice."""
    place = _at(rng, name)
    return name[:place] + name[place] + name[place:]


def as_heard(rng: random.Random, name: str) -> str:
    """Write one sound another way; the name itself when it has none of the known sounds."""
    ways = [
        (written, heard)
        for pair in SOUNDS
        for written, heard in (pair, pair[::-1])
        if written in name
        # Bauer, Klingauer: "au" before a vowel is a diphthong of its own, which nobody writes as "o".
        and not (written == "AU" and re.search("AU[AEIOUY]", name))
    ]
    if not ways:
        return name
    written, heard = rng.choice(ways)
    return name.replace(written, heard, 1)


KINDS: dict[str, Callable[[random.Random, str], str]] = {
    "wrong letter": wrong_letter,
    "missing letter": missing_letter,
    "added letter": added_letter,
    "swapped letters": swapped_letters,
    "doubled letter": doubled_letter,
    "as heard": as_heard,
}


def spoil(rng: random.Random, name: str, kind: str) -> str:
    """Return the compact name with one error of a kind, never the name itself unless the kind cannot touch it."""
    for _ in range(20):
        spoilt = KINDS[kind](rng, name)
        if spoilt != name and len(spoilt) > 1:
            return spoilt
    return name
