"""The lab that drills break: it must be whole before each test, and is left whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from siasops import remote
from siasops.console import Progress
from siasops.drill.faults import Stage
from siasops.drill.run import converge
from siasops.inventory import Inventory


@pytest.fixture
def stage(lab: Inventory) -> Iterator[Stage]:
    """A healthy cluster, connected; healthy again afterwards."""
    with remote.connect(lab) as fleet:
        made = Stage(lab, fleet)
        converge(made, Progress())
        yield made
        converge(made, Progress())
