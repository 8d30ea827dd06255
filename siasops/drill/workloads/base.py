"""What workloads share: a durable operation log, and the description they are started with."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

COALESCE = 0.005
"""Seconds that a record may wait for others to share its fsync."""


class Log:
    """JSON lines, in order, made durable in batches."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._pending: list[bytes] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._closed = False
        self._task = asyncio.get_running_loop().create_task(self._flusher())

    def note(self, event: str, **fields: Any) -> None:
        """Log a record; it is durable a few milliseconds later. `t` is the monotonic clock unless given."""
        record = {"t": time.monotonic(), "e": event, **fields}
        self._pending.append(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        self._wake.set()

    async def durable(self, event: str, **fields: Any) -> None:
        """Log a record and return once it is on the disk: an intent, before anything is sent."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self.note(event, **fields)
        await done

    async def close(self) -> None:
        """Write what is left."""
        self._closed = True
        self._wake.set()
        await self._task
        self._file.close()

    async def _flusher(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._pending:
                await asyncio.sleep(COALESCE)
                lines, self._pending = self._pending, []
                waiting, self._waiting = self._waiting, []
                await asyncio.to_thread(self._sync, b"".join(lines))
                for future in waiting:
                    if not future.done():
                        future.set_result(None)
            if self._closed and not self._pending:
                return

    def _sync(self, lines: bytes) -> None:
        view = memoryview(lines)
        while view:
            view = view[self._file.write(view) :]
        os.fdatasync(self._file.fileno())


def main(name: str, work: Callable[[dict[str, Any], Log, asyncio.Event], Awaitable[None]]) -> None:
    """Run a workload: description from standard input, log in its folder, stop when standard input is closed."""
    asyncio.run(_main(name, work))


async def _main(name: str, work: Callable[[dict[str, Any], Log, asyncio.Event], Awaitable[None]]) -> None:
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    description = json.loads(await reader.readline())
    log = Log(Path(description["folder"]) / f"{name}.jsonl")
    stop = asyncio.Event()

    async def watch() -> None:
        await reader.read()
        stop.set()

    watcher = asyncio.create_task(watch())
    try:
        await work(description, log, stop)
        log.note("end")
    finally:
        watcher.cancel()
        await log.close()


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, or return at once when the workload is asked to stop."""
    if seconds > 0:
        try:
            await asyncio.wait_for(stop.wait(), seconds)
        except TimeoutError:
            return
