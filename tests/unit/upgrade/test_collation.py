"""Whether text sorts as before, and whether indexes are whole, against a real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from siasops.errors import UserError
from siasops.migrate.database import _ByPsql
from siasops.remote import Result
from siasops.upgrade import collation
from tests.unit.drill.conftest import Server, private

FRENCH = 'pg_catalog."fr-x-icu"'
CONTENT = """
CREATE EXTENSION amcheck SCHEMA pg_catalog;
CREATE TABLE person (id bigint PRIMARY KEY, name text NOT NULL, first_name text, note text COLLATE "fr-x-icu", born date);
INSERT INTO person SELECT n, (ARRAY['Müller', 'Muller', 'mueller', 'Éloi', 'Eloi', 'Zoé'])[n % 6 + 1] || n, 'F' || n % 7,
  (ARRAY['côte', 'Cote', 'coté', 'côté', 'COTE', 'zone'])[n % 6 + 1] || n % 500 FROM generate_series(1, 20000) n;
CREATE INDEX person_name ON person (name, first_name);
CREATE INDEX person_note ON person (note);
CREATE TABLE empty (code text PRIMARY KEY);
ANALYZE;
"""


@dataclass(frozen=True)
class Local(_ByPsql):
    """A database of the private server, asked through psql as on a host."""

    server: Server
    database: str

    @property
    def name(self) -> str:
        return self.database

    @property
    def psql(self) -> list[str]:
        return [str(self.server.binaries / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
                "-p", str(self.server.port), "-U", "postgres", "-d", self.database]  # fmt: skip

    def later(self, statements: str) -> None:
        raise NotImplementedError

    def _psql(self, text: str) -> list[str]:
        done = subprocess.run([*self.psql, "-0"], input=text, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise UserError(done.stderr)
        return done.stdout.split("\0")[:-1]


@dataclass(frozen=True)
class Place(collation.Place):
    """The private server in the place of a host's; what is run on the host is run here, as its postgres."""

    server: Any = None
    log: list[str] = field(default_factory=list)

    def database(self, name: str) -> Any:
        return Local(self.server, name)


def place_of(server: Server) -> Place:
    def run(host: str, command: list[str], *, stdin: str | None = None, **_: Any) -> Result:
        if stdin is None:
            return Result(host, 0, "", "")  # the folder is made by the fixture
        out, local = command[8], Local(server, command[command.index("-d") + 1])
        done = subprocess.run(
            [*local.psql, "-f", "-"], input=stdin, capture_output=True, text=True, check=True, timeout=60
        )
        Path(out).write_text(done.stdout, encoding="utf-8")
        return Result(host, 0, "", "")

    return Place(SimpleNamespace(run=run), "db-b1", server.port, server)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with private(tmp_path_factory.mktemp("postgres"), "allow_system_table_mods=on") as made:
        with made.connect() as connection:
            connection.execute("CREATE DATABASE sias TEMPLATE template0")
            connection.execute("CREATE EXTENSION amcheck SCHEMA pg_catalog")
        with made.connect("sias") as connection:
            connection.execute(CONTENT.encode())
        yield made


