"""A model of the whole protocol, explored exhaustively: primary, standby, etcd and guard, in every order.

What is modelled, from Patroni 4.1.5's source (ha.py, dcs/etcd3.py):
- the primary's Patroni renews a *lease*, which does not look at the leader's key, and then works for the rest of the
  round on the cluster as it was when the round began;
- to write alone it first removes the standby from /sync (compare-and-swap on that key's revision) and then from
  synchronous_standby_names;
- a standby takes the leader's key only when it is absent, when /sync named it in the snapshot it acts on, and then
  writes /sync with the revision it has just read.
The primary may be alive, dead, or cut off from whom you like at any time: the model does not need to know why a message
is late, only that it may be.

Lost means: acknowledged by the primary, and not in the WAL of the standby that was promoted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

WRITES = 3


@dataclass(frozen=True)
class World:
    # etcd
    leader: str = "P"
    leader_revision: int = 1
    sync: bool = True  # /sync names S
    sync_revision: int = 1
    wish: bool = False  # /failover names S
    # the primary
    names: bool = True  # synchronous_standby_names has S
    written: int = 0
    acked: int = 0
    round: tuple[str, int, int] | None = None  # what Patroni of P saw when its round began: leader, revision, sync's
    dropped: bool = False  # this round has taken S out of /sync
    # the standby
    received: int = 0
    fenced: bool = False
    seen: tuple[bool, bool] | None = None  # S's snapshot: no leader, and named in /sync
    promoted: bool = False
    # the guard
    guard: str = "watching"
    read: tuple[int, int] = (0, 0)
    # etcd lets nobody lead twice on one history
    demoted: bool = False


@dataclass(frozen=True)
class Guard:
    """What may be left out to see that it is needed."""

    fences: bool = True
    compares_sync: bool = True
    moves_sync: bool = True


def steps(w: World, guard: Guard) -> Iterator[tuple[str, World]]:
    yield from primary(w)
    yield from standby(w)
    yield from witness(w, guard)


def primary(w: World) -> Iterator[tuple[str, World]]:
    if w.written < WRITES and not w.demoted:
        yield "P writes", replace(w, written=w.written + 1)
    if not w.demoted and w.acked < w.written and (not w.names or w.received > w.acked):
        # PostgreSQL answers COMMIT: alone, or when S has confirmed that write.
        yield "P acknowledges", replace(w, acked=w.acked + 1)
    if w.round is None:
        if w.leader == "P":  # the keys as they are; the lease is renewed and says nothing about them
            yield "P begins a round", replace(w, round=("P", w.leader_revision, w.sync_revision))
        elif w.leader == "":
            yield (
                "P takes the key back",
                replace(w, leader="P", leader_revision=w.leader_revision + 1, wish=False, round=None)
                if not w.demoted
                else w,
            )
        elif not w.demoted:
            yield "P sees another leader and steps down", replace(w, demoted=True)
        return
    if not w.dropped:
        if w.sync and w.sync_revision == w.round[2]:
            yield "P takes S out of /sync", replace(w, sync=False, sync_revision=w.sync_revision + 1, dropped=True)
        yield "P ends its round", replace(w, round=None)
    else:
        yield "P takes S out of synchronous_standby_names", replace(w, names=False, round=None, dropped=False)


def standby(w: World) -> Iterator[tuple[str, World]]:
    if w.received < w.written and not w.fenced and not w.promoted:
        yield "S receives", replace(w, received=w.received + 1)
    if w.fenced:
        yield "the fence ends", replace(w, fenced=False)
    if w.promoted:
        return
    if w.seen is None:
        yield "S looks", replace(w, seen=(w.leader == "", w.sync))
        return
    unlocked, named = w.seen
    if unlocked and named and w.leader == "":
        yield "S takes the key and promotes", replace(
            w, leader="S", leader_revision=w.leader_revision + 1, wish=False, promoted=True, seen=None,
            sync=False, sync_revision=w.sync_revision + 1,
        )  # fmt: skip
    yield "S lets it be", replace(w, seen=None)


def witness(w: World, guard: Guard) -> Iterator[tuple[str, World]]:
    if w.guard == "watching" and w.leader == "P" and w.sync:
        yield "G reads", replace(w, guard="read", read=(w.leader_revision, w.sync_revision))
    elif w.guard == "read":
        yield "G fences", replace(w, guard="fenced", fenced=guard.fences)
        yield "G forgets", replace(w, guard="watching")
    elif w.guard == "fenced":
        revision, sync_revision = w.read
        if (
            w.leader_revision == revision
            and w.leader == "P"
            and (not guard.compares_sync or w.sync_revision == sync_revision)
        ):
            yield "G releases", replace(
                w, guard="resting", leader="", wish=True,
                sync_revision=w.sync_revision + (1 if guard.moves_sync else 0),
            )  # fmt: skip
        yield "G is refused, or dies", replace(w, guard="resting")


def lost(w: World) -> bool:
    return w.promoted and w.acked > w.received


def explore(guard: Guard, *, acts: bool = True) -> tuple[int, list[str] | None]:
    """Visit every world; returns how many, and the steps to the first one in which a write is lost."""
    start = World(guard="watching" if acts else "resting")
    came_from: dict[World, tuple[World, str] | None] = {start: None}
    frontier = [start]
    while frontier:
        following = []
        for world in frontier:
            for name, after in steps(world, guard):
                if after in came_from:
                    continue
                came_from[after] = (world, name)
                if lost(after):
                    return len(came_from), _path(came_from, after)
                following.append(after)
        frontier = following
    return len(came_from), None


def _path(came_from: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    path: list[str] = []
    while (step := came_from[world]) is not None:
        world, name = step
        path.insert(0, name)
    return path


def test_no_order_of_events_loses_an_acknowledged_write() -> None:
    visited, path = explore(Guard())
    assert path is None, " → ".join(path or [])
    assert visited > 1000


@pytest.mark.parametrize(
    "guard",
    [Guard(compares_sync=False, moves_sync=False), Guard(moves_sync=False)],
    ids=["blind to /sync", "/sync left as it is"],
)
def test_the_model_finds_the_loss_when_a_part_of_the_transaction_is_left_out(guard: Guard) -> None:
    """The checker itself is tested: it must find the way to a loss that the transaction closes."""
    _, path = explore(guard)
    assert path is not None
    assert "G releases" in path
    assert "P takes S out of synchronous_standby_names" in path


def test_the_promotion_itself_is_a_fence() -> None:
    """Without the guard's fence nothing is lost either: it keeps the old primary from going on, not the writes safe."""
    _, path = explore(Guard(fences=False))
    assert path is None
