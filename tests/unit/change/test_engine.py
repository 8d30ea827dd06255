"""A change is one at a time, goes on where it was killed, and finds its way back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import click
import pytest
from click.testing import CliRunner

from siasops import figures, remote
from siasops import inventory as facts
from siasops.calendar import records
from siasops.change import cli, engine, watch
from siasops.change import state as states
from siasops.change.procedure import Act, GoBack, Phase, Plan, Procedure
from siasops.change.state import State
from siasops.cluster.check import Line
from siasops.console import Progress
from siasops.drill.faults import Stage
from siasops.errors import HELD, VERDICT_FAILED, UserError
from siasops.inventory import ROOT, Inventory
from siasops.silence import Silence


class Paint(Procedure):
    """Paints hosts, one phase each; a host can be made to fail, or to be bad paint."""

    kind: ClassVar[str] = "paint"
    command: ClassVar[str] = "sias paint"

    def __init__(self) -> None:
        self.log: list[str] = []
        self.trouble: dict[str, Callable[[], None]] = {}
        self.go = True
        self.dry_paint = True
        self.painted = ""
        self.hosts: dict[str, tuple[str, ...]] = {}
        self.served: set[str] = set()

    def plan(self, stage: Stage, wanted: Mapping[str, Any]) -> Plan:
        del stage
        same = self.painted == wanted["colour"]
        return Plan(f"paint it {wanted['colour']}", dict(wanted), "it is painted so already" if same else "")

    def check(self, stage: Stage, plan: Plan) -> Sequence[Line]:
        del stage, plan
        return [Line(self.go, "There is paint", "a pot" if self.go else "none", "" if self.go else "Buy some.")]

    def _phase(self, key: str, act: Callable[[Act], None]) -> Phase:
        def work(what: Act) -> None:
            self.log.append(key)
            if key in self.trouble:
                self.trouble.pop(key)()
            act(what)

        return Phase(key, f"Paint {key}", 2.0, work, self.hosts.get(key, ()), key in self.served)

    def phases(self, plan: Plan) -> Sequence[Phase]:
        def last(act: Act) -> None:
            self.painted = plan.facts["colour"]
            assert act.state.notes == {"a": "wet"}  # what an earlier phase, perhaps of another process, noted

        return [
            self._phase("a", lambda act: act.remember(a="wet")),
            self._phase("b", lambda _: None),
            self._phase("c", last),
        ]

    def back(self, plan: Plan) -> Sequence[Phase]:
        del plan
        return [self._phase("scrape", lambda _: None)]

    def verify(self, stage: Stage, plan: Plan) -> Sequence[Line]:
        del stage, plan
        return [Line(self.dry_paint, "The paint is dry", "yes" if self.dry_paint else "no")]


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    @contextmanager
    def connect(*_: object) -> Iterator[object]:
        yield SimpleNamespace()

    monkeypatch.setattr(Inventory, "var", property(lambda _self: tmp_path))
    monkeypatch.setattr(remote, "connect", connect)
    monkeypatch.setattr(figures, "recording", records.recording)
    return facts.load(ROOT / "inventory" / "lab.yml")


def run(inventory: Inventory, procedure: Procedure, colour: str = "red") -> engine.Outcome:
    return engine.run(inventory, procedure, {"colour": colour}, progress=Progress(), load=False)


def fail(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def test_it_runs_to_its_end_once_and_then_has_nothing_to_do(inventory: Inventory) -> None:
    paint = Paint()
    outcome = run(inventory, paint)
    assert outcome.held
    assert paint.log == ["a", "b", "c"]
    assert [r.outcome for r in records.read(inventory)] == ["done"]
    again = run(inventory, paint)
    assert (again.held, again.sentence) == (True, "it is painted so already")
    assert paint.log == ["a", "b", "c"]
    assert len(states.every(inventory)) == 1


def test_nothing_is_touched_on_a_no_go(inventory: Inventory) -> None:
    paint = Paint()
    paint.go = False
    outcome = run(inventory, paint)
    assert not outcome.held
    assert "Buy some." in [line.action for line in outcome.lines]
    assert paint.log == []
    assert states.every(inventory) == []


@pytest.mark.parametrize("error", [UserError("app-b1: no brush"), KeyboardInterrupt(), ValueError("odd")], ids=str)
def test_an_interrupted_change_goes_on_where_it_stopped(inventory: Inventory, error: BaseException) -> None:
    paint = Paint()
    paint.trouble["b"] = fail(error)
    with pytest.raises(UserError, match=r"stopped at “Paint b”.*\n`sias paint run` goes on.*`sias paint rollback`"):
        run(inventory, paint)
    assert states.unfinished(inventory) is not None
    outcome = run(inventory, paint, colour="blue")  # what was begun goes on, whatever is wanted now
    assert outcome.held
    assert paint.log == ["a", "b", "b", "c"]
    assert paint.painted == "red"
    assert [r.outcome for r in records.read(inventory)] == ["failed", "done"]


def test_another_kind_of_change_is_refused_meanwhile(inventory: Inventory) -> None:
    paint, other = Paint(), Paint()
    paint.trouble["b"] = fail(UserError("no brush"))
    with pytest.raises(UserError):
        run(inventory, paint)
    other.kind = "sand"  # type: ignore[misc]
    with pytest.raises(UserError, match=r"paint it red.*stands half-way, after phase a: Paint b: no brush"):
        run(inventory, other)
    assert other.log == []


def test_after_a_change_that_was_abandoned_another_one_begins(inventory: Inventory) -> None:
    paint = Paint()
    paint.trouble["b"] = fail(UserError("no brush"))
    with pytest.raises(UserError):
        run(inventory, paint)
    assert states.abandon(inventory, "the lab was removed") is not None
    assert states.abandon(inventory, "again") is None
    assert [(state.status, state.why) for state in states.every(inventory)] == [("abandoned", "the lab was removed")]
    assert run(inventory, paint).held
    assert paint.log == ["a", "b", "a", "b", "c"]


def test_a_phase_can_order_the_way_back(inventory: Inventory) -> None:
    paint = Paint()
    paint.trouble["b"] = fail(GoBack("it is the wrong red"))
    outcome = run(inventory, paint)
    assert not outcome.held
    assert "wrong red" in outcome.sentence
    assert paint.log == ["a", "b", "scrape"]
    assert outcome.state is not None
    assert outcome.state.status == "rolled back"
    assert [r.outcome for r in records.read(inventory)] == ["rolled back"]
    assert states.unfinished(inventory) is None


def test_an_interrupted_way_back_is_finished_by_rollback_alone(inventory: Inventory) -> None:
    paint = Paint()
    paint.trouble |= {"b": fail(GoBack("wrong red")), "scrape": fail(KeyboardInterrupt())}
    with pytest.raises(UserError, match="`sias paint rollback` goes on"):
        run(inventory, paint)
    with pytest.raises(UserError, match="`sias paint rollback` finishes the way back"):
        run(inventory, paint)
    outcome = engine.rollback(inventory, paint, {}, progress=Progress(), load=False)
    assert paint.log == ["a", "b", "scrape", "scrape"]
    assert outcome.held
    assert outcome.state is not None
    assert outcome.state.status == "rolled back"


def test_the_last_change_can_be_taken_back(inventory: Inventory) -> None:
    paint = Paint()
    with pytest.raises(UserError, match="no paint in lab to go back from"):
        engine.rollback(inventory, paint, {}, progress=Progress(), load=False)
    run(inventory, paint)
    outcome = engine.rollback(inventory, paint, {}, progress=Progress(), load=False)
    assert outcome.held
    assert paint.log == ["a", "b", "c", "scrape"]


def test_a_result_that_does_not_verify_is_no_success(inventory: Inventory) -> None:
    paint = Paint()
    paint.dry_paint = False
    outcome = run(inventory, paint)
    assert not outcome.held
    assert "The paint is dry: no" in outcome.sentence
    assert not engine.verify(inventory, paint).held


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()], ids=str)
def test_alerts_of_a_phases_hosts_are_silent_for_that_phase_and_at_no_end(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch, error: BaseException | None
) -> None:
    paint, told = Paint(), []
    paint.hosts = {"b": ("app-b1",), "c": ("app-a1",)}
    monkeypatch.setattr(Silence, "cover", lambda _, hosts: told.append((paint.log[-1:], list(hosts))))
    if error is None:
        run(inventory, paint)
        assert told[:4] == [([], []), (["a"], ["app-b1"]), (["b"], ["app-a1"]), (["c"], [])]
    else:
        paint.trouble["b"] = fail(error)
        with pytest.raises(UserError):
            run(inventory, paint)
        assert told[1] == (["a"], ["app-b1"])
    assert told[-1][1] == []


class Felt:
    """A load beneath whose users wait for ways that a test names, the first look's first."""

    def __init__(self, *waiting: list[str]) -> None:
        self.looks = list(waiting)
        self.workers = self

    def look(self) -> str:
        return "ledger 1 ok 0 not"

    def waiting(self, since: float) -> list[str]:
        del since
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


