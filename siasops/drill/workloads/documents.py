"""Documents: upload through one room's address, read back through both, compare the SHA-256.

    python -m siasops.drill.workloads.documents < description.json

An upload carries an idempotency key. As long as its fate is unknown the same upload is sent again, as a user would,
until the application says yes or no.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from typing import Any

import httpx

from siasops.drill.history import Outcome
from siasops.drill.workloads.base import Log, main, pause
from siasops.drill.workloads.outcomes import of_http_write
from siasops.drill.workloads.site import DOCUMENT, Site, SiteError, sentence, signed_out

SIZES = (2_000, 40_000, 200_000)
"""Bytes of the documents, in turn: a note, a page, a scan."""
AT_ONCE = 0.6
"""Seconds within which a document must be there in the other room: its row may still be on its way to that replica."""
RESEND = 1.0
"""Seconds between two tries of an upload whose fate is unknown."""


class Uploader:
    """Stores documents with one person's file, through the rooms in turn."""

    def __init__(self, description: dict[str, Any], log: Log, sites: dict[str, Site]) -> None:
        self.run: str = description["run"]
        self.log = log
        self.sites = sites
        self.person = ""
        self.stored: dict[int, tuple[str, str]] = {}

    async def upload(self, number: int, room: str, stop: asyncio.Event) -> None:
        """Store one document; log intent and outcome; read it back when it was acknowledged."""
        # A header that looks like the PDF it claims to be, then bytes that compress to nothing.
        body = b"%PDF-1.4\n% " + os.urandom(SIZES[number % len(SIZES)])
        digest = hashlib.sha256(body).hexdigest()
        await self.log.durable("intent", number=number, sha256=digest, room=room)
        key = f"{self.run}-document-{number}"
        sent = False
        tries: list[str] = []
        while True:
            try:
                outcome, path, why = await self._send(room, body, key)
            except httpx.ConnectError as error:
                # Nothing left this machine this time; an earlier try may have.
                outcome, path, why = Outcome.UNKNOWN, None, sentence(error)
            else:
                sent = True
            if why:
                tries.append(why)
            if outcome is not Outcome.UNKNOWN or stop.is_set():
                break
            await pause(stop, RESEND)
        if not sent:
            outcome = Outcome.FAILED
        self.log.note("outcome", number=number, outcome=outcome, path=path, why=", ".join(tries))
        if outcome is Outcome.OK and path:
            self.stored[number] = digest, path
            await asyncio.gather(*(self._until_read(number, room, AT_ONCE, final=False) for room in self.sites))

    async def _send(self, room: str, body: bytes, key: str) -> tuple[Outcome, str | None, str]:
        site = self.sites[room]
        try:
            answer = await site.post(
                f"{self.person}documents/",
                {"idempotency_key": key},
                {"fichier": (f"{key}.pdf", body, "application/pdf")},
            )
        except httpx.ConnectError:
            raise  # the caller's: nothing was sent
        except httpx.HTTPError as error:
            return Outcome.UNKNOWN, None, sentence(error)
        if signed_out(answer):
            await self._again(site)
            return Outcome.UNKNOWN, None, "signed out"
        outcome = of_http_write(answer.status_code, sent=True)
        if outcome is not Outcome.OK:
            return outcome, None, f"{answer.status_code}"
        found = DOCUMENT.search(answer.headers.get("Location", ""))
        if found is None:
            raise SiteError(f"an accepted upload names no document: {answer.headers.get('Location')}")
        return Outcome.OK, f"/documents/{found.group(1)}/", ""

    async def _again(self, site: Site) -> None:
        try:
            await site.sign_in()
        except (SiteError, httpx.HTTPError) as error:
            self.log.note("sign-in", room=site.room, why=sentence(error))

    async def _read(self, number: int, room: str) -> tuple[str | None, str]:
        """Read a document through a room: its SHA-256, or why there is none."""
        _, path = self.stored[number]
        digest, why = None, ""
        try:
            answer = await self.sites[room].http.get(path)
            if answer.status_code == 200:  # noqa: PLR2004 - HTTP
                digest = hashlib.sha256(answer.content).hexdigest()
            else:
                why = f"{answer.status_code}"
                if signed_out(answer):
                    await self._again(self.sites[room])
        except httpx.HTTPError as error:
            why = sentence(error)
        return digest, why

    async def read_everything(self, deadline: float) -> None:
        """Read every acknowledged document through every room, trying again until the deadline."""
        end = time.monotonic() + deadline
        for number in self.stored:
            left = max(0.0, end - time.monotonic())
            await asyncio.gather(*(self._until_read(number, room, left, final=True) for room in self.sites))

    async def _until_read(self, number: int, room: str, deadline: float, *, final: bool) -> None:
        """Read until it is there or the deadline has passed; the last answer is logged."""
        end = time.monotonic() + deadline
        while True:
            digest, why = await self._read(number, room)
            if digest is not None or time.monotonic() >= end:
                self.log.note("read", number=number, room=room, sha256=digest, final=final, why=why)
                return
            await asyncio.sleep(0.2)


async def work(description: dict[str, Any], log: Log, stop: asyncio.Event) -> None:
    """Upload at a steady pace until told to stop, then read everything back."""
    sites = {room: Site(description, room) for room in description["rooms"]}
    uploader = Uploader(description, log, sites)
    for site in sites.values():
        await site.sign_in()
    uploader.person = (await next(iter(sites.values())).people())[0]
    number = 0
    rooms = sorted(sites)
    # A task that raises ends the workload, so that nobody takes its silence for success.
    async with asyncio.TaskGroup() as group:
        while not stop.is_set():
            begin = time.monotonic()
            number += 1
            group.create_task(uploader.upload(number, rooms[number % len(rooms)], stop))
            await pause(stop, description["period"] - (time.monotonic() - begin))
    await uploader.read_everything(description["final_deadline"])
    for site in sites.values():
        await site.close()


if __name__ == "__main__":
    main("documents", work)
