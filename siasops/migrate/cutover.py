"""The cutover: from one cluster to the other while clients wait, within a time limit, or back as if nothing had been.

Both clusters are never open at once: the new one is closed until the old one is, and a client comes to the new one only
after everything has been proven there. Until clients are let through nothing has been written to the new cluster but by
this, so that every step can be taken back; past the limit, it is. A process that dies leaves a record of what it kept
(`keep`), and `take_back` works from that alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, Protocol

from siasops.cluster.check import Line
from siasops.errors import UserError
from siasops.migrate import decision, fence, flow, proof, sequences
from siasops.migrate.changes import Touched
from siasops.migrate.database import Database
from siasops.migrate.flow import Names
from siasops.migrate.tables import tables

Side = Literal["from", "to"]


class Doors(Protocol):
    """Where clients come through: every PgBouncer, and what stands behind it."""

    def hold(self) -> None:
        """Make every client wait, when its transaction has ended. Lets all through again by itself when it cannot.

        Raises:
            UserError: a transaction did not end in time.
        """
        ...

    def point(self, to: Side) -> None:
        """Lead clients to one side from now on."""
        ...

    def release(self) -> None:
        """Let clients through; harmless when they are."""
        ...


@dataclass
class Move:
    """One database that moves, and how its rows flow meanwhile. `touched` knows every row since the whole proof."""

    name: str
    old: Database
    new: Database
    touched: Touched
    forward: str
    """The slot (on the old side) and subscription (on the new one) by which the new side follows."""
    back: str
    """The slot that is made on the new side, for the old one to follow from then on."""


@dataclass
class Moved:
    """What a cutover did."""

    held: bool
    sentence: str
    seconds: float = 0.0
    """That clients were held."""
    steps: list[tuple[str, float]] = field(default_factory=list)
    """What was done, and how long it took."""
    lines: list[Line] = field(default_factory=list)


def cut_over(
    moves: Sequence[Move],
    doors: Doors,
    *,
    limit: float,
    keep: Callable[[Mapping[str, Any]], None],
    say: Callable[[str], None] = lambda _: None,
) -> Moved:
    """Move every database to its new side.

    Args:
        moves: the databases; the new sides follow and are closed (`fence.close`), and have been proven as a whole.
        doors: where clients come through.
        limit: seconds that clients may be held; past it, everything goes back by itself.
        keep: told, durably, what `take_back` needs, before anything is touched.
        say: told when clients begin to wait.
    """
    run = _Run(moves, doors, limit)
    found: dict[str, Any] = {m.name: {"old": fence.access(m.old), "run": run.id} for m in moves}
    not_closed = [m.new.name for m in moves if not fence.closed(m.new)]
    if not_closed:
        raise UserError(f"{', '.join(not_closed)} would let clients in beside the old cluster: close it first.")
    keep(found)
    for m in moves:
        flow.slot(m.new, m.back)
        flow.forget(m.new, m.back)
        proof.settle(m.old, m.new, m.touched, run.known[m.name], partial(run.read, m))
    moved = Moved(False, "")
    run.each(lambda m: decision.watch(m.old, run.id, found[m.name]["old"], limit=limit))
    say(f"clients wait from now on, for {limit:g} s at most")
    begin = time.monotonic()
    run.until = begin + limit
    try:
        run.step("clients held", doors.hold)
        run.step("old cluster closed", lambda: run.each(lambda m: fence.close(m.old, found[m.name]["old"])))
        run.step("everything arrived", lambda: run.each(run.drain))
        run.step("touched rows compared", lambda: run.each(run.prove))
        run.step("sequences set", lambda: run.each(run.sequences))
        run.step("way back begun", lambda: run.each(run.turn))
        run.step("decided", lambda: run.each(run.decide))
        run.step("new cluster open", lambda: run.each(lambda m: fence.open_again(m.new, _access(m, found))))
        run.step("clients pointed to it", lambda: doors.point("to"))
    except BaseException as error:
        take_back(moves, doors, found)
        moved.seconds, moved.steps, moved.lines = time.monotonic() - begin, run.steps, run.lines
        moved.sentence = f"back on the old cluster, clients were held for {moved.seconds:.2f} s: {error}"
        if not isinstance(error, UserError):
            raise
        return moved
    doors.release()
    moved.held, moved.seconds = True, time.monotonic() - begin
    moved.steps, moved.lines = run.steps, run.lines
    moved.sentence = f"moved; clients were held for {moved.seconds:.2f} s"
    return moved


def take_back(moves: Sequence[Move], doors: Doors, found: Mapping[str, Any]) -> None:
    """Undo a cutover whose clients were not let through yet: old side open, new one closed, clients go on.

    Raises:
        UserError: a new side that may be open cannot be closed; the old one stays closed then.
    """
    try:
        for m in moves:
            # Decided for blue, the session that watches has nothing to do; decided for green, that may be open.
            if decision.decide(m.old, found[m.name]["run"], "from") != "from":
                fence.close(m.new, _access(m, found))
            fence.open_again(m.old, found[m.name]["old"])
        doors.point("from")
    finally:
        doors.release()
    for m in moves:
        flow.follow(m.new, "", m.forward, None)


def resolve(moves: Sequence[Move], doors: Doors, found: Mapping[str, Any]) -> bool:
    """End a cutover whose process died, from what it kept: forward when it was decided so, else back.

    Decided for the new side and taken back all the same (`take_back` may do so until clients are let through): then the old
    side is open, and has been written since. So that both must hold: the decision, and a door that is still closed.

    Returns:
        Whether the new side serves.
    """
    if not all(decision.decided(m.old, found[m.name]["run"]) == "to" and fence.closed(m.old) for m in moves):
        take_back(moves, doors, found)
        return False
    for m in moves:
        fence.open_again(m.new, _access(m, found))
    doors.point("to")
    doors.release()
    return True


def follow_back(move: Move, where: str) -> None:
    """After the cutover: the old side follows the new one, for the way back; the former flow ends."""
    flow.leave(move.new, move.forward)
    for name in (move.forward, Names(move.name).proof):
        flow.drop_slot(move.old, name)  # it would hold back the old side's log for ever
    flow.follow(move.old, where, move.back, None)


class _Run:
    """The steps of one cutover."""

    def __init__(self, moves: Sequence[Move], doors: Doors, limit: float) -> None:
        self.moves, self.doors, self.limit = moves, doors, limit
        self.until = 0.0
        self.id = datetime.now(UTC).isoformat()
        self.steps: list[tuple[str, float]] = []
        self.lines: list[Line] = []
        # Read before anybody waits.
        self.known = {m.name: {t.title: t for t in tables(m.old)} for m in moves}

    def step(self, what: str, act: Callable[[], object]) -> None:
        begin = time.monotonic()
        act()
        now = time.monotonic()
        self.steps.append((what, round(now - begin, 3)))
        if now > self.until:
            raise UserError(f"“{what}” ended past the limit of {self.limit:g} s")

    def each(self, act: Callable[[Move], object]) -> None:
        """Do it for every database at once."""
        with ThreadPoolExecutor(max_workers=len(self.moves)) as pool:
            list(pool.map(act, self.moves))

    def read(self, m: Move) -> None:
        m.touched.read(m.old, Names(m.name).proof, flow.PUBLICATION, self.known[m.name])

    def drain(self, m: Move) -> None:
        flow.drain(m.old, m.new, m.forward, "fence", deadline=max(0.1, self.until - time.monotonic()))

    def prove(self, m: Move) -> None:
        known = self.known[m.name]
        self.read(m)
        line = proof.final(proof.delta(m.old, m.new, m.touched, known)).line(
            f"Rows of {m.name} that were touched are the same", may_be_empty=False
        )  # the mark itself was touched: nothing compared means that the log was not read
        self.lines.append(line)
        if not line.ok:
            raise UserError(f"{line.what}: {line.found}")

    def sequences(self, m: Move) -> None:
        here = sequences.sequences(m.old)
        m.new.do(sequences.carry(here))
        line = sequences.carried(here, sequences.sequences(m.new), exact=True)
        self.lines.append(line)
        if not line.ok:
            raise UserError(f"{m.name}: {line.what}: {line.found}")

    def turn(self, m: Move) -> None:
        flow.rest(m.new, m.forward)
        flow.forget(m.new, m.back)

    def decide(self, m: Move) -> None:
        if decision.decide(m.old, self.id, "to") != "to":
            raise UserError(f"{m.old.name} has opened again by itself")


def _access(m: Move, found: Mapping[str, Any]) -> dict[str, Any]:
    """Who may come in on the new side: the same as on the old one; only the database's name is its own."""
    (row,) = m.new.ask("SELECT current_database()::text AS name")
    return {**found[m.name]["old"], "name": row["name"]}
