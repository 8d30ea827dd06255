"""Every arrival of a run, decided before it starts: users come whether or not earlier ones were answered.

The same seed gives the same arrivals, so that two runs differ by the platform alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Arrival:
    """Somebody who comes. `at`: seconds from the beginning; `draw`: seed of the choices within the journey."""

    number: int
    at: float
    phase: str
    kind: str
    room: str
    site: str
    draw: int


def arrivals(plan: Mapping[str, Any]) -> Iterator[Arrival]:
    """Yield every arrival in order of time.

    Args:
        plan: `seed`; `phases`, each with name, rate (arrivals per second) and seconds; `shares` by kind; `sites`, each
            with code, room and population.
    """
    rng = random.Random(plan["seed"])  # noqa: S311 - a mix of requests, not a secret
    kinds, shares = list(plan["shares"]), list(plan["shares"].values())
    sites: Sequence[Mapping[str, Any]] = plan["sites"]
    weights = [s["population"] for s in sites]
    number, begin = 0, 0.0
    for phase in plan["phases"]:
        end = begin + phase["seconds"]
        # Independent people: the time to the next one is exponential.
        at = begin + rng.expovariate(phase["rate"])
        while at < end:
            site = rng.choices(sites, weights)[0]
            yield Arrival(
                number,
                at,
                phase["name"],
                rng.choices(kinds, shares)[0],
                site["room"],
                site["code"],
                rng.getrandbits(48),
            )
            number += 1
            at += rng.expovariate(phase["rate"])
        begin = end


def mine(plan: Mapping[str, Any], worker: int, workers: int) -> Iterator[Arrival]:
    """Yield the arrivals of one worker: every n-th."""
    return (a for a in arrivals(plan) if a.number % workers == worker)
