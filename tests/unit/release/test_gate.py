"""A migration that would lock or rewrite a large table, or that the running release would fail on, is refused with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from siasops.release.gate import Objection, judge, statements, used_by

LARGE = {"rows": 1_023_447, "bytes": 400 << 20, "columns": ["id", "phone", "note"], "indexes": ["person_phone"]}
SMALL = {"rows": 40, "bytes": 8192, "columns": ["id", "label"], "indexes": ["kind_label"]}
TABLES: dict[str, dict[str, Any]] = {"repertoire_person": LARGE, "socle_kind": SMALL, "old": dict(SMALL)}
RUNNING = {
    "repertoire_person": {"id": {"null": False}, "phone": {"null": True}},
    "socle_kind": {"id": {"null": False}, "label": {"null": True}},
}


def migration(
    *sql: str, atomic: bool = True, operations: int = 1, python: list[str] | None = None, **accepted: str
) -> dict[str, Any]:
    return {"name": "notes.0004_x", "atomic": atomic, "operations": operations, "sql": list(sql), "python": python or [],
            "accepted": {rule.replace("_", "-"): why for rule, why in accepted.items()}}  # fmt: skip


def against(*pending: dict[str, Any]) -> list[Objection]:
    return judge(pending, TABLES, RUNNING, postgres="15.4")


PERSON = 'ALTER TABLE "repertoire_person"'


@pytest.mark.parametrize(
    ("rule", "sql"),
    [
        ("require-concurrent-index-creation", 'CREATE INDEX "x" ON "repertoire_person" ("phone")'),
        ("require-concurrent-index-creation", 'CREATE UNIQUE INDEX "x" ON "repertoire_person" ("phone")'),
        ("require-concurrent-index-deletion", 'DROP INDEX IF EXISTS "person_phone"'),
        ("require-concurrent-reindex", "REINDEX TABLE repertoire_person"),
        ("changing-column-type", f'{PERSON} ALTER COLUMN "phone" TYPE bigint USING "phone"::bigint'),
        ("adding-field-with-default", f'{PERSON} ADD COLUMN "r" uuid DEFAULT gen_random_uuid()'),
        ("adding-field-with-default", f'{PERSON} ADD COLUMN "g" text GENERATED ALWAYS AS (phone) STORED'),
        ("adding-not-nullable-field", f'{PERSON} ALTER COLUMN "id" SET NOT NULL'),
        ("constraint-missing-not-valid", f'{PERSON} ADD CONSTRAINT "c" CHECK (id > 0)'),
        ("constraint-missing-not-valid", f"{PERSON} ADD CONSTRAINT c EXCLUDE USING gist (id WITH =)"),
        (
            "adding-foreign-key-constraint",
            f'{PERSON} ADD COLUMN "k_id" bigint NULL CONSTRAINT "k" REFERENCES "socle_kind"("id")',
        ),
        ("disallowed-unique-constraint", f'{PERSON} ADD CONSTRAINT "u" UNIQUE ("phone")'),
        ("table-locked", "LOCK TABLE repertoire_person"),
        ("table-locked", "VACUUM FULL repertoire_person"),
        ("table-locked", "CLUSTER repertoire_person"),
        ("table-locked", f"{PERSON} SET LOGGED"),
        ("rows-at-once", "UPDATE repertoire_person SET note = ''"),
        ("rows-at-once", "DELETE FROM repertoire_person WHERE note = ''"),
        ("rows-at-once", "INSERT INTO repertoire_person (id) SELECT id FROM old"),
        ("ban-truncate-cascade", "TRUNCATE TABLE old CASCADE"),
        ("ban-concurrent-index-creation-in-transaction", "CREATE INDEX CONCURRENTLY x ON old (id)"),
        ("ban-concurrent-index-creation-in-transaction", "DROP INDEX CONCURRENTLY kind_label"),
        ("syntax-error", "ALTER TABLEAU x"),
        ("hidden", "DO $$ BEGIN DROP TABLE socle_kind; END $$"),
        ("drops-what-runs", 'DROP TABLE "socle_kind" CASCADE'),
        ("drops-what-runs", 'ALTER TABLE "socle_kind" DROP COLUMN "label" CASCADE'),
        ("drops-what-runs", "ALTER TABLE public.socle_kind DROP COLUMN IF EXISTS other, DROP COLUMN label"),
        ("renames-what-runs", 'ALTER TABLE "socle_kind" RENAME COLUMN "label" TO "name"'),
        ("renames-what-runs", 'ALTER TABLE "socle_kind" RENAME TO "socle_sort"'),
        ("wants-what-runs-does-not-write", 'ALTER TABLE "socle_kind" ADD COLUMN "n" integer NOT NULL'),
        ("wants-what-runs-does-not-write", 'ALTER TABLE "socle_kind" ALTER COLUMN "label" SET NOT NULL'),
    ],
)
def test_a_bad_migration_is_refused_and_says_how_to_write_it(rule: str, sql: str) -> None:
    found = [o for o in against(migration(sql)) if o.rule == rule]
    assert len(found) == 1, against(migration(sql))
    assert found[0].instead
    assert found[0].accepted == ""
    assert str(found[0]).startswith("notes.0004_x: ")


@pytest.mark.parametrize(
    "sql",
    [
        'CREATE INDEX "x" ON "socle_kind" ("label")',
        'ALTER TABLE "socle_kind" ADD CONSTRAINT "u" UNIQUE ("label")',
        "UPDATE socle_kind SET label = 'x'",
        f'{PERSON} ADD COLUMN "n" integer NULL',
        f'{PERSON} ADD COLUMN "n" integer DEFAULT 0 NOT NULL',
        f'{PERSON} ADD CONSTRAINT "c" CHECK (id > 0) NOT VALID',
        f'{PERSON} VALIDATE CONSTRAINT "c"',
        f'{PERSON} DROP CONSTRAINT "c"',
        f'{PERSON} DROP COLUMN "note" CASCADE',  # which the running release no longer uses
        'DROP TABLE "old" CASCADE',
        "CREATE TRIGGER t AFTER INSERT ON repertoire_person FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE repertoire_person SET id = 1; END $$",
        "COMMENT ON TABLE repertoire_person IS 'DROP TABLE socle_kind; CLUSTER repertoire_person'",
        "",
    ],
)
def test_a_good_migration_is_accepted(sql: str) -> None:
    assert against(migration(sql)) == []


def test_what_a_concurrent_index_needs_is_a_migration_of_its_own() -> None:
    sql = 'CREATE INDEX CONCURRENTLY "x" ON "repertoire_person" ("phone")'
    assert against(migration(sql, atomic=False)) == []
    assert [o.rule for o in against(migration(f'{PERSON} ADD COLUMN "n" int', sql, atomic=False, operations=2))] == [
        "not-repeatable"
    ]


def test_a_new_table_may_be_made_as_one_likes() -> None:
    made = (
        'CREATE TABLE "notes_x" ("id" bigint NOT NULL PRIMARY KEY, "p_id" bigint NOT NULL)',
        'ALTER TABLE "notes_x" ADD CONSTRAINT "f" FOREIGN KEY ("p_id") REFERENCES "repertoire_person" ("id")',
        'CREATE INDEX "y" ON "notes_x" ("p_id")',
    )
    assert against(migration(*made)) == []
    # Also by a later migration of the same release.
    assert against(migration(*made), migration('ALTER TABLE "notes_x" ADD COLUMN "q" int NOT NULL')) == []


def test_a_default_that_goes_at_once_helps_nobody() -> None:
    """As Django writes a column with `default`: the running release's INSERT would leave it empty."""
    django = (f'{PERSON} ADD COLUMN "n" integer DEFAULT 0 NOT NULL', f'{PERSON} ALTER COLUMN "n" DROP DEFAULT')
    assert [o.rule for o in against(migration(*django))] == ["wants-what-runs-does-not-write"]


