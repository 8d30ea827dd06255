"""Runs procedures: one at a time, phase by phase, resumable, under load, with a journal and a report.

var/changes/<environment>/<id>/state.json      where it stands; written after every phase
                               journal.jsonl   what was done, one line each
                               <id>-<n>/       what the n-th process that worked on it measured, with its report
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from siasops import figures, remote
from siasops.calendar import records
from siasops.change import state as states
from siasops.change.procedure import Act, GoBack, Phase, Plan, Procedure
from siasops.change.state import State
from siasops.change.watch import Watch
from siasops.cluster.check import Line, healthy
from siasops.console import Progress, clock
from siasops.drill import active
from siasops.drill.faults import Stage
from siasops.drill.run import Journal, interruptible
from siasops.drill.verdict import Promise, Result, Span
from siasops.errors import VERDICT_FAILED, UserError
from siasops.inventory import Inventory
from siasops.silence import Silence

ASKED = "asked for"
"""Why a change goes back when `rollback` says so, and not a phase."""


@dataclass
class Outcome:
    """How a command on a change ended. `lines`: the checks that decided it; `felt`: what the load beneath felt."""

    held: bool
    sentence: str
    lines: Sequence[Line] = ()
    state: State | None = None
    felt: Result | None = None
    spans: list[Span] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain data, for `--json`."""
        return {
            "held": self.held,
            "sentence": self.sentence,
            "lines": [asdict(line) for line in self.lines],
            "change": None if self.state is None else self.state.id,
            "status": None if self.state is None else self.state.status,
            "phases": [asdict(span) for span in self.spans],
            "felt": None if self.felt is None else self.felt.as_json(),
        }


def plan(inventory: Inventory, procedure: Procedure, wanted: Mapping[str, Any]) -> tuple[Plan, list[Phase]]:
    """Say what `run` would do: the plan, and the phases that are left of it. Changes nothing."""
    with remote.connect(inventory) as fleet:
        stage = Stage(inventory, fleet)
        open_one = _ours(inventory, procedure)
        found = Plan(open_one.story, open_one.facts) if open_one else procedure.plan(stage, wanted)
    done = open_one.done if open_one and open_one.direction == "forward" else []
    return found, [phase for phase in procedure.phases(found) if phase.key not in done]


