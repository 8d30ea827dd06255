"""Watches the database from outside during a drill: who leads, who follows, whether commits wait for the other room."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from siasops.cluster import instance
from siasops.cluster.client import Asker
from siasops.cluster.view import ask_patroni, members_of
from siasops.inventory import Inventory

PERIOD = 0.5
"""Seconds between two looks."""
BLIND = 3.0
"""Seconds that a host may give no answer before redundancy counts as gone: a busy host answers late, a dead one never."""


@dataclass(frozen=True)
class Sight:
    """One look. `redundant`: every database host streams on one timeline and the other room is synchronous.

    None is "not seen": a host on which the answer depends gave none in time.
    """

    at: float
    leader: str | None
    timeline: int | None
    redundant: bool | None


class Observer:
    """Looks twice a second in a thread of its own, from construction until `stop`."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.sights: list[Sight] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._stop.set()
        self._thread.join(5)

    def redundant_since(self, start: float) -> float | None:
        """Return the moment after `start` since which redundancy has held without a break, None when it does not.

        A look that saw it unbroken ever since `start` answers `start`. A look that saw nothing is no break by itself,
        but `BLIND` seconds of them are.
        """
        since: float | None = None
        seen = start
        for sight in list(self.sights):
            if sight.at < start:
                continue
            if sight.redundant is False or sight.at - seen > BLIND:
                since = None
            if sight.redundant is not None:
                seen = sight.at
            if sight.redundant and since is None:
                since = sight.at
        return since

    def _work(self) -> None:
        with Asker(self.inventory, timeout=1.0) as asker:
            while not self._stop.is_set():
                begin = time.monotonic()
                # Another one after a migration's cutover, in the middle of the watch.
                port = instance.of(self.inventory).serving.patroni
                answers = ask_patroni(self.inventory, asker, port)
                self.sights.append(judge(self.inventory, time.monotonic(), answers))
                self._stop.wait(max(0.05, PERIOD - (time.monotonic() - begin)))


def judge(inventory: Inventory, at: float, answers: dict[str, object]) -> Sight:
    """Return what the database hosts' answers to Patroni's `/patroni` say (None = a host gave none)."""
    members = members_of(inventory, answers)
    silent = [m for m in members if not m.answers]
    leading = [m for m in members if m.leads]
    if len(leading) != 1:
        return Sight(at, None, None, redundant=None if silent and not leading else False)
    leader = leading[0]
    rooms = {m.host: m.room for m in members}
    streaming = {s.host: s for s in leader.standbys if s.state == "streaming"}
    sync = [h for h, s in streaming.items() if s.sync_state in {"sync", "quorum"}]
    apart = any(rooms.get(h) != leader.room for h in sync)
    follow = all(
        m.host in streaming and (m in silent or m.timeline == leader.timeline) for m in members if m is not leader
    )
    whole = follow and apart and len(sync) >= inventory.synchronous_count
    return Sight(at, leader.host, leader.timeline, redundant=None if whole and silent else whole)