@pytest.mark.parametrize(
    ("looks", "painted"),
    [([[]], ["a", "b"]), ([["HTTP reads of room b"], []], ["a", "b"]), ([["HTTP reads of room b"]], ["a", "scrape"])],
)
def test_nothing_is_taken_away_from_users_who_wait(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch, looks: list[list[str]], painted: list[str]
) -> None:
    monkeypatch.setattr(watch, "SERVED_LIMIT", 0.2)
    monkeypatch.setattr(watch, "LOOK_EVERY", 0.05)
    paint, stage = Paint(), Stage(inventory, SimpleNamespace())  # type: ignore[arg-type]
    paint.served = {"b", "scrape"}
    load = watch.Watch(stage, "paint", "x", states.home(inventory), Progress())
    load.workers = Felt(*looks)  # type: ignore[assignment]
    state = engine._begin(inventory, paint, Plan("story", {"colour": "red"}))
    work = engine._Work(stage, paint, state, Progress(), load=False, change=None)
    work.watch = load
    phases, way_back = paint.phases(work.plan)[:2], paint.back(work.plan)
    if painted[-1] == "scrape":
        with pytest.raises(
            UserError, match=r"users still wait .*\(HTTP reads of room b\)[\s\S]*`sias paint run` goes on"
        ):
            work._go(phases, way_back)
        state.direction = "back"  # which is never kept from going
        work._go(way_back, ())
    else:
        work._go(phases, way_back)
    work.journal.close()
    assert paint.log == painted


