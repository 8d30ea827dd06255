"""A planned switchover under load, on the lab: everyone waits, nobody fails."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from siasops import remote
from siasops.cluster import switchover
from siasops.cluster.view import look
from siasops.console import Progress
from siasops.drill.checker import longest_gap
from siasops.drill.faults import Stage
from siasops.drill.history import History, Outcome, load
from siasops.drill.run import converge
from siasops.drill.workers import Workers
from siasops.inventory import Inventory

pytestmark = [pytest.mark.lab, pytest.mark.drill]


@dataclass
class Switched:
    """A switchover and what its users saw."""

    switch: switchover.Switch
    history: History
    began: float
    ended: float


@pytest.fixture(scope="module")
def switched(lab: Inventory, tmp_path_factory: pytest.TempPathFactory) -> Switched:
    folder = tmp_path_factory.mktemp("switchover")
    with remote.connect(lab) as fleet:
        converge(Stage(lab, fleet), Progress())
        leader = look(lab, fleet).leader
    assert leader is not None
    room = next(letter for letter in lab.rooms if letter != leader.room)
    workers = Workers(lab, "switchover", folder)
    try:
        workers.start("ledger", "prober")
        workers.wait_ready(30)
        time.sleep(5)
        began = time.monotonic()
        switch = switchover.run(lab, room, dry=False, progress=Progress())
        ended = time.monotonic()
        time.sleep(3)
    finally:
        workers.stop()
    return Switched(switch, load(folder), began, ended)


def test_the_primary_stands_in_the_room(switched: Switched, inventory: Inventory) -> None:
    assert switched.switch.held
    assert switched.switch.after is not None
    assert inventory.hosts[switched.switch.after].room == switched.switch.room


def test_no_writer_sees_an_error(switched: Switched) -> None:
    outcomes = [op for op in switched.history.ledger if op.outcome is not Outcome.OK]
    assert outcomes == []
    assert len({op.node for op in switched.history.ledger}) == 2


def test_no_request_fails(switched: Switched) -> None:
    assert [request for request in switched.history.http if not request.ok] == []
    assert len(switched.history.http) > 100


def test_writers_wait_no_longer_than_promised(switched: Switched, inventory: Inventory) -> None:
    gap = longest_gap([op.ended or 0.0 for op in switched.history.ledger], switched.began, switched.ended)
    assert gap is not None
    print(f"\nwriters waited {gap.seconds:.2f} s")
    assert gap.seconds <= inventory.objectives["write_gap"]["switchover"]
