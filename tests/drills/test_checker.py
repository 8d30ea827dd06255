# ruff: noqa: S608 - literals of this file
"""The checker on the lab: red when acknowledged writes really are gone. A checker that cannot turn red proves nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from siasops import remote
from siasops.cluster.view import View, look
from siasops.console import Progress
from siasops.drill import active, registry
from siasops.drill.checker import check_ledger
from siasops.drill.faults import Fault, Plan, Stage
from siasops.drill.history import load
from siasops.drill.run import Journal, Run, read_nodes
from siasops.drill.workers import Workers
from siasops.lab.provider import provider

pytestmark = [pytest.mark.lab, pytest.mark.drill]

UNREPLICATED = 4.0
"""Seconds of writes that are acknowledged while nothing reaches the standby."""


class AsynchronousLoss(Fault):
    """Replication made asynchronous and cut, then the primary's host powered off: the loss that the platform prevents."""

    name = "asynchronous-loss"
    title = "the synchronous standby made asynchronous, then the primary's host lost"
    expected = "Acknowledged writes are lost, and the checker says so."
    hold = 40.0
    takes_machines = True
    needs_lab = True

    def plan(self, stage: Stage, view: View) -> Plan:
        assert view.leader is not None
        standby = next(m.host for m in view.members if m.host != view.leader.host)
        return {
            "host": view.leader.host,
            "standby": standby,
            "address": stage.inventory.hosts[view.leader.host].address,
        }

    def start(self, stage: Stage, plan: Plan) -> None:
        self._synchronous(stage, plan["standby"], wanted=False)
        remote.wait_until(
            lambda: (
                not any(s.sync_state == "sync" for m in look(stage.inventory, stage.fleet).members for s in m.standbys)
            ),
            "no standby is synchronous",
            deadline=30,
        )
        rule = f"ip saddr {plan['address']} tcp sport {stage.inventory.ports['postgres']} drop"
        stage.fleet.run(
            plan["standby"],
            ["nft", f"table inet drill {{ chain in {{ type filter hook input priority -300; {rule}; }}; }}"],
            check=True,
        )
        time.sleep(UNREPLICATED)  # the writers go on and are told that all is well
        provider(stage.inventory).power_cut([stage.inventory.hosts[plan["host"]]])
        stage.fleet.forget([plan["host"]])

    def heal(self, stage: Stage, plan: Plan) -> None:
        provider(stage.inventory).power_on([stage.inventory.hosts[plan["host"]]])
        stage.fleet.run(plan["standby"], "nft delete table inet drill 2>/dev/null || true", check=True)
        self._synchronous(stage, plan["standby"], wanted=True)

    def describe(self, plan: Plan) -> str:
        return f"asynchronous, {plan['standby']} cut from {plan['host']}, {plan['host']} powered off"

    @staticmethod
    def _synchronous(stage: Stage, host: str, *, wanted: bool) -> None:
        setting = f"synchronous_mode={json.dumps(wanted)}"
        command = ["patronictl", "edit-config", stage.inventory.cluster, "--force", "--quiet", "--set", setting]
        stage.fleet.run(host, command, timeout=30, check=True)


def test_the_checker_turns_red_when_a_standby_was_asynchronous_under_a_loss(
    stage: Stage, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory = stage.inventory
    monkeypatch.setitem(registry.DRILLS, AsynchronousLoss.name, AsynchronousLoss)
    for promise in ("write_gap", "read_gap", "redundancy_back"):
        monkeypatch.setitem(inventory.objectives[promise], "asynchronous_loss", 300)
    folder = tmp_path / "asynchronous"
    folder.mkdir()
    fault = AsynchronousLoss()
    with active.only_one(inventory):
        plan = fault.plan(stage, look(inventory, stage.fleet))
        result = Run(stage, fault, plan, folder=folder, journal=journal, progress=Progress()).execute()
    print(f"\nlost {result.figures['writes_lost']} of {result.figures['writes_acknowledged']} acknowledged writes")
    assert result.verdict == "failed"
    assert result.figures["writes_lost"] > 50
    rules = {finding.rule for finding in result.findings}
    assert "no acknowledged write is lost" in rules


def test_the_checker_turns_red_when_a_row_is_removed_by_hand(stage: Stage, tmp_path: Path) -> None:
    inventory, run = stage.inventory, "row-removed-by-hand"
    workers = Workers(inventory, run, tmp_path)
    try:
        workers.start("ledger")
        workers.wait_ready(30)
        time.sleep(5)
    finally:
        assert workers.stop() == []
    operations = load(tmp_path).ledger
    databases = [h.name for h in inventory.group("databases")]

    def judge() -> tuple[int, set[str]]:
        result = check_ledger(run, operations, read_nodes(stage, run), databases)
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
