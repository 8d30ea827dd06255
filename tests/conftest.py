"""What every test of the platform shares: the facts, and a lab that stands."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from siasops import inventory as facts
from siasops import remote
from siasops.cluster import instance
from siasops.console import Progress
from siasops.drill.faults import Stage
from siasops.drill.run import converge
from siasops.inventory import ROOT, Inventory

LAB_DEADLINE_S = 20 * 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by folder, cheap tests first, drills last: a broken template is told before a room is lost."""
    order = ["consistency", "unit", "templates", "infra", "drills", "changes"]
    for item in items:
        folder = Path(item.path).relative_to(ROOT / "tests").parts[0]
        if folder in {"infra", "drills", "changes"}:
            item.add_marker(pytest.mark.lab)
        if folder == "drills":
            item.add_marker(pytest.mark.drill)
    items.sort(key=lambda item: order.index(Path(item.path).relative_to(ROOT / "tests").parts[0]))


@pytest.fixture(scope="session")
def inventory() -> Inventory:
    """The environment under test (`SIAS_INVENTORY`, else the lab)."""
    return facts.load()


@pytest.fixture(scope="session")
def lab(inventory: Inventory, request: pytest.FixtureRequest) -> Inventory:
    """A deployed lab: built from nothing, or brought to what the playbooks say, whatever stood there before."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        sys.stderr.write("\n== sias lab up\n")
        began = time.monotonic()
        done = subprocess.run(
            [str(Path(sys.executable).parent / "sias"), "lab", "up"], cwd=ROOT, timeout=LAB_DEADLINE_S, check=False
        )
        sys.stderr.write(f"== sias lab up: exit {done.returncode} after {time.monotonic() - began:.0f} s\n")
    assert done.returncode == 0, "the lab did not come up; its output stands above"
    with remote.connect(inventory) as fleet:
        instance.learn(inventory, fleet)
    return inventory


@pytest.fixture
def stage(lab: Inventory) -> Iterator[Stage]:
    """A healthy cluster, connected; healthy again afterwards."""
    with remote.connect(lab) as fleet:
        made = Stage(lab, fleet)
        converge(made, Progress())
        yield made
        converge(made, Progress())
