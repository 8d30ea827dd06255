"""The load beneath a change, and what it felt: the drills' own workloads, observer, checkers and report.

    watch = Watch(stage, "release", "20261201-190000-release-1", folder, progress)
    watch.start()
    ...                      # the change
    result = watch.judge(story, spans)

Offered only where drills are allowed: elsewhere there is no account for it, and real users are the load.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from siasops.cluster import instance
from siasops.console import Progress
from siasops.drill import report
from siasops.drill.faults import Stage
from siasops.drill.history import History, load
from siasops.drill.observer import Observer
from siasops.drill.run import AFTERMATH, BASELINE, READY_LIMIT, SAY_EVERY, converge, read_nodes
from siasops.drill.verdict import Moments, Promise, Result, Span, judge
from siasops.drill.workers import HTTP_RATES, Workers
from siasops.errors import UserError

SERVED_LIMIT = 180.0
"""Seconds for users who wait to be served again, before nothing more is taken away from them."""
LOOK_EVERY = 0.25


@dataclass(frozen=True)
class _Change:
    """A change as `judge` sees it: over when it ends, with documents to heal, and writers served throughout."""

    lasts: bool = True
    takes_copies: bool = True
    stops_writes: bool = False


class Watch:
    """Load from outside both rooms for as long as a change runs."""

    def __init__(self, stage: Stage, kind: str, run: str, folder: Path, progress: Progress) -> None:
        self.stage = stage
        self.kind = kind
        self.run = run
        self.folder = folder
        self.progress = progress
        self.workers = Workers(stage.inventory, run, folder)
        self._observer: Observer | None = None
        self._baseline = self._begin = 0.0

    def start(self) -> None:
        """Start the load, and wait until each kind of it has had a success, none is slow, and a few seconds more.

        Raises:
            UserError: a kind of load cannot be served.
        """
        instance.learn(self.stage.inventory, self.stage.fleet)
        self._observer = Observer(self.stage.inventory)
        self.workers.start()
        self.workers.wait_ready(READY_LIMIT)
        self.workers.wait_calm(self.progress.say)
        self._baseline = time.monotonic()
        time.sleep(BASELINE)
        self._begin = time.monotonic()

    def look(self) -> str:
        """Say how the load fares.

        Raises:
            UserError: a workload ended by itself.
        """
        return self.workers.look()

    def wait_served(self) -> None:
        """Wait until users are served in every way, without a break for a while.

        Raises:
            UserError: they are not in time; says which of them wait. Or a workload ended by itself.
        """
        began = spoken = time.monotonic()
        while True:
            said, waiting = self.workers.look(), self.workers.waiting(began)
            now = time.monotonic()
            if not waiting:
                return
            if now - began > SERVED_LIMIT:
                raise UserError(
                    f"users still wait after {SERVED_LIMIT:.0f} s ({', '.join(waiting)}), and nothing more is taken away from "
                    "them. `sias cluster check` says what is wrong; if every line holds, see whether hosts lack processor time."
                )
            if now - spoken >= SAY_EVERY:
                spoken = now
                self.progress.say(f"users wait: {', '.join(waiting)}; {said}")
            time.sleep(LOOK_EVERY)

    def history(self) -> History:
        """Everything that was felt so far."""
        return load(self.folder, {h.address: h.name for h in self.stage.inventory.hosts.values()})

    def stop(self) -> None:
        """End the load; harmless when it has ended."""
        self.workers.stop()
        if self._observer is not None:
            self._observer.stop()

    def judge(self, story: str, spans: Sequence[Span], more: Sequence[Promise] = ()) -> Result:
        """Wait until everything is as before, end the load, read every node back, judge, and write the report.

        Args:
            story: what the change was, in a sentence.
            spans: its phases.
            more: promises that do not follow from the load.

        Raises:
            UserError: it does not converge, or cannot be read back.
        """
        assert self._observer is not None  # noqa: S101 - `start` comes first
        inventory, ended = self.stage.inventory, time.monotonic()
        try:
            documents_back = converge(self.stage, self.progress)
            converged = time.monotonic()
            time.sleep(AFTERMATH)
        finally:
            end = time.monotonic()
            self.stop()
        ledgers, finals = read_nodes(self.stage, self.run, self.progress)
        moments = Moments(
            self._baseline,
            self._begin,
            self._begin,
            ended,
            converged,
            end,
            copies_back=self._observer.redundant_since(ended),
            documents_back=documents_back,
        )
        history = self.history()
        result = judge(
            Result(self.kind, self.run, inventory.environment, {}, story, moments, spans=list(spans), event="change"),
            history,
            ledgers,
            finals,
            fault=_Change(),
            expected_nodes=[h.name for h in inventory.group("databases")],
            rooms=list(inventory.rooms),
            rates=HTTP_RATES,
            objectives=inventory.objectives,
            limits=inventory.objectives["changes"][self.kind],
        )
        result.promises += more
        result.seconds = end - self._baseline
        report.write(self.folder, result, history, self._observer.sights)
        return result