def check(
    inventory: Inventory, procedure: Procedure, wanted: Mapping[str, Any], say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Say go or no-go for `run`. Changes nothing. `say` is told what takes long."""
    with remote.connect(inventory) as fleet:
        stage = Stage(inventory, fleet, say)
        open_one = states.unfinished(inventory)
        if open_one is not None:
            line = Line(False, "No change stands half-way", _stands(open_one), _what_to_do(procedure, open_one))
            return Outcome(False, "no-go", [line], open_one)
        found = procedure.plan(stage, wanted)
        if found.nothing:
            return Outcome(True, found.nothing)
        lines = [Line(True, "No change stands half-way", "none"), *procedure.check(stage, found)]
    return Outcome(healthy(lines), f"go: {found.story}" if healthy(lines) else f"no-go: {found.story}", lines)


def verify(inventory: Inventory, procedure: Procedure) -> Outcome:
    """Prove the result of the last change of this kind again. Changes nothing.

    Raises:
        UserError: there was none.
    """
    last = states.latest(inventory, procedure.kind)
    if last is None:
        raise UserError(f"No {procedure.kind} has come to its end in {inventory.environment}; nothing to verify.")
    with remote.connect(inventory) as fleet:
        lines = list(procedure.verify(Stage(inventory, fleet), Plan(last.story, last.facts)))
    return Outcome(healthy(lines), f"{last.id}: {last.story}", lines, last)


def run(
    inventory: Inventory,
    procedure: Procedure,
    wanted: Mapping[str, Any],
    *,
    progress: Progress,
    load: bool = True,
    change: str | None = None,
) -> Outcome:
    """Do it, or go on with it where an interrupted run stopped.

    Args:
        inventory: the environment.
        procedure: what kind of change.
        wanted: the command's own options; a resumed run goes on by those that it began with.
        progress: told every phase, with the time that is left.
        load: offer load beneath and judge what it felt; only where drills are allowed.
        change: the calendar's identifier.

    Raises:
        UserError: it may not begin, or a phase failed; says how to go on and how to go back.
    """
    with _session(inventory, progress.say) as stage:
        state = _ours(inventory, procedure)
        if state is not None and state.direction == "back":
            raise UserError(f"{_stands(state)}. `{procedure.command} rollback` finishes the way back.")
        if state is None:
            found = procedure.plan(stage, wanted)
            if found.nothing:
                return Outcome(True, found.nothing)
            with progress.step(f"Go or no-go: {found.story}"):
                lines = list(procedure.check(stage, found))
                if not healthy(lines):
                    return Outcome(False, f"no-go, nothing was touched: {found.story}", lines)
            state = _begin(inventory, procedure, found)
        else:
            progress.say(f"going on with {_stands(state)}")
        return _Work(stage, procedure, state, progress, load=load, change=change).forward()


def rollback(
    inventory: Inventory,
    procedure: Procedure,
    wanted: Mapping[str, Any],
    *,
    progress: Progress,
    load: bool = True,
    change: str | None = None,
) -> Outcome:
    """Go back: from a change that stands half-way, else from the last one of this kind that came to its end.

    Raises:
        UserError: there is nothing to go back from, or a phase failed; the same command goes on.
    """
    with _session(inventory, progress.say) as stage:
        state = _ours(inventory, procedure)
        if state is None:
            last = states.latest(inventory, procedure.kind)
            found = procedure.plan_back(stage, last, wanted)
            if found.nothing:
                return Outcome(True, found.nothing)
            state = _begin(inventory, procedure, found)
            state.notes = dict(last.notes) if last else {}
        if state.direction == "forward":
            _turn(state, ASKED)
        return _Work(stage, procedure, state, progress, load=load, change=change).backward()


class _Work:
    """One process's work on a change."""

    def __init__(
        self, stage: Stage, procedure: Procedure, state: State, progress: Progress, *, load: bool, change: str | None
    ) -> None:
        self.stage = stage
        self.procedure = procedure
        self.state = state
        self.progress = progress
        self.change = change
        self.plan = Plan(state.story, state.facts)
        self.spans: list[Span] = []
        state.attempts += 1
        state.write()
        run = f"{state.id}-{state.attempts}"
        self.folder = state.folder / run
        self.folder.mkdir(exist_ok=True)
        self.journal = Journal(state.folder / "journal.jsonl")
        offered = load and stage.inventory.drills_allowed
        self.watch = Watch(stage, procedure.kind, run, self.folder, progress) if offered else None
        comment = f"{state.id}: {state.story}"
        self.silence = Silence(stage.inventory, stage.fleet, by=procedure.command, comment=comment, say=progress.say)

    def forward(self) -> Outcome:
        return self._recorded(self._forward)

    def backward(self) -> Outcome:
        # Whatever it first went back for, somebody asks for it now, and it was interrupted since.
        return self._recorded(lambda: self._backward(ASKED))

    def _forward(self) -> Outcome:
        try:
            self._go(self.procedure.phases(self.plan), self.procedure.back(self.plan))
        except GoBack as reason:
            self.progress.say(f"going back: {reason}")
            self.journal.note("goes back", why=str(reason))
            _turn(self.state, str(reason))
            return self._backward(str(reason))
        with self.progress.step("Verify"):
            lines = list(self.procedure.verify(self.stage, self.plan))
        felt = self._felt()
        held = healthy(lines) and (felt is None or felt.held)
        self._end("done")
        return Outcome(held, self._sentence("done", lines, felt), lines, self.state, felt, self.spans)

    def _backward(self, why: str) -> Outcome:
        self._go(self.procedure.back(self.plan), ())
        felt = self._felt()
        self._end("rolled back")
        asked = why == ASKED
        held = asked and (felt is None or felt.held)
        return Outcome(held, self._sentence("taken back" if asked else f"taken back: {why}", [], felt), [],
                       self.state, felt, self.spans)  # fmt: skip

    def _go(self, phases: Sequence[Phase], way_back: Sequence[Phase]) -> None:
        """Go through the phases that are left.

        Raises:
            UserError: one failed; says how to go on.
            GoBack: one says that the change must not go on.
        """
        expected = self._expected(phases)
        left = [phase for phase in phases if phase.key not in self.state.done]
        # Forward there is the verdict beside them, and where load is offered what it felt.
        after = (1 if way_back else 0) + (1 if self.watch is not None else 0)
        self.progress.total, self.progress.done = len(phases) + after, len(phases) - len(left)
        act = Act(self.stage, self.plan, self.state, self.progress, self.journal.note, self.watch)
        for number, phase in enumerate(left):
            remaining = sum(expected[p.key] for p in left[number:])
            with self.progress.step(f"{phase.title}   (about {clock(remaining)} left)"):
                begin = self.journal.note("phase starts", phase=phase.key, direction=self.state.direction)
                self.silence.cover(phase.hosts)
                try:
                    if phase.served and self.watch is not None and self.state.direction == "forward":
                        self.watch.wait_served()
                    phase.act(act)
                    if self.watch is not None:
                        self.progress.say(self.watch.look())
                except GoBack:
                    self.spans.append(Span(phase.title, begin, time.monotonic()))
                    raise
                except BaseException as error:
                    raise self._stopped(phase, error, can_go_back=bool(way_back)) from error
            end = self.journal.note("phase ends", phase=phase.key)
            self.spans.append(Span(phase.title, begin, end))
            self.state.done.append(phase.key)
            self.state.seconds[phase.key] = round(end - begin, 2)
            self.state.write()
        self.silence.cover([])

    def _stopped(self, phase: Phase, error: BaseException, *, can_go_back: bool) -> UserError:
        command = self.procedure.command
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        self.state.why = f"{phase.title}: {why}"
        self.state.write()
        self.journal.note("stopped", phase=phase.key, why=why)
        forward = self.state.direction == "forward"
        ways = f"`{command} {'run' if forward else 'rollback'}` goes on from there"
        if can_go_back:
            ways += f"; `{command} rollback` goes back"
        return UserError(f"{self.state.id} stopped at “{phase.title}”: {why}\n{ways}. Journal: {self.state.folder}")

    def _expected(self, phases: Sequence[Phase]) -> dict[str, float]:
        before = states.latest(self.stage.inventory, self.procedure.kind)
        return {p.key: (before.seconds.get(p.key) if before else None) or p.seconds for p in phases}

    def _felt(self) -> Result | None:
        if self.watch is None:
            return None
        with self.progress.step("Wait until everything is as before; read every node back; judge what users felt"):
            return self.watch.judge(self.state.story, self.spans, self._took())

    def _took(self) -> list[Promise]:
        """Compare the time that the phases took, all processes that worked on it together, with its objective."""
        key = "seconds" if self.state.direction == "forward" else "seconds_back"
        limit = self.stage.inventory.objectives["changes"][self.procedure.kind].get(key)
        if limit is None:
            return []
        took = sum(self.state.seconds[phase] for phase in self.state.done)
        return [Promise("Time that its phases took", f"{took:.0f} s", f"at most {limit} s", took <= limit)]

    def _end(self, status: states.Status) -> None:
        self.state.status = status
        self.state.write()
        self.journal.note("ended", status=status)

    def _sentence(self, how: str, lines: Sequence[Line], felt: Result | None) -> str:
        wrong = [f"{line.what}: {line.found}" for line in lines if not line.ok]
        wrong += [f"{p.what}: {p.found}, {p.objective} promised" for p in (felt.promises if felt else []) if not p.held]
        wrong += [finding.text for finding in (felt.findings if felt else [])]
        if felt is not None and not felt.valid:
            wrong.append("the load was not fully offered, so its figures say nothing")
        return f"{self.state.story}: {how}" + (f", but {'; '.join(wrong)}" if wrong else "") + "."

    def _recorded(self, work: Callable[[], Outcome]) -> Outcome:
        state, inventory = self.state, self.stage.inventory
        try:
            with (
                figures.recording(inventory, kind=state.kind, what=state.story, change=self.change) as entry,
                self.silence,
            ):
                if self.watch is not None:
                    with self.progress.step("Load from outside both rooms"):
                        self.watch.start()
                outcome = work()
                entry.outcome = "done" if state.status == "done" else "rolled back"
                entry.why = "" if outcome.held else outcome.sentence
                entry.report = str(self.folder / "report.html") if outcome.felt else ""
                entry.felt = _felt_of(outcome.felt)
            return outcome
        finally:
            if self.watch is not None:
                self.watch.stop()
            self.journal.close()


def _felt_of(felt: Result | None) -> records.Felt:
    if felt is None:
        return records.Felt()
    http = felt.figures["http"].values()
    return records.Felt(
        requests=sum(h["requests"] for h in http),
        failed=felt.figures["http_failed"],
        slow=sum(h["slow"] for h in http),
        writes_held=felt.figures["write_gap"],
    )


def _begin(inventory: Inventory, procedure: Procedure, found: Plan) -> State:
    now = datetime.now(UTC)
    name = f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}-{procedure.kind}"
    folder = states.home(inventory) / name
    folder.mkdir()
    state = State(name, procedure.kind, inventory.environment, found.story, dict(found.facts),
                  now.isoformat(timespec="seconds"), folder=folder)  # fmt: skip
    state.write()
    return state


