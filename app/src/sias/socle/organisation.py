"""The department's organisation as shipped: territories, sectors, services (see data/), budget nomenclature."""

import json
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources

from sias.socle.geography import places

DEPARTMENT = ("57", "departement", "Moselle")


def _data(name: str) -> str:
    return resources.files("sias.socle").joinpath(f"data/{name}").read_text(encoding="utf-8")


@cache
def _source() -> dict:
    return tomllib.loads(_data("organisation.toml"))


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


def cantons() -> list[tuple[str, str, list[str]]]:
    """Return (code, name, communes) of the cantons of 2015.

    Metz and Thionville lie in several: no canton has them, as a person's commune does not tell which.
    """
    rows = json.loads(_data("cantons.json"))["cantons"]
    return [(f"CANTON-{row['code']}", row["name"], row["communes"]) for row in rows]


def nomenclature() -> Iterator[tuple[str, str, str, str]]:
    """Yield (axis, code, line above, label)."""
    for axis, lines in tomllib.loads(_data("nomenclature.toml")).items():
        for code, label in lines.items():
            above = [other for other in lines if other != code and code.startswith(other)]
            yield axis, code, max(above, key=len, default=""), label
