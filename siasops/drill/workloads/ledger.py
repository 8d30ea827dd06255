"""Ledger: many clients insert numbered, hash-chained rows through PgBouncer, as the application does, and log it.

    python -m siasops.drill.workloads.ledger < description.json

A client stands for users of a room: it uses that room's PgBouncer, moves to the other room's when its own is gone, and
goes home when it is back. After anything but an acknowledgement it reads its own last row and goes on from there; a
row is only accepted after its predecessor, so that nothing acknowledged can stand on a row that is lost.

Readers ask for every client's last sequence through `sias` (the primary) and `sias_ro` (a replica that may lag).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg

from siasops.drill.history import GENESIS, Outcome, chain_hash
from siasops.drill.workloads.base import Log, main, pause
from siasops.drill.workloads.session import READ_LIMIT, Session, limit, make_tables, said, transact, work_together

INSERT = """
INSERT INTO drill.ledger (run, client, sequence, attempt, previous, hash)
SELECT %(run)s, %(client)s, %(sequence)s, %(attempt)s, %(previous)s, %(hash)s
WHERE %(sequence)s = 1 OR EXISTS (
    SELECT FROM drill.ledger
    WHERE run = %(run)s AND client = %(client)s AND sequence = %(sequence)s - 1 AND hash = %(previous)s)
RETURNING row_number, host(inet_server_addr()),
    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int
    + 100000 * (current_setting('cluster_name') LIKE '%%-green')::int
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
                certain = await self.insert()
            except psycopg.Error as error:
                self.log.note("no connection", client=self.number, why=said(error))
                await self.session.drop()
                await pause(stop, 0.1)
            await pause(stop, self.period - (time.monotonic() - begin))
        await self.session.close()

    async def catch_up(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Read this client's last row, and continue after it."""
        async with limit(connection, READ_LIMIT):
            last = await (await connection.execute(LAST, (self.run, self.number))).fetchone()
        self.sequence, self.previous = (last[0] + 1, last[1]) if last else (1, GENESIS)

    async def insert(self) -> bool:
        """Try one row; log intent and outcome. Returns whether it was acknowledged."""
        self.attempt += 1
        key = {"client": self.number, "sequence": self.sequence, "attempt": self.attempt}
        row_hash = chain_hash(self.previous, self.run, **key)
        door = self.session.door
        via = door.room if door else "?"
        await self.log.durable("intent", **key, hash=row_hash, home=self.session.home, via=via)
        values = {"run": self.run, **key, "previous": self.previous, "hash": row_hash}

        async def body(connection: psycopg.AsyncConnection[Any]) -> tuple[Any, ...] | None:
            return await (await connection.execute(INSERT, values)).fetchone()

        outcome, why, returned = await transact(self.session, body)
        row, node, timeline = returned or (None, None, None)
        self.log.note(
            "outcome",
            **key,
            home=self.session.home,
            outcome=outcome,
            why=why,
            row=row,
            node=node,
            timeline=timeline,
        )
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
            why = said(error)
            await session.drop()
        via = session.door.room if session.door else home
        log.note(
            "read", database=name, home=home, via=via, invoked=begin, outcome=outcome, node=node, seen=seen, why=why
        )
        await pause(stop, max(description["read_period"] - (time.monotonic() - begin), 0.02))
    await session.close()


async def work(description: dict[str, Any], log: Log, stop: asyncio.Event) -> None:
    """Run every writer and reader until told to stop."""
    await make_tables(description, {"drill.ledger": TABLE})
    rooms = sorted(description["rooms"])
    writers = [Writer(description, log, n, rooms[n % len(rooms)]) for n in range(description["clients"])]
    tasks = [writer.work(stop) for writer in writers]
    for home in rooms:
        for name in ("sias", "sias_ro"):
            database = description["database"] if name == "sias" else description["replica_database"]
            tasks.append(read(description, log, stop, home=home, database=database, name=name))
    await work_together(tasks, log)


if __name__ == "__main__":
    main("ledger", work)
