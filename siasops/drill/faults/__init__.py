"""Faults: one small file each. A fault plans (reads only), starts, and heals; healing may be repeated, and works from a
fresh process with nothing but the plan, because the one that started the fault may have died.
"""  # noqa: D205 - one sentence

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

from siasops.cluster.view import View
from siasops.inventory import Inventory
from siasops.remote import Fleet

Plan = dict[str, Any]
"""What a fault will do, as plain data: recorded before it starts."""


@dataclass
class Stage:
    """Where a fault takes place."""

    inventory: Inventory
    fleet: Fleet


class Fault(abc.ABC):
    """Something that breaks, and how it is mended."""

    name: ClassVar[str]
    """As in `sias drill run NAME` and in the objectives (with underscores)."""
    title: ClassVar[str]
    """One line: what happens."""
    expected: ClassVar[str]
    """What the platform is expected to do."""
    hold: ClassVar[float]
    """Seconds between the fault and its healing."""
    takes_machines: ClassVar[bool] = False
    """Whether documents lose a copy as well, so that redundancy is back only when they are healed."""
    needs_lab: ClassVar[bool] = False
    """Whether it needs the power of the machines, which only a lab gives."""

    @abc.abstractmethod
    def plan(self, stage: Stage, view: View) -> Plan:
        """Choose the victims. Changes nothing.

        Raises:
            UserError: there is nothing to break.
        """

    @abc.abstractmethod
    def start(self, stage: Stage, plan: Plan) -> None:
        """Break it."""

    @abc.abstractmethod
    def heal(self, stage: Stage, plan: Plan) -> None:
        """Mend it; harmless when nothing is broken."""

    @abc.abstractmethod
    def describe(self, plan: Plan) -> str:
        """Say in one sentence what this plan breaks."""
