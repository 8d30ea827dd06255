"""Watches the database from outside during a drill: who leads, who follows, whether commits wait for the other room."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from siasops.cluster import instance
from siasops.cluster.client import Asker
from siasops.cluster.view import members_of
from siasops.inventory import Inventory

PERIOD = 0.5
"""Seconds between two looks."""


@dataclass(frozen=True)
class Sight:
    """One look. `redundant`: every database host streams on one timeline and the other room is synchronous."""

    at: float
    leader: str | None
    timeline: int | None
    redundant: bool


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

        A look that saw it unbroken ever since `start` answers `start`.
        """
        since: float | None = None
        for sight in list(self.sights):
            if sight.at >= start:
                since = (since if since is not None else sight.at) if sight.redundant else None
        return since

    def broke_after(self, start: float) -> bool:
        """Whether redundancy was seen to be gone at any time after `start`."""
        return any(not sight.redundant for sight in list(self.sights) if sight.at >= start)

    def _work(self) -> None:
        databases = self.inventory.group("databases")
        with Asker(self.inventory, timeout=1.0) as asker, ThreadPoolExecutor(len(databases)) as pool:
            while not self._stop.is_set():
                begin = time.monotonic()
                # Another one after a migration's cutover, in the middle of the watch.
                port = instance.of(self.inventory).serving.patroni
                found = pool.map(lambda h, port=port: asker.json(h.address, port, "/patroni"), databases)
                answers = dict(zip((h.name for h in databases), found, strict=True))
                self.sights.append(self._judge(time.monotonic(), answers))
                self._stop.wait(max(0.05, PERIOD - (time.monotonic() - begin)))

    def _judge(self, at: float, answers: dict[str, object]) -> Sight:
        members = members_of(self.inventory, answers)
        leading = [m for m in members if m.leads]
        if len(leading) != 1:
            return Sight(at, None, None, redundant=False)
        leader = leading[0]
        rooms = {m.host: m.room for m in members}
        streaming = {s.host: s for s in leader.standbys if s.state == "streaming"}
        follow = all(
            m.host in streaming and m.answers and m.timeline == leader.timeline for m in members if m is not leader
        )
        sync = [h for h, s in streaming.items() if s.sync_state in {"sync", "quorum"}]
        apart = any(rooms.get(h) != leader.room for h in sync)
        return Sight(
            at, leader.host, leader.timeline, follow and apart and len(sync) >= self.inventory.synchronous_count
        )
