"""A release goes host by host, finds its way back from wherever it stands, and does nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from siasops import cli, figures, remote
from siasops import inventory as facts
from siasops.calendar import records
from siasops.change import engine
from siasops.change.procedure import GoBack, Plan
from siasops.cluster.check import Line
from siasops.console import Progress
from siasops.drill.faults import Stage
from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory
from siasops.release import canary, procedure
from siasops.release import host as hosts
from siasops.release.gate import Objection
from siasops.release.host import Standing
from siasops.release.procedure import Release
from siasops.silence import Silence

OLD, NEW = "1+gold", "1+gnew"
SOURCE = {"source": ROOT / "app"}


class World:
    """Two application hosts, as far as a release sees them."""

    def __init__(self, inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inventory = inventory
        self.current = {"app-a1": OLD, "app-b1": OLD}
        self.kept = {name: {OLD} for name in self.current}
        self.drained: dict[str, list[str]] = {name: [] for name in self.current}
        self.away: set[str] = set()
        self.left: set[str] = set()
        """Hosts that are out of service for maintenance."""
        self.alone = False
        self.log: list[str] = []
        self.trouble: dict[str, BaseException] = {}
        self.objections: list[Objection] = []
        self.frozen = False
        self.missing: list[str] = []
        for name in ("look", "switch", "settle", "ship", "migrate", "schema"):
            monkeypatch.setattr(hosts, name, getattr(self, name))
        monkeypatch.setattr(hosts, "version_of", lambda _: NEW)
        monkeypatch.setattr(procedure, "look", lambda *_: SimpleNamespace(leader=SimpleNamespace(version="15.4")))
        monkeypatch.setattr(procedure, "check", lambda _: [Line(True, "The cluster is healthy", "yes")])
        monkeypatch.setattr(
            procedure, "_runs", lambda _, s, version: Line(s.runs(version), f"{s.name} runs {version}", s.current)
        )
        monkeypatch.setattr(procedure.gate, "judge", lambda *_, **__: self.objections)
        monkeypatch.setattr(canary, "watch", self.watch)

    def _may_fail(self, what: str) -> None:
        self.log.append(what)
        if what in self.trouble:
            raise self.trouble.pop(what)

    def look(self, _stage: Stage, *, absent: bool = False) -> dict[str, Standing]:
        if self.away and not absent:
            raise UserError("does not answer")
        return {
            name: Standing(
                name, name[4], version, version, dict.fromkeys(self.kept[name], 0.0), ready=True, away=name in self.left,
                drained=self.drained[name],
                sees=[name] if self.alone else list(self.current), free=9 << 30,
            )
            for name, version in self.current.items() if name not in self.away
        }  # fmt: skip

    def switch(self, _stage: Stage, host: str, version: str) -> str:
        self._may_fail(f"{host} {version}")
        self.current[host] = version
        return "restarted"

    def settle(self, _fleet: object, _standings: object, host: str | None = None) -> None:
        for servers in self.drained.values():
            servers[:] = [server for server in servers if host not in {None, server}]

    def ship(self, _stage: Stage, _source: Path, version: str, _say: Callable[[str], None]) -> bool:
        self._may_fail("ship")
        for kept in self.kept.values():
            kept.add(version)
        return True

    def schema(self, _fleet: object, _host: str, _version: str) -> dict[str, Any]:
        return {
            "frozen": self.frozen,
            "pending": [{"name": "x"}] if self.objections or self.frozen else [],
            "uses": {},
            "tables": {},
            "missing": self.missing,
        }

    def migrate(self, _fleet: object, _host: str, _version: str) -> list[str]:
        self._may_fail("migrate")
        self.objections = []
        return []

    def watch(self, _act: object, first: str, _limits: object) -> str:
        self._may_fail(f"watch {first}")
        return "well"


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    @contextmanager
    def connect(*_: object) -> Iterator[object]:
        yield SimpleNamespace()

    monkeypatch.setattr(Inventory, "var", property(lambda _self: tmp_path))
    monkeypatch.setattr(remote, "connect", connect)
    monkeypatch.setattr(figures, "recording", records.recording)
    monkeypatch.setattr(Silence, "cover", lambda *_: None)
    return facts.load(ROOT / "inventory" / "lab.yml")


@pytest.fixture
def world(inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(inventory, monkeypatch)


def run(world: World) -> engine.Outcome:
    return engine.run(world.inventory, Release(), SOURCE, progress=Progress(), load=False)


def rollback(world: World, to: str | None = None) -> engine.Outcome:
    return engine.rollback(world.inventory, Release(), {"to": to}, progress=Progress(), load=False)


def test_one_host_is_watched_before_the_others_follow_and_a_second_run_does_nothing(world: World) -> None:
    outcome = run(world)
    assert outcome.held
    assert world.log == ["ship", "migrate", f"app-a1 {NEW}", "watch app-a1", f"app-b1 {NEW}"]
    again = run(world)
    assert again.held
    assert again.sentence == f"Every application host runs {NEW} already: there is nothing to do."
    assert len(world.log) == 5


def test_a_bad_canary_goes_back_and_no_other_host_ever_saw_the_release(world: World) -> None:
    world.trouble["watch app-a1"] = GoBack("4 of its 30 requests fail")
    world.drained["app-a1"] = ["app-a1"]
    outcome = run(world)
    assert not outcome.held
    assert "4 of its 30 requests fail" in outcome.sentence
    assert world.log[-1] == f"app-a1 {OLD}"
    assert f"app-b1 {NEW}" not in world.log
    assert world.current == {"app-a1": OLD, "app-b1": OLD}
    assert world.drained["app-a1"] == []


def test_what_the_gate_refuses_touches_nothing(world: World) -> None:
    world.objections = [Objection("notes.0004", "drops-what-runs", "the running release uses notes_note.text", "later")]
    outcome = run(world)
    assert not outcome.held
    assert "the running release uses notes_note.text (drops-what-runs); instead: later" in outcome.sentence
    assert world.log == ["ship"]
    shipped = engine.check(world.inventory, Release(), SOURCE)
    assert [line.what for line in shipped.lines if not line.ok] == [
        "Its migrations lock nothing for long, and leave what the running release uses"
    ]
    # Its author accepts it with a reason: said, and no refusal.
    world.objections = [Objection("notes.0004", "rows-at-once", "`UPDATE x`", "a duty", accepted="ten rows")]
    assert run(world).held


def test_a_release_that_changes_the_schema_waits_for_a_migration_that_holds_it_still(world: World) -> None:
    world.frozen = True
    outcome = run(world)
    assert not outcome.held
    assert "x: a migration to another PostgreSQL holds the schema still" in outcome.sentence
    assert "`sias migrate postgres settle` or `rollback`" in outcome.sentence
    assert world.log == ["ship"]


@pytest.mark.parametrize("at", ["ship", "migrate", f"app-a1 {NEW}", "watch app-a1", f"app-b1 {NEW}"])
@pytest.mark.parametrize("then", ["run", "rollback"])
def test_it_goes_on_or_back_from_wherever_it_was_interrupted(world: World, at: str, then: str) -> None:
    world.trouble[at] = KeyboardInterrupt()
    with pytest.raises(UserError, match="interrupted"):
        run(world)
    world.drained["app-b1"] = ["app-a1"]  # as a process that was killed may leave it
    outcome = run(world) if then == "run" else rollback(world)
    assert outcome.held
    assert set(world.current.values()) == {NEW if then == "run" else OLD}
    assert world.drained["app-b1"] == []


def test_the_last_release_is_taken_back_in_reverse_and_once(world: World) -> None:
    with pytest.raises(UserError, match="say which one to go back to"):
        rollback(world)
    run(world)
    world.log.clear()
    outcome = rollback(world)
    assert outcome.held
    assert world.log == [f"app-b1 {OLD}", f"app-a1 {OLD}"]
    assert "already" in rollback(world).sentence


def test_any_kept_release_can_be_gone_back_to(world: World) -> None:
    """Also one that `sias release` never brought there."""
    for kept in world.kept.values():
        kept |= {"1+golder"}
    assert rollback(world, "1+golder").held
    assert set(world.current.values()) == {"1+golder"}
    with pytest.raises(UserError, match=r"no longer holds 1\+gnone. Kept everywhere: 1\+gold, 1\+golder"):
        rollback(world, "1+gnone")
    world.missing = ["notes_note.text"]
    with pytest.raises(UserError, match=r"needs what the schema no longer has: notes_note\.text"):
        rollback(world, OLD)


def test_a_host_that_is_away_does_not_keep_the_others_from_going_back(world: World) -> None:
    run(world)
    world.away = {"app-b1"}
    with pytest.raises(UserError, match="does not answer"):
        rollback(world)
    plan = Plan("back", {"version": NEW, "order": ["app-a1", "app-b1"], "former": dict.fromkeys(world.current, OLD)})
    act: Any = SimpleNamespace(plan=plan, stage=None, fleet=None, progress=Progress())
    *each, last = Release().back(plan)
    for phase in each:
        phase.act(act)
    assert world.current == {"app-a1": OLD, "app-b1": NEW}
    with pytest.raises(UserError, match="does not answer"):
        last.act(act)
    world.away = set()
    last.act(act)
    assert set(world.current.values()) == {OLD}


def test_a_host_that_left_for_maintenance_is_waited_for_and_not_touched(world: World) -> None:
    world.trouble["watch app-a1"] = KeyboardInterrupt()
    with pytest.raises(UserError, match="interrupted"):
        run(world)
    world.left = {"app-b1"}
    with pytest.raises(UserError, match="app-b1 is away: `sias host return app-b1 --yes`"):
        run(world)
    with pytest.raises(UserError, match="app-b1 is away"):
        rollback(world)
    assert world.current["app-a1"] == OLD  # its users do not wait for the other
    assert not [line for line in world.log if line.startswith("app-b1")]
    world.left = set()
    assert rollback(world).held


def test_a_host_is_not_drained_while_nobody_else_would_answer(world: World) -> None:
    world.alone = True
    outcome = run(world)
    assert not outcome.held
    assert [line.found for line in outcome.lines if not line.ok] == ["nobody would answer for app-a1, app-b1"]
    assert world.log == []
    world.alone = False
    world.trouble["watch app-a1"] = KeyboardInterrupt()
    with pytest.raises(UserError):
        run(world)
    world.alone = True
    with pytest.raises(UserError, match="No other host would answer the users of app-b1"):
        run(world)
    world.log.clear()
    assert rollback(world).held  # worse than waiting is a release that must go
    assert world.log == [f"app-a1 {OLD}"]


def test_outside_a_lab_a_release_stands_in_the_calendar_and_in_the_repository(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Inventory, "is_lab", False)
    (tmp_path / "app").mkdir()
    release, stage = Release(), Stage(world.inventory, SimpleNamespace())  # type: ignore[arg-type]
    found = {line.what: line for line in release.check(stage, release.plan(stage, {"source": tmp_path / "app"}))}
    assert "no release of lab is planned for now" in found["It is its time"].found
    assert not found["It is its time"].ok
    assert "not under git" in found["It is built from a known content"].found
    assert not found["It is built from a known content"].ok


def test_verify_sees_a_host_that_runs_something_else_and_one_that_is_left_out(world: World) -> None:
    run(world)
    assert engine.verify(world.inventory, Release()).held
    world.current["app-b1"] = OLD
    world.drained["app-a1"] = ["app-b1"]
    assert [line.what for line in engine.verify(world.inventory, Release()).lines if not line.ok] == [
        f"app-b1 runs {NEW}", "No host is left out",
    ]  # fmt: skip


def test_plan_and_list_say_it_in_words(world: World) -> None:
    world.drained["app-b1"] = ["app-a1"]
    said = CliRunner().invoke(cli.sias, ["release", "plan"], env={"COLUMNS": "200"})
    assert said.exit_code == 0, said.output
    assert f"release {NEW} instead of {OLD}" in said.output
    assert "Switch app-a1, the canary" in said.output
    listed = CliRunner().invoke(cli.sias, ["release", "list"], env={"COLUMNS": "200"})
    assert listed.output.count(OLD) == 2
    assert "app-b1 sends nothing to app-a1" in listed.output
