"""Two databases of a private PostgreSQL: blue is written, green follows by logical replication."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.types.string import TextLoader

from siasops.errors import UserError
from siasops.migrate.database import PREAMBLE, as_json
from tests.unit.drill.conftest import Server, private, wait_for

_number = itertools.count(1)

SCHEMA = """
CREATE TABLE person (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, born date, note bytea,
                     score double precision, seen timestamptz DEFAULT now());
CREATE TABLE membership (household integer, person bigint, since date, PRIMARY KEY (household, person, since));
CREATE TABLE "Odd ""name" (code text PRIMARY KEY, "Value" jsonb);
CREATE INDEX person_name ON person (name);
INSERT INTO person (name, born, note, score) SELECT 'N' || n, date '1950-01-01' + n, decode(md5(n::text), 'hex'), n / 7.0
  FROM generate_series(1, 1000) n;
INSERT INTO membership SELECT n % 100, n, date '2020-01-01' + n FROM generate_series(1, 1000) n;
INSERT INTO "Odd ""name" SELECT 'é''' || n, jsonb_build_object('a', n) FROM generate_series(1, 50) n;
"""


@dataclass(frozen=True)
class Direct:
    """A database that is asked directly, with the same session and the same wrapping as through SSH."""

    server: Server
    database: str

    @property
    def name(self) -> str:
        return self.database

    def ask(self, query: str) -> list[dict[str, Any]]:
        with self.server.connect(self.database) as connection:
            connection.execute(PREAMBLE.encode())
            row = connection.execute(as_json(query).encode()).fetchone()
            assert row is not None
            answer: list[dict[str, Any]] = json.loads(str(row[0]))
            return answer

    def do(self, statements: str) -> None:
        with self.server.connect(self.database) as connection:
            connection.execute(statements.encode())

    def raw(self, statements: str) -> list[str]:
        answers: list[str] = []
        try:
            with self.server.connect(self.database) as connection:
                connection.adapters.register_loader("json", TextLoader)
                cursor = connection.execute(statements.encode())
                while True:
                    answers += [str(row[0]) for row in cursor] if cursor.description else []
                    if not cursor.nextset():
                        return answers
        except psycopg.Error as error:
            raise UserError(f"{self.name}: {error}") from error

    def later(self, statements: str) -> None:
        def work() -> None:
            with suppress(psycopg.Error):  # the server's end is its end
                self.do(statements)

        threading.Thread(target=work, daemon=True).start()

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return self.server.connect(self.database)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("migrate")
    settings = ("wal_level=logical", "max_wal_senders=30", "max_replication_slots=30", "fsync=off", "autovacuum=off",
                "max_logical_replication_workers=12", "max_worker_processes=20", "shared_preload_libraries=pg_stat_statements",
                "wal_retrieve_retry_interval=100ms")  # fmt: skip
    with private(folder, *settings) as made:
        yield made


def fresh(server: Server, *, template: str = "template0", content: str = "") -> Direct:
    """A new database: a copy of `template`, then `content`."""
    database = Direct(server, f"d{next(_number)}")
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {database.database} TEMPLATE {template} STRATEGY file_copy".encode())
    if content:
        database.do(content)
    return database


def drop(database: Direct) -> None:
    with database.server.connect() as connection:
        connection.execute(f"DROP DATABASE {database.database} WITH (FORCE)".encode())


@dataclass(frozen=True)
class Pair:
    """Blue, and green that follows it."""

    blue: Direct
    green: Direct

    def caught_up(self) -> None:
        """Wait until green has applied everything that blue has committed."""
        now = self.blue.ask("SELECT pg_current_wal_lsn()::text AS now")[0]["now"]

        def there() -> bool:
            query = f"SELECT confirmed_flush_lsn >= '{now}' AS there FROM pg_replication_slots WHERE slot_name = '{self.slot}'"
            return bool(self.blue.ask(query)[0]["there"])

        wait_for(there)

    @property
    def slot(self) -> str:
        return f"follow_{self.blue.database}"

    @property
    def proof_slot(self) -> str:
        return f"proof_{self.blue.database}"


@pytest.fixture(scope="session")
def pattern(postgres: Server) -> Direct:
    """What every pair is copied from."""
    return fresh(postgres, content=SCHEMA)


@pytest.fixture
def still(postgres: Server, pattern: Direct) -> Iterator[Pair]:
    """Two equal databases that nothing connects."""
    pair = Pair(*(fresh(postgres, template=pattern.database) for _ in range(2)))
    yield pair
    drop(pair.green)
    drop(pair.blue)


@pytest.fixture
def flowing(still: Pair) -> Iterator[Pair]:
    """The same, green following blue, and a slot that remembers what is touched."""
    blue, green, port = still.blue, still.green, still.blue.server.port
    blue.do("CREATE PUBLICATION sias_migration FOR ALL TABLES")
    for slot in (still.slot, still.proof_slot):
        blue.ask(f"SELECT lsn::text FROM pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    where = f"host=127.0.0.1 port={port} user=postgres dbname={blue.database}"
    green.do(
        f"CREATE SUBSCRIPTION follow_{blue.database} CONNECTION '{where}' PUBLICATION sias_migration"
        f" WITH (create_slot = false, slot_name = {still.slot}, copy_data = false)"
    )
    yield still
    green.do(f"ALTER SUBSCRIPTION follow_{blue.database} DISABLE")
    green.do(f"ALTER SUBSCRIPTION follow_{blue.database} SET (slot_name = NONE)")
    green.do(f"DROP SUBSCRIPTION follow_{blue.database}")
    for slot in (still.slot, still.proof_slot):
        _drop_slot(blue, slot)


def _drop_slot(blue: Direct, slot: str) -> None:
    end = time.monotonic() + 10
    while blue.ask(f"SELECT 1 AS one FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"):
        assert time.monotonic() < end, f"{slot} is still read"
        time.sleep(0.05)
    blue.ask(f"SELECT pg_drop_replication_slot('{slot}')::text AS dropped")
