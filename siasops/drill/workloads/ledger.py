"""Ledger: many clients insert numbered, hash-chained rows through PgBouncer, as the application does, and log it.

    python -m siasops.drill.workloads.ledger < description.json

A client stands for users of a room: it uses that room's PgBouncer, moves to the other room's when its own is gone, and
goes home when it is back. After anything but an acknowledgement it reads its own last row and goes on from there; a
row is only accepted after its predecessor, so that nothing acknowledged can stand on a row that is lost.

Readers ask for every client's last sequence through `sias` (the primary) and `sias_ro` (a replica that may lag).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import psycopg

from siasops.drill.history import GENESIS, Outcome, chain_hash
from siasops.drill.workloads.base import Log, main, pause
from siasops.drill.workloads.outcomes import of_commit, of_error

OPERATION_LIMIT = 15.0
"""Seconds after which a client gives up an operation. Longer than any stall that should be waited for; a dead host is
noticed earlier, by TCP."""
READ_LIMIT = 5.0
HOME_AGAIN = 3.0
"""Seconds between two tries of a client away from home to return."""

INSERT = """
INSERT INTO drill.ledger (run, client, sequence, attempt, previous, hash)
SELECT %(run)s, %(client)s, %(sequence)s, %(attempt)s, %(previous)s, %(hash)s
WHERE %(sequence)s = 1 OR EXISTS (
    SELECT FROM drill.ledger
    WHERE run = %(run)s AND client = %(client)s AND sequence = %(sequence)s - 1 AND hash = %(previous)s)
RETURNING row_number, host(inet_server_addr()),
    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int
"""
LAST = "SELECT sequence, hash FROM drill.ledger WHERE run = %s AND client = %s ORDER BY sequence DESC LIMIT 1"
REGISTERS = """
SELECT host(inet_server_addr()), client, (
    SELECT sequence FROM drill.ledger WHERE run = %s AND ledger.client = c.client ORDER BY sequence DESC LIMIT 1)
