"""The department's organisation as shipped: territories, sectors, services (see data/organisation.toml)."""

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources

from sias.socle.geography import places

DEPARTMENT = ("57", "departement", "Moselle")


@cache
def _source() -> dict:
    return tomllib.loads(resources.files("sias.socle").joinpath("data/organisation.toml").read_text(encoding="utf-8"))


def territories() -> list[tuple[str, str, str]]:
    """Return (code, kind, name): the department, its UTAS, its EPCI."""
    epci = {place.epci: place.epci_name for place in places().values() if place.epci}
    return [
        DEPARTMENT,
        *((row["code"], "utas", row["name"]) for row in _source()["utas"]),
        *((f"EPCI-{code}", "epci", name) for code, name in sorted(epci.items())),
    ]


def sectors() -> Iterator[tuple[str, str]]:
    """Yield (territory, commune); a merged commune follows the one that took it in."""
    known = places()
    for place in known.values():
        home = known.get(place.parent, place) if place.parent else place
        yield f"EPCI-{home.epci}", place.code
        for row in _source()["utas"]:
            if home.code in row.get("communes", ()) or home.epci in row.get("epci", ()):
                yield row["code"], place.code


def services() -> Iterator[tuple[str, str, str, str, str]]:
    """Yield (code, kind, parent, name, territory)."""
    for code, (kind, parent, name) in _source()["services"].items():
        yield code, kind, parent, name, ""
    for row in _source()["utas"]:
        yield row["code"], "UTAS", "DUTAS", f"UTAS de {row['name']}", row["code"]
        yield f"PMI-{row['code']}", "PMI", "DPMI", f"PMI de l'UTAS de {row['name']}", row["code"]
