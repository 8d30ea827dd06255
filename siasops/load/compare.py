"""A run against its baseline: several earlier runs of the same scenario, because one run is noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from siasops.errors import UserError
from siasops.inventory import Inventory

ENOUGH = 3
"""Runs that a baseline needs."""
MARGIN = 1.1
"""A p95 worse than the worst of the baseline by this factor is a change, not noise."""


@dataclass(frozen=True)
class Difference:
    """One kind: p95 in seconds now, and of the baseline's runs."""

    kind: str
    now: float
    middle: float
    worst: float

    @property
    def worse(self) -> bool:
        """Whether it lies outside what the baseline's own runs differ by."""
        return self.now > self.worst * MARGIN


def past(inventory: Inventory, scenario: str | None = None) -> list[dict[str, Any]]:
    """Return the results of this environment, the latest first."""
    found = []
    for path in sorted((inventory.var / "load").glob("*/result.json"), reverse=True):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["environment"] == inventory.environment and scenario in {None, result["scenario"]}:
            found.append({**result, "folder": str(path.parent)})
    return found


def compare(run: dict[str, Any], baseline: Sequence[dict[str, Any]]) -> list[Difference]:
    """Compare by kind.

    Raises:
        UserError: the baseline is too small, or a run of another scenario or population.
    """
    usable = [b for b in baseline if b["verdict"] != "invalid" and b["run"] != run["run"]]
    others = sorted({b["scenario"] for b in usable} - {run["scenario"]})
    if others:
        raise UserError(f"{run['run']} is a {run['scenario']}; the baseline also holds: {', '.join(others)}.")
    if len(usable) < ENOUGH:
        raise UserError(
            f"A baseline needs {ENOUGH} valid runs of {run['scenario']}; there are {len(usable)}. Run it more often."
        )
    return [
        Difference(kind, found["p95"], median(values), max(values))
        for kind, found in run["figures"].items()
        if (values := [b["figures"][kind]["p95"] for b in usable if kind in b["figures"]])
    ]


def folder_of(inventory: Inventory, run: str) -> Path:
    """Return where a run's files stand."""
    return inventory.var / "load" / run
