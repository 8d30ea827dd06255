"""The primary's room loses its power under load, on the lab."""

from __future__ import annotations

import pytest

from siasops.drill.run import run
from siasops.drill.verdict import Result
from siasops.inventory import Inventory

pytestmark = [pytest.mark.lab, pytest.mark.drill]


@pytest.fixture(scope="module")
def result(lab: Inventory) -> Result:
    found = run(lab, "room-loss")
    print(f"\n{found.run}: {found.verdict}\n{found.figures}")
    return found


def test_no_acknowledged_write_is_lost_when_the_primarys_room_dies(result: Result) -> None:
    assert result.findings == []
    assert result.figures["writes_acknowledged"] > 250
    assert result.figures["writes_lost"] == 0
    assert result.figures["duplicates"] == 0
    assert len(result.figures["nodes_read"]) >= 2


def test_the_other_room_leads_on_the_next_timeline(result: Result, inventory: Inventory) -> None:
    (lost,) = {inventory.hosts[name].room for name in result.plan["hosts"]}
    assert inventory.hosts[result.terms[0].node].room == lost
    assert inventory.hosts[result.terms[1].node].room != lost
    assert result.terms[1].timeline > result.terms[0].timeline


def test_users_of_both_rooms_write_and_read_again_in_time(result: Result, inventory: Inventory) -> None:
    assert 0 < result.figures["write_gap"] <= inventory.objectives["drills"]["room_loss"]["write_gap"]
    assert 0 < result.figures["read_gap"] <= inventory.objectives["drills"]["room_loss"]["read_gap"]
    assert all(gap is not None for gap in result.figures["write_gap_by_room"].values())


def test_no_document_is_lost_when_the_primarys_room_dies(result: Result) -> None:
    assert result.figures["documents_acknowledged"] > 8
    assert result.figures["documents_lost"] == 0


def test_both_rooms_hold_everything_again_in_time(result: Result, inventory: Inventory) -> None:
    assert result.figures["redundancy_back"] <= inventory.objectives["drills"]["room_loss"]["redundancy_back"]


def test_the_load_was_really_offered_and_every_promise_held(result: Result) -> None:
    assert result.valid
    assert [promise for promise in result.promises if not promise.held] == []
    assert result.seconds <= 240
