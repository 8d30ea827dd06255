"""A run against its baseline, several earlier runs because one is noise; and the same load against growing populations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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

ALIKE = 0.05
"""Populations that differ by a smaller share are of one size: load itself creates persons."""
PARTS = (("p50", "median"), ("p95", "95 %"))
"""Of a kind's figures, those whose growth is shown, and their names."""


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
    if others := sorted({b["scenario"] for b in usable} - {run["scenario"]}):
        raise UserError(f"{run['run']} is a {run['scenario']}; the baseline also holds: {', '.join(others)}.")
    if sizes := sorted({b.get("persons") or 0 for b in usable if not same_size(b, run)}):
        raise UserError(
            f"{run['run']} is of {run.get('persons')} persons; the baseline also holds: {', '.join(map(str, sizes))}."
        )
    if len(usable) < ENOUGH:
        raise UserError(
            f"A baseline needs {ENOUGH} valid runs of {run['scenario']}; there are {len(usable)}. Run it more often."
        )
    return [
        Difference(kind, found["p95"], median(values), max(values))
        for kind, found in run["figures"].items()
        if (values := [b["figures"][kind]["p95"] for b in usable if kind in b["figures"]])
    ]


def same_load(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two runs offered the same load."""
    return (one["scenario"], one["parameters"]) == (other["scenario"], other["parameters"])


def same_size(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two runs met a population of one size (or both another instance, whose population is not known)."""
    few, many = sorted((one.get("persons") or 0, other.get("persons") or 0))
    return many - few <= ALIKE * many


@dataclass(frozen=True)
class Growth:
    """A figure in seconds at each size of the population: the median of the runs there, None where none has it."""

    what: str
    seconds: dict[int, float | None]

    @property
    def factor(self) -> float | None:
        """The largest population's figure as a multiple of the smallest one's."""
        first, last = self.seconds[min(self.seconds)], self.seconds[max(self.seconds)]
        return last / first if first and last is not None else None


def growth(runs: Sequence[dict[str, Any]]) -> list[Growth]:
    """Show what more people cost: median and 95 % of each kind, and processor time per request of each group.

    Args:
        runs: of one scenario with the same parameters; those that say nothing are left out.

    Raises:
        UserError: they differ in more than the population, or hold fewer than two sizes of it.
    """
    usable = [r for r in runs if r["verdict"] != "invalid" and r.get("persons")]
    if others := [r["run"] for r in usable if not same_load(r, usable[0])]:
        raise UserError(
            f"The same load at each size is wanted; other than {usable[0]['run']} are: {', '.join(others)}."
        )
    sizes: dict[int, list[dict[str, Any]]] = {}
    for r in sorted(usable, key=lambda r: r["persons"]):
        size = next((n for n, runs in sizes.items() if same_size(runs[0], r)), r["persons"])
        sizes.setdefault(size, []).append(r)
    if len(sizes) < 2:  # noqa: PLR2004 - growth is from one to another
        raise UserError(
            f"Growth needs valid runs at two populations; there are {len(sizes)}. "
            "`sias data load --persons N --replace`, and the same run again."
        )

    def at_each(what: str, figure: Callable[[dict[str, Any]], float | None]) -> Growth:
        found = {n: [v for r in runs if (v := figure(r)) is not None] for n, runs in sizes.items()}
        return Growth(what, {n: median(values) if values else None for n, values in found.items()})

    def latency(kind: str, key: str) -> Callable[[dict[str, Any]], float | None]:
        return lambda r: r["figures"].get(kind, {}).get(key)

    def cost(group: str) -> Callable[[dict[str, Any]], float | None]:
        return lambda r: r["cost"].get(group)

    requests = dict.fromkeys(kind for r in usable for kind in r["figures"])
    groups = sorted({g for r in usable for g in r["cost"]}, key=lambda g: -usable[0]["cost"].get(g, 0.0))
    return [
        *(at_each(f"{kind}, {word}", latency(kind, key)) for kind in requests for key, word in PARTS),
        *(at_each(f"processor: {group}", cost(group)) for group in groups),
        at_each("processor: all", lambda r: sum(r["cost"].values()) or None),
    ]


def folder_of(inventory: Inventory, run: str) -> Path:
    """Return where a run's files stand."""
    return inventory.var / "load" / run
