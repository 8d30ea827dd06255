"""What rows do not tell: sequences go on, and nothing of the schema, the roles or the settings was lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siasops.migrate import schema, sequences
from siasops.migrate.sequences import Sequence
from tests.unit.migrate.conftest import Pair

BIG = 2**63 - 1


def test_sequences_are_carried_with_a_margin_and_exactly(still: Pair) -> None:
    still.blue.do("CREATE SEQUENCE down INCREMENT -2; SELECT nextval('down'), nextval('down'); CREATE SEQUENCE unused")
    still.green.do("CREATE SEQUENCE down INCREMENT -2; CREATE SEQUENCE unused")
    here = sequences.sequences(still.blue)
    assert here["public.down"].last == -3
    assert here["public.person_id_seq"].last == 1000
    assert not sequences.carried(here, sequences.sequences(still.green), exact=True).ok
    still.green.do(sequences.carry(here))
    there = sequences.sequences(still.green)
    assert there["public.down"].last == -3 - 2 * sequences.MARGIN
    assert there["public.unused"].last is None
    line = sequences.carried(here, there, exact=True)
    assert (line.ok, line.found) == (True, "3 compared, 1000 values of margin")
    still.green.do("INSERT INTO person (name) VALUES ('after')")
    assert still.green.ask("SELECT max(id) AS id FROM public.person") == [{"id": 2001}]
    used = sequences.sequences(still.green)
    assert not sequences.carried(here, used, exact=True).ok
    assert sequences.carried(here, used, exact=False).ok


def test_a_check_of_sequences_that_compared_nothing_fails() -> None:
    never = {"public.s": Sequence("public", "s", 1, 1, BIG, False, None)}
    assert not sequences.carried({}, {}, exact=True).ok
    assert "nothing was compared" in sequences.carried(never, never, exact=True).found


def test_a_missing_sequence_and_one_behind_its_column_are_seen(still: Pair) -> None:
    here = sequences.sequences(still.blue)
    assert sequences.unused(still.blue).ok
    still.green.do("SELECT setval('person_id_seq', 998)")
    line = sequences.unused(still.green)
    assert (line.ok, line.found) == (False, "public.person_id_seq stands at 998, person.id holds 1000")
    still.green.do("ALTER TABLE person ALTER id DROP IDENTITY")
    assert "person_id_seq is missing" in sequences.carried(here, sequences.sequences(still.green), exact=False).found
    assert not sequences.unused(still.green).ok  # nothing is left to compare


@given(st.integers(-1000, 1000), st.sampled_from([1, -1, 5, -7]), st.integers(0, 10_000))
def test_no_value_is_ever_given_twice(last: int, step: int, margin: int) -> None:
    sequence = Sequence("s", "s", step, -(10**6), 10**6, False, last)
    after = sequence.after(margin)
    assert after is not None
    assert (after - last) * step >= 0
    assert after == last + margin * step


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP INDEX person_name", "index public.person_name is missing"),
        ("ALTER TABLE person ALTER score DROP NOT NULL, ADD extra int", "column public.person.extra is too many"),
        ("ALTER TABLE person ALTER name SET DEFAULT 'x'", "column public.person.name"),
        ("ALTER TABLE membership ADD CHECK (household >= 0)", "membership_household_check is too many"),
        ("CREATE ROLE surplus_role", ""),
        ("REVOKE ALL ON person FROM postgres; GRANT SELECT ON person TO pg_monitor", "relation public.person"),
        ("ALTER TABLE person REPLICA IDENTITY FULL", "relation public.person"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function public.f() is too many"),
        ("CREATE VIEW v AS SELECT id FROM person", "view public.v is too many"),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_monitor", "default privilege"),
        ("CREATE EXTENSION pg_trgm", "extension pg_trgm is too many"),
        ("ALTER TABLE person ENABLE ROW LEVEL SECURITY", "relation public.person"),
    ],
)  # fmt: skip
def test_a_schema_that_changed_is_seen(still: Pair, change: str, said: str) -> None:
    still.green.do(change)
    line = schema.same(still.blue, still.green, expected=_names(still))
    if not said:  # roles are the cluster's: these two databases share them
        still.green.do("DROP ROLE surplus_role")
        assert line.ok
        return
    assert not line.ok
    assert said in line.found


def _names(pair: Pair) -> frozenset[str]:
    return frozenset(f"database {side.database}" for side in (pair.blue, pair.green))


def test_what_a_dump_writes_otherwise_is_the_same(still: Pair) -> None:
    """Grants that say what is the default anyway are left out, and the list of an IN is cast element by element."""
    still.blue.do("ALTER TABLE person ADD sex varchar(1) CONSTRAINT known CHECK (sex IN ('F', 'it''s', 'M'))")
    still.green.do(
        "ALTER TABLE person ADD sex varchar(1) CONSTRAINT known CHECK (sex::text = ANY (ARRAY[('F'::varchar)::text,"
        " ('it''s'::varchar)::text, ('M'::varchar)::text]))"
    )
    constraint = "SELECT pg_get_constraintdef(oid) AS text FROM pg_constraint WHERE conname = 'known'"
    assert still.blue.ask(constraint) != still.green.ask(constraint)
    still.blue.do("GRANT ALL ON membership TO postgres")
    line = schema.same(still.blue, still.green, expected=_names(still))
    assert line.ok, line.found
    still.green.do("REVOKE DELETE ON membership FROM postgres")
    assert not schema.same(still.blue, still.green, expected=_names(still)).ok


def test_equal_schemas_are_the_same_and_the_comparison_is_not_empty(still: Pair) -> None:
    line = schema.same(still.blue, still.green, expected=_names(still))
    assert line.ok, line.found
    assert int(line.found.split()[0]) > 20
    assert "column public.person.seen" in schema.things(still.blue)


def test_a_number_that_an_extension_s_function_bears_as_well_hides_no_table(still: Pair) -> None:
    """After pg_upgrade a table keeps its number, and a function of an extension may have got the same."""
    still.green.do(
        "INSERT INTO pg_depend (classid, objid, objsubid, refclassid, refobjid, refobjsubid, deptype) SELECT 'pg_proc'::regclass,"
        " 'person'::regclass, 0, 'pg_extension'::regclass, oid, 0, 'e' FROM pg_extension WHERE extname = 'plpgsql'"
    )
    line = schema.same(still.blue, still.green, expected=_names(still))
    assert line.ok, line.found


def test_an_invalid_index_and_an_unproven_constraint_are_seen(still: Pair) -> None:
    assert schema.valid(still.green).ok
    still.green.do("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'person_name'::regclass")
    still.green.do("ALTER TABLE membership ADD CONSTRAINT later CHECK (household >= 0) NOT VALID")
    line = schema.valid(still.green)
    assert (line.ok, line.found) == (False, "constraint public.later, index public.person_name")


class Settings:
    """A database that answers for its settings alone."""

    name = "settings"

    def __init__(self, **values: str) -> None:
        self.values = values

    def ask(self, query: str) -> list[dict[str, object]]:
        assert "pg_settings" in query
        return [{"name": n, "text": v.rstrip("*"), "ours": v.endswith("*")} for n, v in self.values.items()]

    def do(self, statements: str) -> None:
        raise NotImplementedError


def test_a_setting_that_was_not_carried_is_seen_unless_accepted() -> None:
    blue, green = Settings(work_mem="8MB*", port="1*", jit="on"), Settings(work_mem="4MB", port="2", jit="off")
    line = schema.settings(blue, green, {})
    assert (line.ok, line.found) == (False, "work_mem: 8MB here, 4MB there")
    assert schema.settings(blue, green, {"work_mem": "measured"}).ok
    assert not schema.settings(Settings(jit="on"), green, {}).ok  # nothing was compared


def test_settings_of_a_real_server_are_compared(still: Pair) -> None:
    line = schema.settings(still.blue, still.green, {})
    assert line.ok
    assert int(line.found.split()[0]) > 5
