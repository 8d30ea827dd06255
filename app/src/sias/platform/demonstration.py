"""Demonstration data: each module makes its own, in its `demonstration.py`. For imaginary persons only.

@demonstration(order=20)
def make(scene):
scene.agent, scene.persons     # who acts, about whom: two dozen persons of the loaded population
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from django.utils.module_loading import autodiscover_modules


@dataclass
class Scene:
    """What a module may use. The same seed gives the same data."""

    agent: object
    colleague: object
    persons: list
    rng: random.Random = field(default_factory=lambda: random.Random("sias demonstration"))  # noqa: S311


MAKERS: list[tuple[int, Callable[[Scene], None]]] = []


def demonstration(order: int) -> Callable:
    """Register a maker; low orders run first."""

    def add(maker: Callable[[Scene], None]) -> Callable[[Scene], None]:
        MAKERS.append((order, maker))
        return maker

    return add


def play(scene: Scene) -> None:
    """Run every maker, in the caller's transaction."""
    autodiscover_modules("demonstration")
    for _order, maker in sorted(MAKERS, key=lambda row: row[0]):
        maker(scene)
