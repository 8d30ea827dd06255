"""kill -9 of the primary's postmaster under load, on the lab."""

from __future__ import annotations

import pytest

from siasops.drill.run import run
from siasops.drill.verdict import Result
from siasops.inventory import Inventory

pytestmark = [pytest.mark.lab, pytest.mark.drill]


@pytest.fixture(scope="module")
def result(lab: Inventory) -> Result:
    found = run(lab, "primary-crash")
    print(f"\n{found.run}: {found.verdict}\n{found.figures}")
    return found


def test_no_acknowledged_write_is_lost_when_the_primary_is_killed(result: Result) -> None:
    assert result.findings == []
    assert result.figures["writes_acknowledged"] > 150
    assert result.figures["writes_lost"] == 0
    assert result.figures["duplicates"] == 0
    assert len(result.figures["nodes_read"]) >= 2


def test_another_node_leads_on_the_next_timeline(result: Result) -> None:
    assert len({term.node for term in result.terms}) == 2
    assert result.terms[-1].timeline > result.terms[0].timeline
    assert [result.terms[0].node] == list(result.plan["pids"])


def test_writers_and_readers_wait_no_longer_than_promised(result: Result, inventory: Inventory) -> None:
    assert 0 < result.figures["write_gap"] <= inventory.objectives["drills"]["primary_crash"]["write_gap"]
    assert 0 < result.figures["read_gap"] <= inventory.objectives["drills"]["primary_crash"]["read_gap"]


def test_no_document_is_lost_when_the_primary_is_killed(result: Result) -> None:
    assert result.figures["documents_acknowledged"] > 5
    assert result.figures["documents_lost"] == 0


def test_the_former_primary_follows_again_in_time(result: Result, inventory: Inventory) -> None:
    assert result.figures["redundancy_back"] <= inventory.objectives["drills"]["primary_crash"]["redundancy_back"]


def test_the_load_was_really_offered_and_every_promise_held(result: Result) -> None:
    assert result.valid
    assert [promise for promise in result.promises if not promise.held] == []
    assert result.seconds <= 90