@pytest.fixture
def place(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    folder = tempfile.mkdtemp(prefix="sias-collation-", dir="/var/tmp")
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    Path(folder).chmod(0o755)
    monkeypatch.setattr(collation, "FOLDER", folder)
    yield place_of(server)
    shutil.rmtree(folder)


def test_the_order_of_the_real_values_is_the_same_when_nothing_changed(place: Place) -> None:
    before = collation.note(place)
    assert {'sias pg_catalog."default"', f"sias {FRENCH}"} <= set(before)
    assert int(before[f"sias {FRENCH}"].split()[0]) > 1000, "few values were compared"
    assert collation.differing(before, collation.hashes(place)) == []


def test_values_that_are_changed_meanwhile_do_not_matter(place: Place, server: Server) -> None:
    before = collation.note(place)
    with server.connect("sias") as connection:
        connection.execute("UPDATE person SET name = 'Ångström' || id WHERE id < 500")
    assert collation.differing(before, collation.hashes(place)) == []


def test_another_order_is_noticed(place: Place, server: Server) -> None:
    before = collation.note(place)
    # What a new library would do, in reverse: the same values under other rules.
    kept = Path(collation.FOLDER) / "sias.json"
    kept.write_text(
        kept.read_text(encoding="utf-8").replace('pg_catalog.\\"fr-x-icu\\"', 'pg_catalog.\\"C\\"'), encoding="utf-8"
    )
    after = collation.hashes(place)
    assert before[f"sias {FRENCH}"] != after['sias pg_catalog."C"']
    assert collation.differing(before, after) == [f"sias {FRENCH}"]
    assert collation.differing(before, after | {f"sias {FRENCH}": after['sias pg_catalog."C"']}) == [f"sias {FRENCH}"]


def test_a_proof_that_compared_nothing_is_none() -> None:
    with pytest.raises(UserError, match="nothing can be proven"):
        collation.differing({}, {})


def test_large_tables_are_read_in_part() -> None:
    column: dict[str, object] = {"coll": "c", "col": "name", "tab": "public.person", "rows": 1_000_000}
    query = collation.sample([column, column | {"tab": "public.small", "rows": 0}])
    assert "public.person TABLESAMPLE SYSTEM (0.5500) REPEATABLE (57)" in query
    assert "public.small WHERE" in query


def test_every_index_is_checked_and_one_in_another_order_is_found_and_mended(place: Place, server: Server) -> None:
    number = collation.whole(place)
    with server.connect("sias") as connection:
        (here,) = connection.execute(
            "SELECT count(*) FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE amname = 'btree' AND relkind = 'i'"
        ).fetchone() or (0,)
        assert isinstance(here, int)
        assert number > here  # and those of the database postgres
        # The index was built by one rule and is read by another: what another library does to it.
        connection.execute(
            "UPDATE pg_index SET indcollation = (SELECT oid::text FROM pg_collation WHERE collname = 'C')::oidvector"
            " WHERE indexrelid = 'person_note'::regclass"
        )
        connection.execute(
            "UPDATE pg_attribute SET attcollation = (SELECT oid FROM pg_collation WHERE collname = 'C')"
            " WHERE attrelid = 'person_note'::regclass"
        )
    with pytest.raises(UserError, match="person_note"):
        collation.whole(place)
    assert collation.reindex(place, ['sias pg_catalog."C"']) == ["sias: public.person_note"]
    assert collation.whole(place) == number


def test_a_check_that_a_replay_ended_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    said = iter(["canceling statement due to conflict with recovery", "could not open relation with OID 7", ""])

    def raw(_: str) -> list[str]:
        problem = next(said)
        if problem:
            raise UserError(problem)
        return ["", ""]

    place = collation.Place(SimpleNamespace(), "db-b1", 5432)  # type: ignore[arg-type]
    monkeypatch.setattr(collation.Place, "names", lambda _: ["sias"])
    monkeypatch.setattr(collation.Place, "database", lambda *_: SimpleNamespace(raw=raw))
    assert collation.whole(place) == 2
    monkeypatch.setattr(collation.Place, "database", lambda *_: SimpleNamespace(raw=lambda _: []))
    with pytest.raises(UserError, match="no index was checked"):
        collation.whole(place)


def test_versions_are_refreshed_where_they_differ(place: Place, server: Server) -> None:
    with server.connect() as connection:
        connection.execute("UPDATE pg_collation SET collversion = 'old' WHERE collname = 'fr-x-icu'")
        connection.execute("UPDATE pg_database SET datcollversion = NULL")
    collation.refresh(place)
    with server.connect() as connection:
        left = connection.execute(
            "SELECT collname FROM pg_collation WHERE collversion <> pg_collation_actual_version(oid)"
        ).fetchall()
    assert left == []
