"""Bank and unique keys: few writes, whose sum and whose winners must be right in every snapshot.

    python -m siasops.drill.workloads.invariants < description.json

Bank: money moves between accounts in transactions of several statements; whoever looks, at the primary or at a replica,
finds the same sum. Claims: clients race for the same key, which has one winner, and every winner gets a number that
nobody else ever gets.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import psycopg

from siasops.drill.history import ACCOUNTS, OPENING, Outcome
from siasops.drill.workloads.base import Log, main, pause
from siasops.drill.workloads.session import READ_LIMIT, Session, limit, make_tables, said, transact, work_together

TABLES = {
    "drill.account": "CREATE TABLE drill.account (id int PRIMARY KEY, balance bigint NOT NULL)",
    "drill.transfer": "CREATE TABLE drill.transfer (run text, id text, PRIMARY KEY (run, id))",
    "drill.claim": (
        "CREATE TABLE drill.claim (run text, key text, client int NOT NULL,"
        " number bigint GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (run, key))"
    ),
}
MOVE = "UPDATE drill.account SET balance = balance + %s WHERE id = %s"
RECORD = "INSERT INTO drill.transfer (run, id) VALUES (%s, %s) RETURNING id"
CLAIM = "INSERT INTO drill.claim (run, key, client) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING RETURNING number"
SNAPSHOT = "SELECT host(inet_server_addr()), count(*), sum(balance) FROM drill.account"
TRANSFER_PERIOD = 0.5
CLAIM_PERIOD = 0.5
"""Seconds that a key is raced for."""
SNAPSHOT_PERIOD = 1.0
CONTENDERS = 3


async def move(description: dict[str, Any], log: Log, stop: asyncio.Event, home: str) -> None:
    """Move money, as one user of a room."""
    session = Session(description, home, description["database"], 0)
    dice = random.Random(f"{description['run']} {home}")  # noqa: S311 - which accounts, not a secret
    number = 0
    while not stop.is_set():
        begin = time.monotonic()
        number += 1
        source, target = dice.sample(range(ACCOUNTS), 2)
        amount = dice.randint(1, 9)
        name = f"{home}{number}"
        what = {"what": "transfer", "id": name, "home": home}
        await log.durable("intent", **what, source=source, target=target, amount=amount)

        async def body(
            connection: psycopg.AsyncConnection[Any],
            name: str = name,
            sides: tuple[tuple[int, int], ...] = tuple(sorted([(source, -amount), (target, amount)])),
        ) -> str | None:
            for account, change in sides:  # in their order: two that meet must not lock each other out
                await connection.execute(MOVE, (change, account))
            row = await (await connection.execute(RECORD, (description["run"], name))).fetchone()
            return str(row[0]) if row else None

        await _attempt(session, log, what, body)
        await pause(stop, TRANSFER_PERIOD - (time.monotonic() - begin))
    await session.close()


async def claim(description: dict[str, Any], log: Log, stop: asyncio.Event, client: int) -> None:
    """Race for the key of the moment."""
    rooms = sorted(description["rooms"])
    home = rooms[client % len(rooms)]
    session = Session(description, home, description["database"], client)
    key = 0
    while not stop.is_set():
        key = max(key + 1, int(time.monotonic() / CLAIM_PERIOD))  # never the same twice
        what = {"what": "claim", "id": f"{key}:{client}", "home": home}
        await log.durable("intent", **what, key=f"{key}", client=client)

        async def body(connection: psycopg.AsyncConnection[Any], key: int = key) -> int | None:
            row = await (await connection.execute(CLAIM, (description["run"], f"{key}", client))).fetchone()
            return int(row[0]) if row else None

        await _attempt(session, log, what, body)
        await pause(stop, (key + 1) * CLAIM_PERIOD - time.monotonic())
    await session.close()


async def _attempt(session: Session, log: Log, what: dict[str, Any], body: Any) -> None:
    try:
        outcome, why, value = await transact(session, body)
    except psycopg.Error as error:
        outcome, why, value = Outcome.FAILED, said(error), None
        await session.drop()
    log.note("outcome", **what, outcome=outcome, why=why, value=value)


async def watch(description: dict[str, Any], log: Log, stop: asyncio.Event, home: str, name: str) -> None:
    """Add all accounts up, again and again, for users of one room."""
    database = description["database"] if name == "sias" else description["replica_database"]
    session = Session(description, home, database, 0)
    while not stop.is_set():
        begin = time.monotonic()
        node, accounts, total, why = None, None, None, ""
        try:
            connection = await session.get()
            begin = time.monotonic()
            async with limit(connection, READ_LIMIT):
                row = await (await connection.execute(SNAPSHOT)).fetchone()
            if row is not None:
                node, accounts, total = row[0], row[1], int(row[2] or 0)
        except psycopg.Error as error:
            why = said(error)
            await session.drop()
        log.note(
            "snapshot", database=name, home=home, invoked=begin, node=node, accounts=accounts, total=total, why=why
        )
        await pause(stop, max(SNAPSHOT_PERIOD - (time.monotonic() - begin), 0.02))
    await session.close()


async def open_accounts(description: dict[str, Any]) -> None:
    """Fill the bank."""
    session = Session(description, next(iter(description["rooms"])), description["database"], 0)
    connection = await session.get()
    try:
        await connection.execute(
            "INSERT INTO drill.account SELECT n, %s FROM generate_series(0, %s - 1) n", (OPENING, ACCOUNTS)
        )
    finally:
        await session.close()


async def work(description: dict[str, Any], log: Log, stop: asyncio.Event) -> None:
    """Run everyone until told to stop."""
    await make_tables(description, TABLES)
    await open_accounts(description)
    rooms = sorted(description["rooms"])
    tasks = [move(description, log, stop, home) for home in rooms]
    tasks += [claim(description, log, stop, client) for client in range(CONTENDERS)]
    tasks += [watch(description, log, stop, home, name) for home in rooms for name in ("sias", "sias_ro")]
    await work_together(tasks, log)


if __name__ == "__main__":
    main("invariants", work)
