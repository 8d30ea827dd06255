"""Scenarios as checked data: one file each in loadtests/scenarios/, with the question it answers."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from siasops.errors import USAGE, UserError
from siasops.inventory import ROOT, Inventory

FOLDER = ROOT / "loadtests"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Phase(_Part):
    """A span of constant rate. `rate` is a multiple of the peak in objectives.yml, so that one figure rules."""

    name: str = Field(pattern=r"^[a-z0-9 -]+$")
    rate: float = Field(gt=0)
    seconds: float = Field(gt=0)
    judged: bool = True
    """Whether its latencies are compared with the objectives."""


class Scenario(_Part):
    """What is offered, and why."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    question: str = Field(min_length=20)
    expected: str = Field(min_length=20)
    phases: list[Phase] = Field(min_length=1)
    drill: str | None = None
    """A drill of the catalogue to run meanwhile, or `any` when it is named at the call."""
    drill_at: float = Field(default=0.0, ge=0)
    """Seconds after the beginning at which the drill is started."""
    knee: bool = False
    """Whether it looks for the highest phase that holds, instead of asking that all do."""
    seed: int = 57

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.drill and self.drill_at >= self.seconds:
            raise ValueError("the drill would begin after the load has ended")
        if self.knee and [p.rate for p in self.phases] != sorted(p.rate for p in self.phases):
            raise ValueError("the steps to the knee must rise")
        if len({p.name for p in self.phases}) != len(self.phases):
            raise ValueError("two phases have the same name")
        return self

    @property
    def seconds(self) -> float:
        """How long it offers load."""
        return sum(p.seconds for p in self.phases)


@dataclass(frozen=True)
class Site:
    """A place where agents work, its share of the population, and the room whose address it uses."""

    code: str
    name: str
    population: int
    room: str


def names() -> list[str]:
    """Every scenario's name."""
    return sorted(p.stem for p in (FOLDER / "scenarios").glob("*.yml"))


def load(name: str, folder: Path = FOLDER / "scenarios") -> Scenario:
    """Read a scenario.

    Raises:
        UserError: there is none of that name, or its file is wrong; says where.
    """
    path = folder / f"{name}.yml"
    if not path.is_file():
        raise UserError(f"There is no scenario “{name}”. There are: {', '.join(names())}.", USAGE)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Scenario.model_validate({"name": name, **document})
    except yaml.YAMLError as error:
        raise UserError(f"{path} cannot be read as YAML: {error}") from error
    except (ValidationError, TypeError) as error:
        wrong = (
            "; ".join(f"{'/'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
            if isinstance(error, ValidationError)
            else "it holds no keys"
        )
        raise UserError(f"{path.name}: {wrong}.") from None


def sites(inventory: Inventory, path: Path = FOLDER / "sites.csv") -> list[Site]:
    """Read the sites, and give each a home room so that both rooms serve about as many inhabitants."""
    weights = dict.fromkeys(inventory.rooms, 0)
    found = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            room = min(weights, key=lambda r: (weights[r], r))
            weights[room] += int(row["population"])
            found.append(Site(row["code"], row["name"], int(row["population"]), room))
    return found
