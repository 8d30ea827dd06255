"""The communes as shipped: the table's source, and what forms use without asking the database."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from sias.socle.text import normalise


@dataclass(frozen=True, slots=True)
class Place:
    """A commune."""

    code: str
    name: str
    kind: str
    postal_codes: tuple[str, ...]
    population: int
    parent: str
    arrondissement: str
    epci: str
    epci_name: str

    @property
    def label(self) -> str:
        """Name and first postal code, as forms show it."""
        return f"{self.name} ({self.postal_codes[0]})" if self.postal_codes else self.name


@cache
def source() -> dict:
    """Return the shipped file: `provenance` and `communes`."""
    text = resources.files("sias.socle").joinpath("data/moselle.json").read_text(encoding="utf-8")
    return json.loads(text)


@cache
def places() -> dict[str, Place]:
    """Return every commune by INSEE code, in order of name."""
    found = [Place(**{**row, "postal_codes": tuple(row["postal_codes"])}) for row in source()["communes"]]
    return {place.code: place for place in sorted(found, key=lambda place: normalise(place.name))}


def inhabited() -> list[Place]:
    """Return the communes of today, without those merged into another."""
    return [place for place in places().values() if place.kind == "commune-actuelle"]


@cache
def _by_text() -> dict[str, str]:
    known: dict[str, str] = {}
    for place in places().values():
        known.setdefault(normalise(place.name), place.code)
        known[normalise(place.label)] = place.code
        known[place.code] = place.code
    return known


def find(text: str) -> Place | None:
    """Return the commune meant by a name, a label or an INSEE code; an unambiguous beginning of a name is enough."""
    wanted = normalise(text)
    if not wanted:
        return None
    code = _by_text().get(wanted)
    if code is None:
        starting = [place for place in inhabited() if normalise(place.name).startswith(wanted)]
        code = starting[0].code if len(starting) == 1 else None
    return places()[code] if code else None
