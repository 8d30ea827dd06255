"""A planned switchover under load, on the lab: everyone waits, nobody fails."""

from __future__ import annotations

import pytest

from siasops.drill.run import run
from siasops.drill.verdict import Result
from siasops.inventory import Inventory

pytestmark = [pytest.mark.lab, pytest.mark.drill]


@pytest.fixture(scope="module")
def result(lab: Inventory) -> Result:
    found = run(lab, "switchover")
    print(f"\n{found.run}: {found.verdict}\n{found.figures}")
    return found


def test_the_primary_stands_in_the_other_room(result: Result, inventory: Inventory) -> None:
    assert result.terms[0].node == result.plan["from"]
    assert inventory.hosts[result.terms[-1].node].room == result.plan["room"]


def test_no_writer_sees_an_error(result: Result) -> None:
    assert result.figures["writes_acknowledged"] > 150
    assert (result.figures["writes_refused"], result.figures["writes_unknown"]) == (0, 0)


def test_no_request_fails(result: Result) -> None:
    assert [p.found for p in result.promises if p.what == "Failed requests"] == ["0"]
    assert sum(h["requests"] for h in result.figures["http"].values()) > 35


def test_writers_wait_no_longer_than_promised(result: Result, inventory: Inventory) -> None:
    assert result.figures["write_gap"] <= inventory.objectives["drills"]["switchover"]["write_gap"]
    assert [promise for promise in result.promises if not promise.held] == []
