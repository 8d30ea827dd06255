"""Faults: one small file each. A fault plans (reads only), starts, and heals; healing may be repeated, and works from a
fresh process with nothing but the plan, because the one that started the fault may have died.

What several faults share (signals, power, network, shells) stands in `siasops.drill.means`.
"""  # noqa: D205 - one sentence

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from siasops.cluster.view import Member, View
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.remote import Fleet

Plan = dict[str, Any]
"""What a fault will do, as plain data: recorded before it starts."""


@dataclass
class Stage:
    """Where a fault takes place."""

    inventory: Inventory
    fleet: Fleet
    say: Callable[[str], None] = lambda _: None
    """Told what takes long."""


class Fault(abc.ABC):
    """Something that breaks, and how it is mended."""

    name: ClassVar[str]
    """As in `sias drill run NAME` and in the objectives (with underscores)."""
    title: ClassVar[str]
    """One line: what happens."""
    expected: ClassVar[str]
    """What the platform is expected to do."""
    spares: ClassVar[str]
    """What it must never touch."""
    lasts: ClassVar[bool] = True
    """Whether what it breaks stays broken until it is healed, so that redundancy is counted from then."""
    takes_copies: ClassVar[bool] = False
    """Whether documents lose a copy as well, so that redundancy is back only when they are healed."""
    stops_writes: ClassVar[bool] = False
    """Whether nothing may be acknowledged while it is in force."""
    least: ClassVar[float] = 8.0
    """Seconds that it stays in force at least: longer than anything takes to notice it."""
    most: ClassVar[float] = 60.0
    """Seconds after which it is healed even though users still wait."""
    needs_lab: ClassVar[bool] = False
    """Whether it needs the power of the machines, which only a lab gives."""

    def unable(self, stage: Stage) -> str:
        """Say why it cannot be done here; empty when it can. Changes nothing that lasts."""
        if self.needs_lab and not stage.inventory.is_lab:
            return "it needs the power of the machines, which only a lab gives"
        return ""

    @abc.abstractmethod
    def plan(self, stage: Stage, view: View) -> Plan:
        """Choose the victims. Changes nothing.

        Raises:
            UserError: there is nothing to break.
        """

    def prepare(self, stage: Stage, plan: Plan) -> None:  # noqa: B027 - most need nothing
        """Make ready what it needs, before the load begins; `heal` undoes that as well."""

    @abc.abstractmethod
    def start(self, stage: Stage, plan: Plan) -> None:
        """Break it."""

    @abc.abstractmethod
    def heal(self, stage: Stage, plan: Plan) -> None:
        """Mend it; harmless when nothing is broken."""

    @abc.abstractmethod
    def describe(self, plan: Plan) -> str:
        """Say in one sentence what this plan breaks."""


def primary(view: View) -> Member:
    """Find the primary.

    Raises:
        UserError: nobody leads.
    """
    if view.leader is None:
        raise UserError("Nobody leads: there is no primary to break. See `sias cluster check`.")
    return view.leader


def standby(view: View) -> Member:
    """Find a synchronous standby of the other room.

    Raises:
        UserError: there is none.
    """
    leader = primary(view)
    sync = {s.host for s in leader.standbys if s.sync_state in {"sync", "quorum"}}
    for member in view.members:
        if member.host in sync and member.room != leader.room:
            return member
    raise UserError("No standby of the other room is synchronous. See `sias cluster check`.")


def front(view: View, room: str) -> str:
    """Find the application host that holds a room's address.

    Raises:
        UserError: nobody does.
    """
    for address in view.rooms:
        if address.room == room and address.holders:
            return address.holders[0]
    raise UserError(f"Nobody holds the address of room {room}. See `sias cluster check`.")


def other_room(stage: Stage, room: str) -> str:
    """Name a room that is not this one."""
    return next(letter for letter in stage.inventory.rooms if letter != room)


def hosts_of(stage: Stage, room: str) -> list[str]:
    """Name the hosts of a room, or of the witness site."""
    return [h.name for h in stage.inventory.hosts.values() if h.room == room]
