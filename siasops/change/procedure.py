"""What a procedure is: it looks, says go or no-go, acts phase by phase, proves the result, and knows its way back.

The engine (`engine.py`) does the rest for every procedure alike: one change at a time, a state on disk after each phase,
resumption, the load beneath, the journal, the report.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from siasops.change.state import State
from siasops.change.watch import Watch
from siasops.cluster.check import Line
from siasops.console import Progress
from siasops.drill.faults import Stage
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.remote import Fleet


class GoBack(Exception):  # noqa: N818 - what to do, not what went wrong
    """Raised by a phase: what was seen says that the change must not go on; the engine takes the way back at once."""


@dataclass(frozen=True)
class Plan:
    """What a procedure would do. `facts` is plain data: it is kept on disk, and a resumed run goes on by it."""

    story: str
    facts: dict[str, Any] = field(default_factory=dict)
    nothing: str = ""
    """Why there is nothing to do; empty when there is."""


@dataclass
class Act:
    """What a phase works with."""

    stage: Stage
    plan: Plan
    state: State
    progress: Progress
    journal: Callable[..., float]
    """`journal("event", field=value)`: a line of the journal, durable before it returns; returns the monotonic clock."""
    watch: Watch | None
    """The load beneath, and what it felt so far; None when nothing is offered."""

    @property
    def inventory(self) -> Inventory:
        """The environment."""
        return self.stage.inventory

    @property
    def fleet(self) -> Fleet:
        """The connections to its hosts."""
        return self.stage.fleet

    def remember(self, **notes: Any) -> None:
        """Keep plain data for later phases, the way back, and a resumed run; durable before it returns."""
        self.state.notes.update(notes)
        self.state.write()


@dataclass(frozen=True)
class Phase:
    """One step of a procedure.

    `act` may be run again at any time, from its beginning, whatever an interrupted run of it left: it looks first.
    """

    key: str
    """Short and unique within the procedure; what the state on disk remembers."""
    title: str
    seconds: float
    """What it is expected to take in a lab; the last run's own time replaces it."""
    act: Callable[[Act], None]
    hosts: tuple[str, ...] = ()
    """Hosts that it takes out of service: their alerts of scope `service` are silenced while it works."""
    served: bool = False
    """It takes something away from users, so that on the way forward it begins only while they are served without it."""


class Procedure(abc.ABC):
    """A kind of change."""

    kind: ClassVar[str]
    """As in the state on disk, the calendar's records and `objectives.changes`."""
    command: ClassVar[str]
    """How it is called, for sentences that say what to do: `sias release`."""

    @abc.abstractmethod
    def plan(self, stage: Stage, wanted: Mapping[str, Any]) -> Plan:
        """Look and decide. Changes nothing.

        Args:
            stage: the environment and its hosts.
            wanted: the command's own options.

        Raises:
            UserError: it cannot be wanted here.
        """

    @abc.abstractmethod
    def check(self, stage: Stage, plan: Plan) -> Sequence[Line]:
        """Say go or no-go, a line for each thing that was looked at. Changes nothing."""

    @abc.abstractmethod
    def phases(self, plan: Plan) -> Sequence[Phase]:
        """List the way forward."""

    @abc.abstractmethod
    def back(self, plan: Plan) -> Sequence[Phase]:
        """List the way back from wherever the change stands: each phase is harmless where it has nothing to undo."""

    @abc.abstractmethod
    def verify(self, stage: Stage, plan: Plan) -> Sequence[Line]:
        """Prove the result. Changes nothing."""

    def plan_back(self, stage: Stage, last: State | None, wanted: Mapping[str, Any]) -> Plan:
        """Return the plan whose way back is taken when nothing is open: that of the last change of this kind.

        Args:
            stage: the environment and its hosts.
            last: that change; None when there was none.
            wanted: the command's own options.

        Raises:
            UserError: there is no way back from it any more.
        """
        del wanted
        if last is None:
            raise UserError(f"There is no {self.kind} in {stage.inventory.environment} to go back from.")
        if last.settled:
            raise UserError(f"{last.story} was settled on {last.settled}: there is no way back any more.")
        return Plan(last.story, last.facts)