def test_a_damaged_state_stops_everything(inventory: Inventory) -> None:
    paint = Paint()
    run(inventory, paint)
    (path,) = states.home(inventory).glob("*/state.json")
    path.write_text("{half")
    with pytest.raises(UserError, match=r"state\.json cannot be read"):
        run(inventory, paint, "blue")


def test_the_time_left_is_that_of_the_last_run(inventory: Inventory, capsys: pytest.CaptureFixture[str]) -> None:
    paint = Paint()
    run(inventory, paint)
    (done,) = states.every(inventory)
    done.seconds = {"a": 100.0, "b": 100.0, "c": 100.0}
    done.write()
    capsys.readouterr()
    run(inventory, paint, "blue")
    assert "(about 5:00 left)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plan", "--colour", "red"], HELD, "Paint b  about 0:02"),
        (["check", "--colour", "red"], HELD, "go: paint it red"),
        (["run", "--colour", "red"], HELD, "Nothing was touched"),
        (["rollback"], 2, "say --yes"),
        (["run", "--colour", "red", "--yes", "--no-load"], HELD, "paint it red: done."),
    ],
)
def test_the_verbs(inventory: Inventory, arguments: list[str], code: int, said: str) -> None:
    @click.group()
    def paint() -> None:
        pass

    cli.verbs(paint, Paint(), forward=[click.option("--colour", required=True)])
    result = CliRunner().invoke(paint, arguments, obj=inventory)
    assert result.exit_code == code, result.output
    assert said in result.output
    touched = "--yes" in arguments
    assert bool(list(states.home(inventory).glob("*/state.json"))) is touched


def test_the_verbs_speak_json(inventory: Inventory) -> None:
    @click.group()
    def group() -> None:
        pass

    paint = Paint()
    paint.dry_paint = False
    cli.verbs(group, paint, forward=[click.option("--colour", required=True)])
    result = CliRunner().invoke(group, ["run", "--colour", "red", "--yes", "--no-load", "--json"], obj=inventory)
    assert result.exit_code == VERDICT_FAILED
    answer = json.loads(result.stdout)
    assert (answer["status"], answer["held"], [p["title"] for p in answer["phases"]]) == (
        "done", False, ["Paint a", "Paint b", "Paint c"],
    )  # fmt: skip


def test_a_state_is_whole_on_disk(inventory: Inventory) -> None:
    folder = states.home(inventory) / "x"
    folder.mkdir()
    state = State("x", "paint", "lab", "story", {"n": 1}, "2026-01-01T00:00:00+00:00", folder=folder)
    state.done.append("a")
    state.write()
    assert states.every(inventory) == [state]
    assert [path.name for path in folder.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    ("direction", "done", "found"), [("forward", ["a", "b"], (130, False)), ("back", ["scrape"], (20, True))]
)
def test_the_time_that_it_took_is_a_promise(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch, direction: Any, done: list[str], found: tuple[int, bool]
) -> None:
    monkeypatch.setitem(inventory.objectives["changes"], "paint", {"seconds": 120, "seconds_back": 30})
    state = State("x", "paint", "lab", "story", {}, "2026-01-01T00:00:00+00:00", folder=states.home(inventory))
    state.direction, state.done, state.seconds = direction, done, {"a": 70.0, "b": 60.0, "scrape": 20.0}
    work = engine._Work(Stage(inventory, None), Paint(), state, Progress(), load=False, change=None)  # type: ignore[arg-type]
    work.journal.close()
    (promise,) = work._took()
    assert (promise.found, promise.held) == (f"{found[0]} s", found[1])
    monkeypatch.setitem(inventory.objectives["changes"], "paint", {})
    assert work._took() == []