def test_data_are_not_filled_under_the_locks_of_the_schema() -> None:
    add = f'{PERSON} ADD COLUMN "n" integer NULL'
    assert [o.rule for o in against(migration(add, python=["Raw Python operation"], operations=2))] == [
        "data-beside-schema"
    ]
    assert against(migration(python=["Raw Python operation"])) == []
    # Nobody waits for a table that is only being made.
    assert against(migration("CREATE TABLE fresh (id int)", python=["Raw Python operation"], operations=2)) == []


def test_what_an_author_accepts_with_a_reason_is_no_refusal_but_what_runs_is_never_broken() -> None:
    wider = migration(
        f'{PERSON} ALTER COLUMN "phone" TYPE varchar(40)', changing_column_type="wider: nothing is rewritten"
    )
    assert [(o.rule, o.accepted) for o in against(wider)] == [("changing-column-type", "wider: nothing is rewritten")]
    drop = migration('ALTER TABLE "socle_kind" DROP COLUMN "label"', drops_what_runs="nobody looks")
    assert [(o.rule, o.accepted) for o in against(drop)] == [("drops-what-runs", "")]


def test_what_any_running_release_uses_is_used_and_one_that_cannot_say_uses_everything() -> None:
    one, other = {"uses": {"t": {"a": {"null": False}}}}, {"uses": {"t": {"a": {"null": True}, "b": {"null": False}}}}
    assert used_by([one, other], {}) == {"t": {"a": {"null": True}, "b": {"null": False}}}
    every = used_by([one, None], TABLES)
    assert set(every) == {"t", *TABLES}
    assert [o.rule for o in judge([migration('DROP TABLE "old"')], TABLES, every, postgres="15.4")] == [
        "drops-what-runs"
    ]


def test_statements_end_where_they_end() -> None:
    text = "SELECT ';'; -- no; end\nDO $x$ BEGIN; END $x$;\n SELECT \"a;b\" /* ; */"
    assert statements([text, "SELECT 1;"]) == ["SELECT ';'", "DO $x$ BEGIN; END $x$", 'SELECT "a;b"', "SELECT 1"]
