"""The phases of a migration, what each refuses, and where the way back begins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from siasops import remote
from siasops.change.procedure import Act, GoBack, Plan
from siasops.change.state import State
from siasops.cluster import instance
from siasops.cluster.instance import Instance, Serving
from siasops.cluster.view import Member, View
from siasops.console import Progress
from siasops.drill.faults import Stage
from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory
from siasops.migrate import check, cutover, plans, procedure, sides
from siasops.migrate.changes import Touched
from siasops.migrate.procedure import Postgres
from siasops.migrate.sides import Side
from tests.unit.cluster.conftest import Hosts, lab, view
from tests.unit.migrate.conftest import Pair

__all__ = ["lab", "view"]
FACTS = {
    "from": "15",
    "to": "17",
    "old": "blue",
    "new": "green",
    "old_stanza": "sias",
    "stanza": "sias-17-1",
    "host": "db-b1",
}


@pytest.fixture
def hosts(lab: Inventory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    yield Hosts(lab)
    instance._known.clear()


@pytest.fixture
def looked(view: View, monkeypatch: pytest.MonkeyPatch) -> list[View]:
    shown = [view]
    for module in (procedure, check):
        monkeypatch.setattr(module, "look", lambda *_: shown[-1])
    return shown


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    tags: list[str] = []
    monkeypatch.setattr(procedure.deploy, "playbook", lambda *_, arguments, **__: tags.append(arguments[1]))
    return tags


@pytest.fixture
def act(lab: Inventory, hosts: Hosts, looked: list[View], tmp_path: Path) -> Act:
    plan = Plan("PostgreSQL 15 to 17", dict(FACTS))
    state = State("x", "postgres", "lab", plan.story, plan.facts, "2026-12-01T00:00:00+00:00", folder=tmp_path)
    return Act(Stage(lab, hosts), plan, state, Progress(), lambda *_, **__: 0.0, None)  # type: ignore[arg-type]


def keys(phases: Any) -> list[str]:
    return [phase.key for phase in phases]


def upgraded(view: View, version: str) -> View:
    members = tuple(Member(**{**vars(member), "version": version}) for member in view.members)
    return replace(view, members=members)


def test_nothing_serves_before_it_was_copied_backed_up_and_proven(act: Act) -> None:
    listed = keys(Postgres().phases(act.plan))
    assert listed.index("freeze") < listed.index("copy") < listed.index("adopt") < listed.index("follow")
    for first in ("backup", "prove", "inspect", "plans", "ready"):
        assert listed.index("follow") < listed.index(first) < listed.index("cutover")
    assert listed.index("cutover") < listed.index("follow_back") < listed.index("roles")


def test_the_way_back_knows_who_serves_before_anything_and_proves_before_it_goes(act: Act) -> None:
    listed = keys(Postgres().back(act.plan))
    assert listed[0] == "back:resolve"
    assert listed.index("back:prove") < listed.index("back:cutover") < listed.index("back:remove")
    assert not set(listed) & set(keys(Postgres().phases(act.plan)))


def test_a_plan_takes_the_free_place_and_the_standbys_host(act: Act) -> None:
    made = Postgres().plan(act.stage, {})
    assert {key: made.facts[key] for key in ("from", "to", "old", "new", "old_stanza", "host")} == {
        key: FACTS[key] for key in ("from", "to", "old", "new", "old_stanza", "host")
    }
    assert made.facts["stanza"].startswith("sias-17-")
    json.dumps(made.facts)


def test_the_next_migration_goes_the_other_way(act: Act) -> None:
    instance.know(act.inventory, Serving(Instance(act.inventory, "green", "15", "sias-15-1")))
    hosts = act.fleet
    hosts.when("*", "^cat", lambda: instance.of(act.inventory).text())  # type: ignore[attr-defined]
    made = Postgres().plan(act.stage, {})
    assert (made.facts["old"], made.facts["new"], made.facts["old_stanza"]) == ("green", "blue", "sias-15-1")


def test_there_is_nothing_to_do_twice(act: Act, looked: list[View]) -> None:
    looked.append(upgraded(looked[0], "17.11"))
    assert "nothing to do" in Postgres().plan(act.stage, {}).nothing
    both = Serving(Instance(act.inventory, "green", "17", "s"), Instance(act.inventory, "blue", "15", "sias"))
    act.fleet.when("*", "^cat", both.text)  # type: ignore[attr-defined]
    assert "15 stands beside it" in Postgres().plan(act.stage, {}).nothing


@pytest.mark.parametrize(
    ("wanted", "version", "said"), [("16", "15.20", "knows no PostgreSQL “16”"), ("15", "17.11", "no road to 15")]
)
def test_a_road_that_does_not_exist_is_refused(
    act: Act, looked: list[View], *, wanted: str, version: str, said: str
) -> None:
    looked.append(upgraded(looked[0], version))
    with pytest.raises(UserError, match=said):
        Postgres().plan(act.stage, {"to": wanted})


def test_a_former_cluster_goes_before_the_next_one_comes(act: Act) -> None:
    both = Serving(Instance(act.inventory, "blue", "15", "sias"), Instance(act.inventory, "green", "17", "s"))
    act.fleet.when("*", "^cat", both.text)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="settle` first"):
        Postgres().plan(act.stage, {})


def test_a_settled_migration_has_no_way_back(act: Act) -> None:
    act.state.notes["settled"] = "2026-12-24"
    with pytest.raises(UserError, match="no way back any more"):
        Postgres().plan_back(act.stage, act.state, {})
    act.state.notes.clear()
    assert "serves alone" in Postgres().plan_back(act.stage, act.state, {}).nothing


def test_each_cluster_reaches_the_other_wherever_its_primary_is_and_without_a_secret(act: Act) -> None:
    where = Side(act.inventory, act.fleet, check.target(act.inventory, FACTS)).where("sias")
    assert "host=192.168.56.11,192.168.56.12 port=5433,5433 " in where
    assert "target_session_attrs=read-write" in where
    assert "sslmode=verify-full" in where
    assert "password" not in where.replace("passfile", "")
    role = (ROOT / "roles/patroni/vars/main.yml").read_text(encoding="utf-8")
    assert f"_patroni_flow_passwords: {sides.PASSWORDS}\n" in role


def test_a_slot_that_a_failover_took_sends_the_migration_back(still: Pair) -> None:
    with pytest.raises(GoBack, match="has failed over"):
        procedure._slot_is_there(still.blue, "sias_forward_sias")


def test_hosts_know_of_the_new_place_before_anything_is_put_there(
    act: Act, deployed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Side, "database", lambda *_: SimpleNamespace(host="db-a1", ask=lambda _: [], name="x"))
    monkeypatch.setattr(procedure.copy, "offered", lambda *_: {})
    monkeypatch.setattr(procedure.gates, "gates", lambda *_, **__: [])
    monkeypatch.setattr(procedure.gates, "frozen", lambda _: check.Line(True, "frozen", "it is"))
    procedure._beside(act)
    now = instance.of(act.inventory)
    assert (now.serving.slot, now.beside and now.beside.slot, now.beside and now.beside.runs) == (
        "blue",
        "green",
        False,
    )
    assert deployed == [procedure.BESIDE]


class Cutover:
    """Stands for doors, sessions and the cutover itself; `held` is how it ends."""

    def __init__(self, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held, self.resolved, self.done = True, True, list[str]()
        self.lost = 0
        """Times that sessions are lost, the first time in the middle of the cutover."""
        self.timeline = "00000007"

        @contextmanager
        def nothing(*_: object, **__: object) -> Iterator[Any]:
            yield SimpleNamespace(ready=lambda: self.done.append("ready"))

        def cut_over(moves: Any, _gate: object, *, limit: float, keep: Any, say: Any) -> cutover.Moved:
            say("clients wait from now on")
            keep({"sias": {"run": "1", "old": {}}})
            assert act.state.notes["cutover"], "kept before anything is touched"
            self.done.append(f"cut over by {moves[0].forward}, back by {moves[0].back}, {limit:g} s")
            if self.lost:
                raise UserError("db-a1: no answer")
            return cutover.Moved(
                self.held, "moved" if self.held else "back on the old cluster", 0.5, [("clients held", 0.1)]
            )

        def resolve(*_: object) -> bool:
            self.done.append("resolve")
            self.lost = max(0, self.lost - 1)
            if self.lost > 0:
                raise UserError("nobody leads")
            return self.resolved

        def ask(_: str) -> list[dict[str, str]]:
            return [{"slot_name": "sias_forward_sias", "timeline": self.timeline}]

        monkeypatch.setattr(Side, "database", lambda _, name: SimpleNamespace(name=name, ask=ask))
        monkeypatch.setattr(procedure, "session", nothing)
        monkeypatch.setattr(procedure, "replace", lambda place, **_: place)
        monkeypatch.setattr(procedure.doors, "everywhere", nothing)
        monkeypatch.setattr(procedure.cutover, "cut_over", cut_over)
        monkeypatch.setattr(procedure.cutover, "resolve", resolve)
        monkeypatch.setattr(procedure, "_carry_ledger", lambda *_: self.done.append("ledger"))


@pytest.fixture
def cut(act: Act, monkeypatch: pytest.MonkeyPatch) -> Cutover:
    return Cutover(act, monkeypatch)


def test_after_the_cutover_every_host_goes_by_the_new_cluster(act: Act, cut: Cutover) -> None:
    procedure._cutover(act)
    assert cut.done == [
        "ready",
        f"cut over by sias_forward_sias, back by sias_back_sias, {procedure.LIMIT:g} s",
        "ledger",
    ]
    assert act.state.notes["side"] == "new"
    assert instance.of(act.inventory).serving.slot == "green"
    assert act.fleet.told("stop sias-restore-beat")  # type: ignore[attr-defined]
    procedure._cutover(act)  # as a run that was interrupted after it: hosts are told again, nobody is moved
    assert cut.done[3:] == ["ledger"]


def test_a_cutover_that_went_back_by_itself_is_tried_again_from_its_beginning(act: Act, cut: Cutover) -> None:
    cut.held = False
    with pytest.raises(UserError, match="back on the old cluster"):
        procedure._cutover(act)
    assert act.state.notes["cutover"] is None
    assert instance.of(act.inventory).serving.slot == "blue"
    cut.held = True
    procedure._cutover(act)
    assert "resolve" not in cut.done


@pytest.mark.parametrize("forward", [True, False])
def test_an_interrupted_cutover_is_resolved_first(act: Act, cut: Cutover, *, forward: bool) -> None:
    act.remember(cutover={"sias": {"run": "1"}}, cutting="blue")
    cut.resolved = forward
    procedure._cutover(act)
    assert cut.done[0] == "resolve"
    assert any("cut over" in done for done in cut.done) is not forward
    assert act.state.notes["side"] == "new"


@pytest.mark.parametrize("forward", [True, False])
def test_a_host_that_is_lost_in_the_middle_does_not_leave_clients_before_a_closed_door(
    act: Act, cut: Cutover, *, forward: bool
) -> None:
    cut.lost, cut.resolved = 3, forward
    if forward:
        procedure._cutover(act)
    else:
        with pytest.raises(UserError, match="db-a1: no answer"):
            procedure._cutover(act)
    assert cut.done[1:4] == [next(done for done in cut.done if "cut over" in done), "resolve", "resolve"]
    assert (act.state.notes["side"], act.state.notes["cutover"]) == ("new" if forward else "old", None)
    assert instance.of(act.inventory).serving.slot == ("green" if forward else "blue")


def test_a_side_that_gets_no_primary_in_time_is_left_to_the_next_run(
    act: Act, cut: Cutover, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procedure, "RESOLVE_LIMIT", 0.0)
    cut.lost = 1_000
    with pytest.raises(UserError, match="could not be ended: nobody leads"):
        procedure._cutover(act)
    assert act.state.notes["cutover"]


def test_nobody_goes_to_a_copy_of_a_primary_that_has_failed_over(act: Act, cut: Cutover) -> None:
    act.remember(timeline="00000006")
    with pytest.raises(GoBack, match="timeline 00000007 instead of 00000006"):
        procedure._cutover(act)
    assert cut.done == []


def test_going_back_resolves_without_moving_anybody(act: Act, cut: Cutover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Side, "answers", lambda _: ["db-a1"])
    act.remember(cutover={"sias": {"run": "1"}}, cutting="blue")
    cut.resolved = False
    procedure._resolve(act)
    assert cut.done == ["resolve"]
    assert act.state.notes["side"] == "old"
    procedure._cutover_back(act)  # nobody has left
    assert not any("cut over" in done for done in cut.done)


def test_the_way_back_takes_the_other_slots(act: Act, cut: Cutover) -> None:
    act.remember(side="new")
    procedure._cutover_back(act)
    assert any("cut over by sias_back_sias, back by sias_forward_sias" in done for done in cut.done)
    assert instance.of(act.inventory).serving.slot == "blue"
    assert act.state.notes["side"] == "old"


def test_rows_that_differ_send_the_migration_back(act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Side, "database", lambda *_: SimpleNamespace(name="x"))
    monkeypatch.setattr(procedure, "_whole", lambda *_: check.Line(False, "Every row is the same", "3 missing"))
    with pytest.raises(GoBack, match="3 missing"):
        procedure._prove(act)


def test_what_flows_is_proven_and_what_was_touched_is_kept_for_the_cutover(
    act: Act, flowing: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procedure.Road, "name", property(lambda _: flowing.blue.database))
    monkeypatch.setattr(
        procedure.Road, "names", property(lambda _: SimpleNamespace(proof=flowing.proof_slot, forward=flowing.slot))
    )
    monkeypatch.setattr(procedure.flow, "drain", lambda *_, **__: flowing.caught_up())
    line = procedure._whole(act, flowing.blue, flowing.green, flowing.slot, "touched")  # type: ignore[arg-type]
    assert line.ok, line.found
    flowing.green.do(
        "SET session_replication_role = replica; DELETE FROM person WHERE id = (SELECT min(id) FROM person)"
    )
    line = procedure._whole(act, flowing.blue, flowing.green, flowing.slot, "touched")  # type: ignore[arg-type]
    assert not line.ok
    assert Touched.load(act.state.folder / "touched.json") is not None


def test_known_writes_of_the_restore_proofs_come_along_and_numbers_go_on(still: Pair) -> None:
    made = (ROOT / "roles/backup/files/sias_restore_beat.sql").read_text(encoding="utf-8")
    table = made[made.index("CREATE SCHEMA") : made.index("COMMIT;")]
    for side in (still.blue, still.green):
        side.do(table + "INSERT INTO sias_restore.ledger (source) VALUES ('beat'), ('beat');")
    still.blue.do("INSERT INTO sias_restore.ledger (source, payload) VALUES ('beat', 'it''s later')")
    for _ in range(2):
        procedure._carry_ledger(still.blue, still.green)
    rows = [side.ask("SELECT * FROM sias_restore.ledger WHERE n = 3") for side in (still.blue, still.green)]
    assert rows[0] == rows[1] != []
    still.green.do("INSERT INTO sias_restore.ledger (source) VALUES ('beat')")
    assert still.green.ask("SELECT max(n) AS n FROM sias_restore.ledger")[0]["n"] > 1000


def test_tables_that_a_migration_would_leave_behind_are_found(lab: Inventory, still: Pair) -> None:
    still.green.do("CREATE SCHEMA sias_restore; CREATE TABLE sias_restore.ledger (n int PRIMARY KEY)")
    (line,) = check.strays(lab, ["postgres", "sias", "archive"], still.green)
    assert not line.ok
    assert "database archive" in line.found
    assert "sias_restore" not in line.found


def test_the_applications_queries_fit_their_parameters() -> None:
    assert len(plans.load(procedure.WORKLOAD)) > 5


def test_the_plan_gate_runs_what_endpoints_ask_and_keeps_no_value(act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"endpoint": "repertoire:search", "text": "SELECT $1", "sets": [{"sql": "SELECT 'DUPONT'", "settings": {}}]},
        {"role": "sias_app", "visits": 1, "endpoints": 1, "queries": 1, "unvisited": {}, "excused": {}},
    ]
    told = "\n".join(map(json.dumps, rows))
    act.fleet.when("*", "sias-manage endpoint_queries", lambda: told)  # type: ignore[attr-defined]
    monkeypatch.setattr(Side, "database", lambda *_: SimpleNamespace(name="x"))
    monkeypatch.setattr(procedure, "session", nullcontext)
    monkeypatch.setattr(plans, "statements", lambda *_: [plans.Query("statement 1", "SELECT 2", known=False)] * 300)
    ran: list[plans.Query] = []

    def gate(_old: Any, _new: Any, workload: list[plans.Query], *_: Any) -> plans.Verdict:
        ran.extend(workload)
        measure = plans.Measure(
            {"Node Type": "Seq Scan", "Relation Name": "person", "Plan Rows": 1, "Filter": "(name = …)"}
        )
        found = plans.Finding(ran[-201].name, (), "scan", "reads all of person", measure, measure)
        return plans.Verdict(1, findings=[found])

    monkeypatch.setattr(plans, "gate", gate)
    with pytest.raises(UserError, match=r"repertoire:search [0-9a-f]{8}: reads all of person"):
        procedure._plans(act)
    assert [query.text for query in ran if query.sent] == ["SELECT $1"]
    assert len(ran) == len(plans.load(procedure.WORKLOAD)) + 1 + procedure.PLANNED
    kept = "".join(path.read_text() for path in act.state.folder.rglob("*") if path.is_file())
    assert '"sql": "SELECT $1"' in kept
    assert "DUPONT" not in kept


def test_the_plan_gate_does_not_pass_without_what_endpoints_ask(act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Side, "database", lambda *_: SimpleNamespace(name="x"))
    monkeypatch.setattr(procedure, "session", nullcontext)
    monkeypatch.setattr(plans, "statements", lambda *_: [])
    with pytest.raises(UserError, match="not understood"):
        procedure._plans(act)
