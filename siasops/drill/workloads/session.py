"""A user's way into the database: the own room's PgBouncer first, the other room's when that is gone, and home again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg

from siasops.drill.history import Outcome
from siasops.drill.workloads.base import Log
from siasops.drill.workloads.outcomes import of_commit, of_error

T = TypeVar("T")

OPERATION_LIMIT = 15.0
"""Seconds after which a client gives up an operation. Longer than any stall that should be waited for; a dead host is
noticed earlier, by TCP."""
READ_LIMIT = 1.0
"""Seconds after which a reader asks again: nothing is at stake in a read."""
NEXT_DOOR = 0.4
"""Seconds that a door may stay shut until the next one is tried beside it, as browsers do (RFC 8305)."""
HOME_AGAIN = 3.0
"""Seconds between two tries of a client away from home to return."""
ANSWER_LIMIT = 5.0
"""Seconds for the first answer through a door; longer than a failover, for which PgBouncer holds the question."""


@dataclass
class Door:
    """Where a client may enter: one application host's PgBouncer."""

    host: str
    address: str
    room: str


@dataclass
class Session:
    """A user's way in: home room first, then any other; remembers the connection between operations."""

    description: dict[str, Any]
    home: str
    database: str
    number: int
    door: Door | None = None
    connection: psycopg.AsyncConnection[Any] | None = None
    warnings: list[str] = field(default_factory=list)
    home_failed: float = float("-inf")
    returning: asyncio.Task[None] | None = None
    reopened: tuple[psycopg.AsyncConnection[Any], Door] | None = None
    """A connection at home that waits to be used again."""

    def doors(self) -> list[Door]:
        """Every door: those at home first, unless they were just found shut.

        Clients of one room start at different hosts.
        """
        rooms = self.description["rooms"]
        doors = {}
        for room, hosts in rooms.items():
            turn = self.number % len(hosts)
            doors[room] = [Door(h["host"], h["address"], room) for h in hosts[turn:] + hosts[:turn]]
        home = doors.pop(self.home)
        others = [door for room in sorted(doors) for door in doors[room]]
        return [*others, *home] if time.monotonic() - self.home_failed < HOME_AGAIN else [*home, *others]

    async def get(self) -> psycopg.AsyncConnection[Any]:
        """Return a connection, a fresh one where needed.

        Raises:
            psycopg.Error: no door opens.
        """
        if self.reopened is not None:
            await self.drop()
            (self.connection, self.door), self.reopened = self.reopened, None
        if self.connection is not None:
            return self.connection
        self.connection, self.door = await self._first_open()
        if self.door.room != self.home:
            self.home_failed = time.monotonic()
            if self.returning is None:
                self.returning = asyncio.create_task(self._return())
        return self.connection

    async def _first_open(self) -> tuple[psycopg.AsyncConnection[Any], Door]:
        """Try the doors in their order, each a moment after the one before; the first that opens is taken.

        Raises:
            psycopg.Error: none opens.
        """
        failure: psycopg.Error = psycopg.OperationalError("no application host is known")
        waiting = self.doors()
        trying: dict[asyncio.Task[psycopg.AsyncConnection[Any]], Door] = {}
        try:
            while waiting or trying:
                if waiting:
                    door = waiting.pop(0)
                    trying[asyncio.create_task(self._open(door))] = door
                ended, _ = await asyncio.wait(
                    trying, timeout=NEXT_DOOR if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in ended:
                    door = trying.pop(task)
                    try:
                        return task.result(), door
                    except psycopg.Error as error:
                        failure = error
        finally:
            for task in trying:
                task.cancel()
                task.add_done_callback(_close)
        raise failure

    async def _return(self) -> None:
        """Away from home: try its doors now and then, beside the work."""
        while True:
            await asyncio.sleep(HOME_AGAIN)
            home = next(door for door in self.doors() if door.room == self.home)
            with contextlib.suppress(psycopg.Error):
                self.reopened = await self._open(home), home
                self.returning = None
                return

    async def drop(self) -> None:
        """Give up the connection; the next `get` opens one."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                await connection.close()

    async def close(self) -> None:
        """End the session."""
        if self.returning is not None:
            self.returning.cancel()
        if self.reopened is not None:
            await self.reopened[0].close()
        await self.drop()

    async def _open(self, door: Door) -> psycopg.AsyncConnection[Any]:
        d = self.description
        connection = await psycopg.AsyncConnection.connect(
            # The certificate is checked against the name; hostaddr keeps name resolution out of the drill.
            host=door.host,
            hostaddr=door.address,
            port=d["port"],
            dbname=self.database,
            user=d["user"],
            password=d["password"],
            sslmode=d["sslmode"],
            sslrootcert=d["ca"],
            application_name="sias-drill",
            connect_timeout=2,
            # A dead machine answers nothing: TCP gives up after 3 s, while a live one may take its time.
            keepalives_idle=1,
            keepalives_interval=1,
            keepalives_count=2,
            tcp_user_timeout=3000,
            autocommit=True,
            prepare_threshold=None,  # transaction pooling
        )
        connection.add_notice_handler(self._notice)
        # PgBouncer opens its door also while no server stands behind it: a way in is one that answers.
        try:
            async with asyncio.timeout(ANSWER_LIMIT):
                await connection.execute("SELECT 1")
        except TimeoutError as error:
            sever(connection)
            raise psycopg.OperationalError(
                f"{door.host} opened, and nothing answered in {ANSWER_LIMIT:.0f} s"
            ) from error
        except BaseException:
            sever(connection)
            raise
        return connection

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized in {"WARNING", "ERROR", "FATAL"}:
            self.warnings.append(f"{notice.sqlstate} {notice.message_primary}")


def _close(task: asyncio.Task[psycopg.AsyncConnection[Any]]) -> None:
    """Let go of a connection that came too late."""
    if not task.cancelled() and task.exception() is None:
        sever(task.result())


@contextlib.asynccontextmanager
async def limit(connection: psycopg.AsyncConnection[Any], seconds: float) -> AsyncIterator[None]:
    """Cut the link when an operation takes too long.

    Never by cancelling: a cancelled COMMIT that waits for its standby returns as if it had succeeded.
    """
    timer = asyncio.get_running_loop().call_later(seconds, sever, connection)
    try:
        yield
    finally:
        timer.cancel()


def sever(connection: psycopg.AsyncConnection[Any]) -> None:
    """Shut the socket of a connection, from this side, without a word to the server."""
    with contextlib.suppress(OSError, psycopg.Error):
        link = socket.socket(fileno=os.dup(connection.fileno()))
        with link:
            link.shutdown(socket.SHUT_RDWR)


def said(error: BaseException) -> str:
    """Say an error in one short line, its SQLSTATE first when it has one."""
    words = " ".join(str(error).split())[:200] or type(error).__name__
    return " ".join(filter(None, [getattr(error, "sqlstate", None), words]))


async def transact(
    session: Session, body: Callable[[psycopg.AsyncConnection[Any]], Awaitable[T | None]]
) -> tuple[Outcome, str, T | None]:
    """Run a transaction and judge how it ended; rolled back when `body` returns None.

    Raises:
        psycopg.Error: no connection: nothing was sent.
    """
    connection = await session.get()
    value: T | None = None
    commit_sent = False
    session.warnings.clear()
    try:
        async with limit(connection, OPERATION_LIMIT):
            await connection.execute("BEGIN")
            value = await body(connection)
            if value is None:
                await connection.execute("ROLLBACK")
                return Outcome.FAILED, "what it needs is not there", None
            session.warnings.clear()
            commit_sent = True
            tag = (await connection.execute("COMMIT")).statusmessage
        return *of_commit(tag, session.warnings), value
    except psycopg.Error as error:
        if isinstance(error, psycopg.errors.IntegrityError) and not connection.closed:
            await _roll_back(session, connection)
        else:
            await session.drop()
        return of_error(error.sqlstate, commit_sent=commit_sent), said(error), value


async def _roll_back(session: Session, connection: psycopg.AsyncConnection[Any]) -> None:
    """Go on with the connection after an orderly refusal."""
    try:
        async with limit(connection, READ_LIMIT):
            await connection.execute("ROLLBACK")
    except psycopg.Error:
        await session.drop()


async def make_tables(description: dict[str, Any], tables: dict[str, str]) -> None:
    """Make the workload's tables where they are missing, and forget what earlier runs left in them.

    Raises:
        psycopg.Error: the platform does not take writes.
    """
    session = Session(description, next(iter(description["rooms"])), description["database"], 0)
    connection = await session.get()
    try:
        for name, statement in tables.items():
            # Creating what exists already takes no lock but asks for a privilege; look first.
            found = await (await connection.execute("SELECT to_regclass(%s)", (name,))).fetchone()
            if found is None or found[0] is None:
                await connection.execute(statement.encode())
        await connection.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY".encode())
    finally:
        await session.close()


async def work_together(tasks: list[Any], log: Log) -> None:
    """Wait for all; one that dies is logged and ends the process, so that nobody takes its silence for success."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except* Exception as errors:
        log.note("died", why="; ".join(repr(error) for error in errors.exceptions))
        raise
