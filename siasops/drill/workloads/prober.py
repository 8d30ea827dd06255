"""Prober: requests of users at a scheduled rate, whether or not earlier ones were answered.

    python -m siasops.drill.workloads.prober < description.json

The schedule is fixed when it starts; latency counts from the intended start, so that a stall is felt by everyone who
would have come meanwhile. When too many requests are under way, a new one fails at once: a full pool is a failure.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Iterator
from typing import Any

import httpx

from siasops.drill.workloads.base import Log, main, pause
from siasops.drill.workloads.site import Site, SiteError, sentence, signed_out

POOL = 150
"""Requests under way at once; more means that users queue before the door."""
NAMES = ("Schmitt", "Muler", "Weber", "Klein", "Martin", "Meyer", "Wagner", "Shneider", "Becker", "Rossi")
"""What agents type: names of the region, two with a slip."""


class Prober:
    """Sends requests on schedule and logs each."""

    def __init__(self, description: dict[str, Any], log: Log, sites: dict[str, Site]) -> None:
        self.run: str = description["run"]
        self.log = log
        self.sites = sites
        self.people: list[str] = []
        self.random = random.Random(self.run)  # noqa: S311 - a mix of requests, not a secret
        self.under_way = 0

    def emit(self, group: asyncio.TaskGroup, kind: str, room: str, *, intended: float, number: int) -> None:
        """Begin a request, or fail it when the pool is full."""
        if self.under_way >= POOL:
            now = time.monotonic()
            self._note(kind, room, intended, now, ok=False, status=None, why="the pool is full", served_by="")
            return
        self.under_way += 1
        group.create_task(self._request(kind, room, intended, number))

    async def _request(self, kind: str, room: str, intended: float, number: int) -> None:
        site = self.sites[room]
        started = time.monotonic()
        status, why, served_by, ok = None, "", "", False
        try:
            answer = await self._send(site, kind, number)
            status, served_by = answer.status_code, answer.headers.get("X-SIAS-Host", "")
            away = signed_out(answer)
            ok = not away and status in ({302, 303} if kind == "write" else {200})
            if not ok:
                why = "signed out" if away else f"{status}"
            if away:
                await self._again(site)
        except httpx.HTTPError as error:
            why = sentence(error)
        finally:
            self.under_way -= 1
        self._note(kind, room, intended, started, ok=ok, status=status, why=why, served_by=served_by)

    async def _send(self, site: Site, kind: str, number: int) -> httpx.Response:
        if kind == "write":
            # A fictitious person, recognisable: the drill's own.
            return await site.post(
                "/personnes/nouvelle/",
                {
                    "birth_name": "EXERCICE",
                    "first_names": f"Sonde {number}",
                    "sex": "F" if number % 2 else "M",
                    "birth_date": f"{1950 + number % 50}-{1 + number % 12:02d}-{1 + number % 28:02d}",
                    "idempotency_key": f"{self.run}-{site.room}-{number}",
                },
            )
        if searches(number, len(self.sites)):
            return await site.http.get("/repertoire/", params={"q": self.random.choice(NAMES)})
        return await site.http.get(self.random.choice(self.people))

    async def _again(self, site: Site) -> None:
        try:
            await site.sign_in()
        except (SiteError, httpx.HTTPError) as error:
            self.log.note("sign-in", room=site.room, why=sentence(error))

    def _note(
        self,
        kind: str,
        room: str,
        intended: float,
        started: float,
        *,
        ok: bool,
        status: int | None,
        why: str,
        served_by: str,
    ) -> None:
        self.log.note(
            "request",
            kind=kind,
            room=room,
            intended=intended,
            started=started,
            ok=ok,
            status=status,
            why=why,
            served_by=served_by,
        )


def searches(number: int, rooms: int) -> bool:
    """Whether a reader searches, or opens a file: in turn, after each round of the rooms, so that each room does both."""
    return number // rooms % 2 == 1


def schedule(begin: float, rates: dict[str, float], rooms: list[str]) -> Iterator[tuple[float, str, str, int]]:
    """Give every arrival in order of time: when, kind, room, number. Kinds are interleaved, rooms take turns."""

    def arrivals(kind: str, rate: float, first: float) -> Iterator[tuple[float, str, str, int]]:
        for n in itertools.count():
            yield first + n / rate, kind, rooms[n % len(rooms)], n

    return heapq.merge(
        *(arrivals(kind, rate, begin + offset / 20) for offset, (kind, rate) in enumerate(sorted(rates.items())))
    )


async def work(description: dict[str, Any], log: Log, stop: asyncio.Event) -> None:
    """Send requests on schedule until told to stop."""
    sites = {room: Site(description, room) for room in description["rooms"]}
    prober = Prober(description, log, sites)
    for site in sites.values():
        await site.sign_in()
    prober.people = await next(iter(sites.values())).people()
    begin = time.monotonic() + 0.2
    log.note("schedule", begin=begin, rates=description["rates"])
    # A task that raises ends the workload, so that nobody takes its silence for success.
    async with asyncio.TaskGroup() as group:
        for intended, kind, room, number in schedule(begin, description["rates"], sorted(sites)):
            await pause(stop, intended - time.monotonic())
            if stop.is_set():
                break
            prober.emit(group, kind, room, intended=intended, number=number)
    for site in sites.values():
        await site.close()


if __name__ == "__main__":
    main("http", work)
