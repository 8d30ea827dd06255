"""What the workers logged: one line per request, with its intended start. Nothing is aggregated before the verdict."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from siasops.errors import UserError

COLUMNS = ("arrival", "first", "kind", "phase", "room", "intended", "started", "ended", "status", "why", "served_by")
"""Columns of `samples-<worker>.csv`. Times are seconds from the beginning of the run."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. `why` is empty when it was answered as it should; `first`: the first one of its arrival."""

    arrival: int
    first: bool
    kind: str
    phase: str
    room: str
    intended: float
    started: float
    ended: float
    status: int
    why: str
    served_by: str

    @property
    def ok(self) -> bool:
        """Whether it was answered as it should."""
        return not self.why

    @property
    def latency(self) -> float:
        """Seconds from the intended start to the end."""
        return self.ended - self.intended


def read(folder: Path) -> list[Sample]:
    """Read every worker's samples, by intended start.

    Raises:
        UserError: no worker wrote any, or a line is damaged.
    """
    found = []
    for path in sorted(folder.glob("samples-*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                try:
                    found.append(
                        Sample(
                            int(row["arrival"]), row["first"] == "1", row["kind"], row["phase"], row["room"],
                            float(row["intended"]), float(row["started"]), float(row["ended"]),
                            int(row["status"]), row["why"], row["served_by"],
                        )
                    )  # fmt: skip
                except (TypeError, ValueError, KeyError) as error:
                    raise UserError(f"{path}, line {number} is no sample: {error}. The run says nothing.") from error
    if not found:
        raise UserError(f"No request was logged in {folder}: see the workers' *.stderr there.")
    return sorted(found, key=lambda s: (s.intended, s.arrival))


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of them do not exceed; NaN when there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def longest_silence(samples: Sequence[Sample], begin: float, end: float) -> float:
    """Seconds of the longest span without an answer, for these requests, between two moments."""
    moments = [begin, *sorted(s.ended for s in samples if s.ok and begin <= s.ended <= end), end]
    return max(after - before for before, after in pairwise(moments))
