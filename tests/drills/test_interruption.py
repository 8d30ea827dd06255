"""A drill that is stopped half-way leaves nothing broken: Ctrl-C heals, and a fresh process heals after kill -9."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from siasops import remote
from siasops.cluster.check import check
from siasops.cluster.view import look
from siasops.console import Progress
from siasops.drill import active, campaign
from siasops.drill.faults import Stage
from siasops.drill.run import converge, heal
from siasops.errors import COULD_NOT_RUN
from siasops.inventory import Inventory
from siasops.lab.provider import provider

pytestmark = [pytest.mark.lab, pytest.mark.drill]


def start(log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `sias drill` in a process of its own, as a user does, and wait until its fault is in force."""
    # Whoever starts these tests in the background may have them ignore Ctrl-C, and children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "siasops.cli", "drill", *arguments],
            stderr=file,
            stdout=file,
            start_new_session=True,
        )
    end = time.monotonic() + 90
    while "Hold until" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)
    return process


def no_go(inventory: Inventory) -> list[str]:
    with remote.connect(inventory) as fleet:
        return [f"{line.what}: {line.found}" for line in check(look(inventory, fleet)) if not line.ok]


@pytest.fixture(autouse=True)
def whole(lab: Inventory) -> None:
    with remote.connect(lab) as fleet:
        converge(Stage(lab, fleet), Progress())


def test_ctrl_c_heals_at_once_and_waits_until_all_is_as_before(inventory: Inventory, tmp_path: Path) -> None:
    process = start(tmp_path / "log", "run", "primary-crash")
    process.send_signal(signal.SIGINT)
    assert process.wait(200) == COULD_NOT_RUN, (tmp_path / "log").read_text()
    assert "interrupted" in (tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert active.read(inventory) is None
    assert no_go(inventory) == []


def test_a_fresh_process_heals_what_a_killed_drill_left_without_power(inventory: Inventory, tmp_path: Path) -> None:
    process = start(tmp_path / "log", "run", "room-loss")
    process.kill()
    process.wait()
    left = active.read(inventory)
    assert left is not None
    assert left.name == "room-loss"
    up = provider(inventory).running()
    assert not any(up[host] for host in left.plan["hosts"])
    assert "room-loss" in heal(inventory, Progress())
    assert active.read(inventory) is None
    assert all(provider(inventory).running().values())
    assert no_go(inventory) == []


@pytest.mark.long
def test_a_campaign_that_was_killed_heals_and_goes_on(inventory: Inventory, tmp_path: Path) -> None:
    process = start(tmp_path / "log", "campaign", "patroni-stop", "pgbouncer-kill", "--runs", "1")
    process.kill()
    process.wait()
    folder = campaign.find(inventory)
    before = campaign.done(folder)
    assert len(before) < 2
    done = subprocess.run(
        [sys.executable, "-m", "siasops.cli", "drill", "campaign", "--resume", folder.name, "--json"],
        stdout=subprocess.PIPE, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert [run["drill"] for run in json.loads(done.stdout)["runs"]] == campaign.read(folder).order
    assert campaign.done(folder)[: len(before)] == before
    assert campaign.left(folder) == []
    assert active.read(inventory) is None
    assert no_go(inventory) == []
