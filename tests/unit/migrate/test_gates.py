"""Each defect that a migration would stumble over, or silently lose, is a no-go with its name."""

from __future__ import annotations

import re

import psycopg
import pytest

from siasops.inventory import ROOT
from siasops.migrate import gates
from siasops.migrate.database import Database
from tests.unit.migrate.conftest import Pair

APPLICATION = ROOT / "app/src/sias/platform/schema.py"
"""Where the application knows the freeze by its name: it runs without siasops."""
OFFERED = {"plpgsql": "1.0", "pg_trgm": "1.6"}


def lines(database: Database) -> dict[str, tuple[bool, str, str]]:
    return {line.what: (line.ok, line.found, line.action) for line in gates.gates(database, OFFERED)}


def test_a_sound_database_passes_every_gate(still: Pair) -> None:
    found = gates.gates(still.blue, OFFERED)
    assert len(found) == 12
    assert [(line.what, line.found) for line in found if not line.ok] == []
    assert all(line.found and not line.action for line in found)


@pytest.mark.parametrize(
    ("defect", "gate", "named"),
    [
        ("CREATE TABLE bare (x int)", "Every table's rows can be told apart", "public.bare"),
        ("ALTER TABLE person REPLICA IDENTITY NOTHING", "Every table's rows can be told apart", "public.person"),
        ("ALTER TABLE person REPLICA IDENTITY FULL", "Every table's rows can be told apart", "public.person"),
        ("SELECT lo_create(4242)", "No large objects", "4242"),
        ("CREATE UNLOGGED TABLE fast (id int PRIMARY KEY)", "No unlogged tables or sequences", "public.fast"),
        ("CREATE MATERIALIZED VIEW sums AS SELECT 1 AS one", "No foreign tables, and no materialised view", "public.sums"),
        ("SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')", "No logical replication of someone", "slot theirs"),
        ("CREATE FUNCTION low(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)';"
         "CREATE INDEX by_low ON person (low(name))", "Functions in indexes", "low in index public.by_low"),
        ("CREATE FUNCTION good(text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT length($1) > 0';"
         "ALTER TABLE person ADD CONSTRAINT named CHECK (good(name))", "Functions in indexes", "good in constraint public.named"),
        ("CREATE FUNCTION twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2';"
         "CREATE TABLE made (id int PRIMARY KEY, x int GENERATED ALWAYS AS (twice(id)) STORED)",
         "Functions in indexes", "twice in column public.made.x"),
        ("ALTER TABLE membership ADD CONSTRAINT later CHECK (household > 5) NOT VALID", "Every index and", "public.later"),
        ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'person_name'::regclass", "Every index and", "person_name"),
        ("CREATE TABLE odd (id int PRIMARY KEY, f regproc)", "No type that pg_upgrade refuses", "public.odd.f regproc"),
        ("CREATE EXTENSION btree_gist", "Every extension exists on the target", "btree_gist"),
        ("ALTER ROLE postgres SET force_parallel_mode = on", "No setting that 17 does not know", "debug_parallel_query"),
        ("CREATE SEQUENCE nearly MAXVALUE 2500; SELECT setval('nearly', 600)", "Every sequence has room", "public.nearly"),
    ],
)  # fmt: skip
def test_each_defect_is_a_no_go_that_names_it(still: Pair, defect: str, gate: str, named: str) -> None:
    still.green.do(defect)
    try:
        (found,) = [line for line in gates.gates(still.green, OFFERED) if line.what.startswith(gate)]
        assert not found.ok
        assert named in found.found
        assert found.action.endswith((".", "ATOMIC."))
        assert all(line.ok for line in gates.gates(still.green, OFFERED) if not line.what.startswith(gate))
    finally:
        still.green.do("ALTER ROLE postgres RESET ALL")
        still.green.do(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'theirs'"
        )
        still.green.do("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")


def test_a_function_with_its_own_search_path_passes(still: Pair) -> None:
    still.green.do(
        "CREATE FUNCTION low(text) RETURNS text IMMUTABLE LANGUAGE sql SET search_path = pg_catalog AS 'SELECT lower($1)';"
        "CREATE FUNCTION up(text) RETURNS text IMMUTABLE BEGIN ATOMIC SELECT upper($1); END;"
        "CREATE INDEX by_low ON person (low(name), up(name))"
    )
    assert all(line.ok for line in gates.gates(still.green, OFFERED))


def test_a_target_that_cannot_be_asked_is_a_no_go(still: Pair) -> None:
    assert [line.what for line in gates.gates(still.blue) if not line.ok] == ["Every extension exists on the target"]


def test_a_frozen_schema_refuses_changes_and_lets_rows_through(still: Pair) -> None:
    green = still.green
    assert not gates.frozen(green).ok
    gates.freeze(green)
    gates.freeze(green)
    assert gates.frozen(green).ok
    (known,) = re.findall(r'^FREEZE = "(\w+)"$', APPLICATION.read_text(encoding="utf-8"), re.MULTILINE)
    assert green.ask("SELECT evtname::text AS name FROM pg_event_trigger") == [{"name": known}]
    for statement in ("ALTER TABLE person ADD x int", "CREATE INDEX ON person (born)", "DROP TABLE membership",
                      "CREATE TABLE other (id int)", "GRANT SELECT ON person TO pg_monitor"):  # fmt: skip
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="frozen"):
            green.do(statement)
    green.do("INSERT INTO person (name) VALUES ('x'); UPDATE person SET name = 'y' WHERE id = 1")
    gates.thaw(green)
    gates.thaw(green)
    assert not gates.frozen(green).ok
    green.do("ALTER TABLE person ADD x int")


def test_prepared_transactions_are_a_no_go() -> None:
    class Prepared:
        """A server that allows them: the test's own does not."""

        name = "prepared"

        def ask(self, query: str) -> list[dict[str, object]]:
            return [{"name": "gid1 of sias_app"}] if "pg_prepared_xacts" in query else []

        def do(self, statements: str) -> None:
            raise NotImplementedError

    wrong = {line.what: line.found for line in gates.gates(Prepared(), OFFERED) if not line.ok}
    assert wrong["No prepared transactions"] == "gid1 of sias_app"