def _turn(state: State, why: str) -> None:
    state.direction, state.done, state.why = "back", [], why
    state.write()


def _ours(inventory: Inventory, procedure: Procedure) -> State | None:
    """Return the change of this kind that stands half-way.

    Raises:
        UserError: one of another kind does.
    """
    state = states.unfinished(inventory)
    if state is not None and state.kind != procedure.kind:
        raise UserError(
            f"{_stands(state)}. Go on with it or take it back first: no other change may begin.", VERDICT_FAILED
        )
    return state


def _stands(state: State) -> str:
    after = f"after phase {state.done[-1]}" if state.done else "before its first phase"
    way = "on its way back, " if state.direction == "back" else ""
    return f"{state.id} ({state.story}) stands half-way, {way}{after}" + (f": {state.why}" if state.why else "")


def _what_to_do(procedure: Procedure, state: State) -> str:
    if state.kind != procedure.kind:
        return "Go on with it or take it back first."
    return f"`{procedure.command} run` goes on, `{procedure.command} rollback` goes back."


@contextmanager
def _session(inventory: Inventory, say: Callable[[str], None]) -> Iterator[Stage]:
    """Be the only one who acts here, connected to every host; SIGTERM stops like Ctrl-C, between two lines of a phase."""
    left = active.read(inventory)
    if left is not None:
        raise UserError(f"A drill's fault is in force ({left.name} of {left.run}): `sias drill heal` first.")
    with active.only_one(inventory), interruptible(), remote.connect(inventory) as fleet:
        yield Stage(inventory, fleet, say)


def ignore_hangup() -> None:
    """Outlive the terminal that a long change was started from."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
