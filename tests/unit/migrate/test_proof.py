"""A row that was lost, altered or added on the way turns the proof red, and the proof says where it is."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from siasops.migrate import proof
from siasops.migrate.changes import Touched
from siasops.migrate.proof import Difference, Proof
from siasops.migrate.tables import Table, tables
from tests.unit.migrate.conftest import Pair, wait_for


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "RANGE", 100)
    monkeypatch.setattr(proof, "BATCH", 50)


def known(pair: Pair) -> dict[str, Table]:
    return {t.title: t for t in tables(pair.blue)}


def test_equal_databases_are_proven_equal(still: Pair) -> None:
    found = proof.whole(still.blue, still.green)
    assert (found.tables, found.rows, found.differences, len(found.pending)) == (3, 2050, [], 0)
    assert found.line("Rows").ok


@pytest.mark.parametrize(
    ("loss", "table", "where", "counts"),
    [
        ("DELETE FROM person WHERE id = 250", "public.person", "id from 200 to before 300", (1, 0, 0)),
        ("DELETE FROM person WHERE id > 990", "public.person", "id from 900 to before 1000", (9, 0, 0)),
        ("UPDATE person SET note = note || '\\x00' WHERE id = 1", "public.person", "id from the first to before 100", (0, 1, 0)),
        ("UPDATE person SET score = score + 1e-13 WHERE id = 3", "public.person", "id from the first to before 100", (0, 1, 0)),
        ("UPDATE person SET seen = seen + '1us'::interval WHERE id = 3", "public.person", "id from the first", (0, 1, 0)),
        ("UPDATE person SET born = NULL WHERE id = 1000", "public.person", "id from 1000 to the last", (0, 1, 0)),
        ("INSERT INTO membership VALUES (5, 7, '2001-01-01')", "public.membership", "household, person, since from", (0, 0, 1)),
        ("UPDATE \"Odd \"\"name\" SET code = 'x' WHERE code = 'é''7'", 'public.Odd "name', "code from the first", (1, 0, 1)),
        ("TRUNCATE \"Odd \"\"name\"", 'public.Odd "name', "code from the first", (50, 0, 0)),
        # The same sum of names, the same count: what was exchanged between two rows is seen.
        ("UPDATE person p SET name = q.name FROM person q WHERE (p.id, q.id) IN ((5, 6), (6, 5))", "public.person",
         "id from the first", (0, 2, 0)),
    ],
)  # fmt: skip
def test_every_loss_is_seen_and_shown_by_its_range(
    still: Pair, loss: str, table: str, where: str, counts: tuple[int, int, int]
) -> None:
    still.green.do(loss)
    line = (found := proof.whole(still.blue, still.green)).line("Rows")
    assert not line.ok
    first = found.differences[0]
    assert first.table == table
    assert first.range.startswith(where)
    assert (first.missing, first.different, first.surplus) == counts
    assert first.examples[0].split()[-1].strip("',") in line.found
    assert all(d.table == table for d in found.differences)


def test_a_table_that_only_one_side_has_is_a_difference(still: Pair) -> None:
    still.green.do("DROP TABLE membership; CREATE TABLE extra (id int PRIMARY KEY)")
    found = proof.whole(still.blue, still.green)
    assert [(d.table, d.missing, d.surplus) for d in found.differences] == [
        ("public.membership", 1, 0),
        ("public.extra", 0, 1),
    ]


def test_a_table_without_a_key_is_compared_as_a_whole(still: Pair) -> None:
    for side in (still.blue, still.green):
        side.do("CREATE TABLE bare (x int); INSERT INTO bare VALUES (1), (1), (2)")
    assert not proof.whole(still.blue, still.green).differences
    still.green.do("UPDATE bare SET x = 3 WHERE x = 2")
    (difference,) = proof.whole(still.blue, still.green).differences
    assert "no key" in difference.range


def test_the_order_of_columns_and_dropped_ones_make_no_difference(still: Pair) -> None:
    still.blue.do("CREATE TABLE moved (id int PRIMARY KEY, gone int, a int, b text)")
    still.blue.do("ALTER TABLE moved DROP gone; INSERT INTO moved SELECT n, n, 'b' FROM generate_series(1, 9) n")
    still.green.do("CREATE TABLE moved (b text, a int, id int PRIMARY KEY)")
    still.green.do("INSERT INTO moved SELECT 'b', n, n FROM generate_series(1, 9) n")
    assert not proof.whole(still.blue, still.green).differences


def test_a_proof_that_compared_nothing_fails(still: Pair) -> None:
    for side in (still.blue, still.green):
        side.do('TRUNCATE person, membership, "Odd ""name"')
    line = proof.whole(still.blue, still.green).line("Rows")
    assert not line.ok
    assert "nothing was compared" in line.found
    assert not Proof().line("Rows").ok
    assert Proof().line("Rows touched", may_be_empty=True).ok


def test_rows_on_their_way_are_told_from_lost_ones(flowing: Pair) -> None:
    """Green stands still while blue is written, and has lost a row before: only the lost one is a difference."""
    blue, green, touched = flowing.blue, flowing.green, Touched()
    green.do("DELETE FROM person WHERE id = 444")
    green.do(f"ALTER SUBSCRIPTION {flowing.slot} DISABLE")
    blue.do("UPDATE person SET name = 'new' WHERE id IN (1, 500)")
    blue.do("DELETE FROM person WHERE id = 700; INSERT INTO person (name) VALUES ('late')")
    blue.do("UPDATE membership SET household = 999 WHERE person = 3")

    def read() -> Touched:
        touched.read(blue, flowing.proof_slot, "sias_migration", known(flowing))
        return touched

    found = proof.whole(blue, green, read)
    assert [(d.table, d.missing, d.examples) for d in found.differences] == [("public.person", 1, ("missing 444",))]
    assert found.pending.rows == {
        "public.person": {("1",), ("500",), ("700",), ("1001",)},
        "public.membership": {("3", "3", "2020-01-04"), ("999", "3", "2020-01-04")},
    }
    still_behind = proof.delta(blue, green, touched, known(flowing))
    assert still_behind.pending.rows == found.pending.rows
    assert not proof.final(still_behind).line("Rows").ok
    green.do(f"ALTER SUBSCRIPTION {flowing.slot} ENABLE")
    flowing.caught_up()
    done = proof.delta(blue, green, touched, known(flowing))
    assert (done.rows, len(done.pending)) == (
        4,
        0,
    )  # four are there, the deleted and the former key are on neither side
    assert proof.final(done).line("Rows touched").ok


def test_a_truncated_table_is_compared_whole_again(flowing: Pair) -> None:
    touched = Touched()
    flowing.blue.do("TRUNCATE membership; INSERT INTO membership VALUES (1, 1, '2020-01-01')")
    touched.read(flowing.blue, flowing.proof_slot, "sias_migration", known(flowing))
    assert touched.whole == {"public.membership"}
    flowing.caught_up()
    assert not len(proof.delta(flowing.blue, flowing.green, touched, known(flowing)).pending)
    flowing.green.do("UPDATE membership SET since = '2021-01-01'")
    found = proof.final(proof.delta(flowing.blue, flowing.green, touched, known(flowing)))
    assert found.differences == [Difference("public.membership", "the whole table", different=1)]


def test_what_was_touched_outlives_the_process(flowing: Pair, tmp_path: Path) -> None:
    path = tmp_path / "touched.json"
    flowing.blue.do("UPDATE person SET name = 'x' WHERE id = 1")
    touched = Touched.load(path)
    assert touched.read(flowing.blue, flowing.proof_slot, "sias_migration", known(flowing)) == 1
    flowing.blue.do("UPDATE person SET name = 'x' WHERE id = 2")
    again = Touched.load(path)
    assert again.rows == touched.rows
    assert (
        again.read(flowing.blue, flowing.proof_slot, "sias_migration", known(flowing)) == 1
    )  # the first is not read twice
    assert again.rows == {"public.person": {("1",), ("2",)}}


def test_a_whole_proof_under_writes_leaves_only_what_moves(flowing: Pair) -> None:
    """Writers never stop; what the proof leaves pending agrees as soon as they have."""
    stop, touched, failures = threading.Event(), Touched(), []

    def write() -> None:
        with flowing.blue.connect() as connection:
            number = 0
            while not stop.wait(0.01):
                number += 1
                connection.execute("UPDATE person SET score = %s WHERE id = %s", (number, number * 37 % 1000 + 1))
                connection.execute("INSERT INTO person (name) VALUES ('w')")
                connection.execute("DELETE FROM membership WHERE person = %s", (number,))

    def read() -> Touched:
        touched.read(flowing.blue, flowing.proof_slot, "sias_migration", known(flowing))
        return touched

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            failures += proof.whole(flowing.blue, flowing.green, read).differences
    finally:
        stop.set()
        writer.join()
    assert not failures
    flowing.caught_up()
    read()
    assert len(touched) > 10
    assert not len(proof.delta(flowing.blue, flowing.green, touched, known(flowing)).pending)
    assert proof.whole(flowing.blue, flowing.green).line("Rows").ok


def test_rows_that_agree_are_forgotten_and_lost_ones_stay(flowing: Pair, tmp_path: Path) -> None:
    touched = Touched.load(tmp_path / "touched.json")

    def read() -> None:
        touched.read(flowing.blue, flowing.proof_slot, "sias_migration", known(flowing))

    flowing.blue.do("UPDATE person SET score = 1 WHERE id <= 300")
    flowing.caught_up()
    flowing.green.do("UPDATE person SET score = 2 WHERE id = 7")
    proof.settle(flowing.blue, flowing.green, touched, known(flowing), read, enough=5)
    assert touched.rows == {"public.person": {("7",)}}
    assert Touched.load(tmp_path / "touched.json").rows == touched.rows
    flowing.blue.do("UPDATE person SET score = 3 WHERE id = 8")
    proof.settle(flowing.blue, flowing.green, touched, known(flowing), read, enough=5)
    assert touched.rows == {"public.person": {("7",), ("8",)}}  # few enough: left for the pause
    found = proof.final(proof.delta(flowing.blue, flowing.green, touched, known(flowing)))
    assert "7" in found.differences[0].examples


def test_a_green_that_skips_a_change_is_caught_by_the_delta(flowing: Pair) -> None:
    touched = Touched()
    flowing.green.do(
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER lose BEFORE UPDATE ON person FOR EACH ROW WHEN (old.id = 12) EXECUTE FUNCTION lose();"
        "ALTER TABLE person ENABLE ALWAYS TRIGGER lose"
    )
    flowing.blue.do("UPDATE person SET name = 'changed' WHERE id BETWEEN 10 AND 15")
    touched.read(flowing.blue, flowing.proof_slot, "sias_migration", known(flowing))
    flowing.caught_up()
    wait_for(lambda: bool(flowing.green.ask("SELECT 1 AS one FROM public.person WHERE id = 15 AND name = 'changed'")))
    found = proof.final(proof.delta(flowing.blue, flowing.green, touched, known(flowing)))
    assert [(d.table, d.different, d.examples) for d in found.differences] == [("public.person", 1, ("12",))]