FROM generate_series(0, %s - 1) AS c (client)
"""
TABLE = """
CREATE TABLE IF NOT EXISTS drill.ledger (
    row_number bigint GENERATED ALWAYS AS IDENTITY,
    run text NOT NULL,
    client int NOT NULL,
    sequence bigint NOT NULL,
    attempt int NOT NULL,
    previous text NOT NULL,
    hash text NOT NULL,
    PRIMARY KEY (run, client, sequence)
)
"""


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
        failure: psycopg.Error = psycopg.OperationalError("no application host is known")
        for door in self.doors():
            try:
                self.connection = await self._open(door)
            except psycopg.Error as error:
                failure = error
                if door.room == self.home:
                    self.home_failed = time.monotonic()
            else:
                self.door = door
                if door.room != self.home and self.returning is None:
                    self.returning = asyncio.create_task(self._return())
                return self.connection
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
        return connection

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized in {"WARNING", "ERROR", "FATAL"}:
            self.warnings.append(f"{notice.sqlstate} {notice.message_primary}")


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


class Writer:
    """One client of the ledger."""

    def __init__(self, description: dict[str, Any], log: Log, number: int, home: str) -> None:
        self.run: str = description["run"]
        self.period: float = description["period"]
        self.log = log
        self.number = number
        self.session = Session(description, home, description["database"], number)
        self.sequence = 1
        self.previous = GENESIS
        self.attempt = 0

    async def work(self, stop: asyncio.Event) -> None:
        """Insert until told to stop."""
        certain = True
        await pause(stop, self.period * self.number / self.session.description["clients"])  # not in step
        while not stop.is_set():
            begin = time.monotonic()
            try:
                connection = await self.session.get()
                if not certain:
                    await self.catch_up(connection)
                    certain = True
                certain = await self.insert(connection)
            except psycopg.Error as error:
                self.log.note("no connection", client=self.number, why=_sentence(error))
                await self.session.drop()
                await pause(stop, 0.1)
            await pause(stop, self.period - (time.monotonic() - begin))
        await self.session.close()

    async def catch_up(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Read this client's last row, and continue after it."""
        async with limit(connection, READ_LIMIT):
            last = await (await connection.execute(LAST, (self.run, self.number))).fetchone()
        self.sequence, self.previous = (last[0] + 1, last[1]) if last else (1, GENESIS)

    async def insert(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """Try one row; log intent and outcome. Returns whether it was acknowledged."""
        self.attempt += 1
        key = {"client": self.number, "sequence": self.sequence, "attempt": self.attempt}
        row_hash = chain_hash(self.previous, self.run, **key)
        door = self.session.door
        via = door.room if door else "?"
        await self.log.durable("intent", **key, hash=row_hash, home=self.session.home, via=via)
        values = {"run": self.run, **key, "previous": self.previous, "hash": row_hash}
        returned: tuple[Any, ...] | None = None
        commit_sent = False
        self.session.warnings.clear()
        try:
            async with limit(connection, OPERATION_LIMIT):
                await connection.execute("BEGIN")
                returned = await (await connection.execute(INSERT, values)).fetchone()
                if returned is None:
                    await connection.execute("ROLLBACK")
                    outcome, why = Outcome.FAILED, "predecessor is not there"
                else:
                    self.session.warnings.clear()
                    commit_sent = True
                    tag = (await connection.execute("COMMIT")).statusmessage
                    outcome, why = of_commit(tag, self.session.warnings)
        except psycopg.Error as error:
            outcome = of_error(error.sqlstate, commit_sent=commit_sent)
            why = " ".join(filter(None, [error.sqlstate, _sentence(error)]))
            await self.session.drop()
        row, node, timeline = returned or (None, None, None)
        self.log.note("outcome", **key, outcome=outcome, why=why, row=row, node=node, timeline=timeline)
        if outcome is Outcome.OK:
            self.sequence, self.previous = self.sequence + 1, row_hash
        return outcome is Outcome.OK


async def read(
    description: dict[str, Any], log: Log, stop: asyncio.Event, *, home: str, database: str, name: str
) -> None:
    """Read every client's last sequence, again and again, for users of one room."""
    session = Session(description, home, database, 0)
    while not stop.is_set():
        begin = time.monotonic()
        outcome, why, node, seen = Outcome.FAILED, "", None, None
        try:
            connection = await session.get()
            begin = time.monotonic()
            async with limit(connection, READ_LIMIT):
                cursor = await connection.execute(REGISTERS, (description["run"], description["clients"]))
                rows = await cursor.fetchall()
            outcome, node = Outcome.OK, rows[0][0]
            seen = {str(client): sequence or 0 for _, client, sequence in rows}
        except psycopg.Error as error:
            why = " ".join(filter(None, [error.sqlstate, _sentence(error)]))
            await session.drop()
        via = session.door.room if session.door else home
        log.note(
            "read", database=name, home=home, via=via, invoked=begin, outcome=outcome, node=node, seen=seen, why=why
        )
        await pause(stop, max(description["read_period"] - (time.monotonic() - begin), 0.02))
    await session.close()


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


async def prepare(description: dict[str, Any]) -> None:
    """Make the table, and forget the rows of earlier runs.

    Raises:
        psycopg.Error: the platform does not take writes.
    """
    session = Session(description, next(iter(description["rooms"])), description["database"], 0)
    connection = await session.get()
    try:
        # Creating what exists already takes no lock but asks for a privilege; look first.
        found = await (await connection.execute("SELECT to_regclass('drill.ledger')")).fetchone()
        if found is None or found[0] is None:
            await connection.execute(TABLE)
        await connection.execute("TRUNCATE drill.ledger RESTART IDENTITY")
    finally:
        await session.close()


async def work(description: dict[str, Any], log: Log, stop: asyncio.Event) -> None:
    """Run every writer and reader until told to stop."""
    await prepare(description)
    rooms = sorted(description["rooms"])
    writers = [Writer(description, log, n, rooms[n % len(rooms)]) for n in range(description["clients"])]
    tasks = [writer.work(stop) for writer in writers]
    for home in rooms:
        for name in ("sias", "sias_ro"):
            database = description["database"] if name == "sias" else description["replica_database"]
            tasks.append(read(description, log, stop, home=home, database=database, name=name))
    await _all(tasks, log)


async def _all(tasks: list[Any], log: Log) -> None:
    """Wait for all; one that dies is logged and ends the process, so that nobody takes its silence for success."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except* Exception as errors:
        log.note("died", why="; ".join(repr(error) for error in errors.exceptions))
        raise


if __name__ == "__main__":
    main("ledger", work)
