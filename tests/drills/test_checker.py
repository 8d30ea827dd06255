# ruff: noqa: S608 - literals of this file
"""The checker on the lab: red when acknowledged writes really are gone. A checker that cannot turn red proves nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from siasops.cluster.view import look
from siasops.console import Progress
from siasops.drill import active, registry
from siasops.drill.checker import check_ledger
from siasops.drill.faults import Stage
from siasops.drill.history import load
from siasops.drill.run import once, read_nodes
from siasops.drill.workers import Workers
from tests.drills.mutations import Asynchronous, CancelledWait, LocalCommit, Mutation, SplitBrain

pytestmark = [pytest.mark.lab, pytest.mark.drill]

LOST = "no acknowledged write is lost"
SHOWN_AND_TAKEN_BACK = "reads through sias never go back"
TWO_PRIMARIES = "never two nodes acknowledge at once"


@pytest.mark.parametrize(
    ("mutation", "rule"),
    [
        pytest.param(LocalCommit, LOST, id="synchronous_commit=local"),
        pytest.param(Asynchronous, LOST, id="asynchronous", marks=pytest.mark.long),
        pytest.param(CancelledWait, SHOWN_AND_TAKEN_BACK, id="cancelled-wait", marks=pytest.mark.long),
        pytest.param(SplitBrain, TWO_PRIMARIES, id="split-brain", marks=pytest.mark.long),
    ],
)
def test_the_checker_turns_red_on_a_platform_made_unsafe(
    mutation: type[Mutation], rule: str, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory = stage.inventory
    monkeypatch.setitem(registry.DRILLS, mutation.name, mutation)
    limits = {"write_gap": 300, "read_gap": 300, "document_wait": 300, "redundancy_back": 300}
    monkeypatch.setitem(inventory.objectives["drills"], mutation.name.replace("-", "_"), limits)
    with active.only_one(inventory):
        result = once(stage, mutation(), Progress())
    print(f"\n{result.run}: {result.figures['writes_lost']} of {result.figures['writes_acknowledged']} lost")
    print("\n".join(f"{finding.rule} ({finding.count}): {finding.text}" for finding in result.findings))
    assert result.verdict == "failed"
    assert rule in {finding.rule for finding in result.findings}
    # A commit whose wait was cancelled was never called acknowledged, so that nothing acknowledged was lost with it.
    assert bool(result.figures["writes_lost"]) is (mutation is not CancelledWait)


def test_the_checker_turns_red_when_a_row_is_removed_by_hand(stage: Stage, tmp_path: Path) -> None:
    inventory, run = stage.inventory, "row-removed-by-hand"
    workers = Workers(inventory, run, tmp_path)
    try:
        # All that write, so that every table that is read back is there.
        workers.start("ledger", "invariants", "nodes")
        workers.wait_ready(30)
        time.sleep(3)
    finally:
        assert workers.stop() == []
    operations = load(tmp_path).ledger
    databases = [h.name for h in inventory.group("databases")]

    def judge() -> tuple[int, set[str]]:
        result = check_ledger(run, operations, read_nodes(stage, run)[0], databases)
        return result.lost, {finding.rule for finding in result.findings}

    assert judge() == (0, set())
    leader = look(inventory, stage.fleet).leader
    assert leader is not None
    psql = ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "sias", "-c"]
    row = f"run = '{run}' AND client = 3 AND sequence = 5"
    columns = "row_number, run, client, sequence, attempt, previous, hash"
    saved = stage.fleet.run(
        leader.host,
        [*psql, f"DELETE FROM drill.ledger WHERE {row} RETURNING quote_literal(ledger::text)"],
        check=True,
    ).stdout.strip()
    try:
        lost, rules = judge()
        assert lost == 1
        assert {"no acknowledged write is lost", "no gap below an acknowledged write"} <= rules
    finally:
        restore = (
            f"INSERT INTO drill.ledger ({columns}) OVERRIDING SYSTEM VALUE "
            f"SELECT {columns} FROM (SELECT ({saved}::drill.ledger).*) AS saved"
        )
        stage.fleet.run(leader.host, [*psql, restore], check=True)
    assert judge() == (0, set())
