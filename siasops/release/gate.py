"""What a release's migrations would lock, rewrite, or take from the release that still runs; and how to write them instead.

squawk reads the SQL and knows what PostgreSQL does with it. What it cannot know is added here: how large the tables are,
which tables are new, and what the running release uses, because for some minutes both releases run, and the way back needs
the former one's schema.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siasops.errors import UserError

LARGE_ROWS = 10_000
LARGE_BYTES = 8 << 20
"""From either on, a table is large: what is done to all of its rows is felt."""
LIMIT = 60.0

LOCKS = {
    "require-concurrent-index-creation": "AddIndexConcurrently in a migration of its own (atomic = False); for a foreign key, "
    "db_index=False and then the index",
    "require-concurrent-index-deletion": "RemoveIndexConcurrently in a migration of its own (atomic = False)",
    "require-concurrent-reindex": "REINDEX ... CONCURRENTLY, outside a transaction",
    "changing-column-type": "a new column of the new type, filled by a duty of the worker; a later release drops the old one",
    "adding-field-with-default": "a column that may be NULL, filled by a duty of the worker",
    "adding-not-nullable-field": "a CHECK constraint NOT VALID, then VALIDATE CONSTRAINT in a later migration, then SET NOT NULL",
    "constraint-missing-not-valid": "the constraint NOT VALID, then VALIDATE CONSTRAINT in a later migration",
    "adding-foreign-key-constraint": "the constraint NOT VALID, then VALIDATE CONSTRAINT in a later migration",
    "disallowed-unique-constraint": "a unique index built CONCURRENTLY, then ADD CONSTRAINT ... UNIQUE USING INDEX",
    "adding-serial-primary-key-field": "a new table, filled by a duty of the worker",
    "table-locked": "nothing of the kind while people work: a window without users, or an extension such as pg_repack",
    "rows-at-once": "a duty of the worker that fills some hundred rows at a time, and lets others in between",
}
"""What holds a lock for as long as a table is large, and how it should be written. Small tables take milliseconds."""
ALWAYS = {
    "ban-concurrent-index-creation-in-transaction": "atomic = False on that migration",
    "transaction-nesting": "neither BEGIN nor COMMIT: Django opens the transaction",
    "ban-truncate-cascade": "TRUNCATE of the tables that are meant, by name",
    "ban-drop-database": "nothing of the kind",
    "syntax-error": "SQL that can be read",
    "hidden": "the statements themselves, which can be judged",
    "not-repeatable": "one operation in each migration with atomic = False: one that stops between two cannot be run again",
    "data-beside-schema": "the data in a migration of their own: filling them would hold the schema's locks",
}
"""What is refused whatever the size of the table."""
RUNNING = {
    "drops-what-runs": "this release only without using it any more (SeparateDatabaseAndState); the next one drops it",
    "renames-what-runs": "a new one beside it, both written by this release; the old one dropped by a later release",
    "wants-what-runs-does-not-write": "null=True or db_default: the running release writes rows without it",
}
"""What the running release would fail on. No reason excuses it."""

_NAME = r'(?:"?public"?\.)?"?(\w+)"?'
_TABLE = re.compile(
    rf"\b(?:ALTER TABLE(?: IF EXISTS)?(?: ONLY)?|UPDATE(?: ONLY)?|DELETE FROM(?: ONLY)?|INSERT INTO|LOCK(?: TABLE)?|CLUSTER|"
    rf"VACUUM FULL|REINDEX TABLE|TRUNCATE(?: TABLE)?|DROP TABLE(?: IF EXISTS)?|"
    rf"CREATE(?: UNIQUE)? INDEX(?: CONCURRENTLY)?(?: IF NOT EXISTS)? \S+ ON(?: ONLY)?) {_NAME}",
    re.IGNORECASE,
)
_INDEX = re.compile(rf"\b(?:DROP|REINDEX) INDEX(?: CONCURRENTLY)?(?: IF EXISTS)? {_NAME}", re.IGNORECASE)
_CREATED = re.compile(rf"\bCREATE(?: UNLOGGED)? TABLE(?: IF NOT EXISTS)? {_NAME}", re.IGNORECASE)
_DROP_TABLE = re.compile(rf"\bDROP TABLE(?: IF EXISTS)? {_NAME}", re.IGNORECASE)
_DROP_COLUMN = re.compile(rf"\bDROP COLUMN(?: IF EXISTS)? {_NAME}", re.IGNORECASE)
_RENAME_COLUMN = re.compile(rf"\bRENAME (?:COLUMN )?{_NAME} TO", re.IGNORECASE)
_RENAME_TABLE = re.compile(r"\bRENAME TO ", re.IGNORECASE)
_ADD_COLUMN = re.compile(rf"\bADD COLUMN(?: IF NOT EXISTS)? {_NAME} ([^;]*)", re.IGNORECASE)
_DROP_DEFAULT = re.compile(rf"\bALTER COLUMN {_NAME} DROP DEFAULT", re.IGNORECASE)
_SET_NOT_NULL = re.compile(rf"\bALTER COLUMN {_NAME} SET NOT NULL", re.IGNORECASE)
_WHOLE_TABLE = re.compile(r"^(?:CLUSTER|VACUUM FULL|LOCK)\b|\bSET (?:UN)?LOGGED\b|\bSET TABLESPACE\b", re.IGNORECASE)
_ROWS = re.compile(
    r"^(?:UPDATE|DELETE)\b|^INSERT\b.*\bSELECT\b|^WITH\b.*\b(?:UPDATE|DELETE)\b", re.IGNORECASE | re.DOTALL
)
_QUOTED = re.compile(r"'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$", re.DOTALL)
_TOKEN = re.compile(r"\$(\w*)\$.*?\$\1\$|'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|;|.", re.DOTALL)


@dataclass(frozen=True)
class Objection:
    """Something that speaks against a migration. `accepted`: why whoever wrote it says that it does not, empty otherwise."""

    migration: str
    rule: str
    found: str
    instead: str
    accepted: str = ""

    def __str__(self) -> str:
        """In one sentence."""
        return f"{self.migration}: {self.found} ({self.rule}); instead: {self.instead}"


def statements(sql: Sequence[str]) -> list[str]:
    """Split texts into statements; what stands in quotes, bodies of functions and comments is no end of one."""
    found = []
    for text in sql:
        parts, one = [], ""
        for token in _TOKEN.finditer(text):
            if token[0] == ";":
                parts.append(one)
                one = ""
            elif not token[0].startswith(("--", "/*")):
                one += token[0]
        found += [" ".join(part.split()) for part in [*parts, one] if part.strip()]
    return found


def judge(
    pending: Sequence[Mapping[str, Any]],
    tables: Mapping[str, Mapping[str, Any]],
    running: Mapping[str, Mapping[str, Mapping[str, Any]]],
    *,
    postgres: str,
) -> list[Objection]:
    """Find everything that speaks against migrations.

    Args:
        pending: migrations in their order, as `sias-manage schema` describes them.
        tables: what there is, as it describes it.
        running: by table and column, what the releases that run now use.
        postgres: the server's version, such as 15.4.
    """
    found: list[Objection] = []
    parts = {m["name"]: statements(m["sql"]) for m in pending}
    every = [_bare(line) for sql in parts.values() for line in sql]
    new = {name for line in every for name in _CREATED.findall(line)}
    homes = {index: table for table, facts in tables.items() for index in facts["indexes"]}

    def touched(line: str) -> set[str]:
        bare = _bare(line)
        names = {*_TABLE.findall(bare), *(homes.get(name, "") for name in _INDEX.findall(bare))}
        return {name for name in names if name in tables and name not in new}

    for migration in pending:
        lines = parts[migration["name"]]
        existing = any(touched(line) for line in lines)
        for rule, found_in, line in (*_squawk(migration, lines, postgres), *_ours(migration, lines, existing=existing)):
            large = sorted(name for name in touched(line) if _large(tables[name]))
            if rule in ALWAYS or (rule in LOCKS and large):
                sizes = ", ".join(f"{name} has {tables[name]['rows']} rows" for name in large)
                reason = migration["accepted"].get(rule, "")
                instead = {**LOCKS, **ALWAYS}[rule]
                found.append(
                    Objection(migration["name"], rule, "; ".join(filter(None, (found_in, sizes))), instead, reason)
                )
        known = {name: running[name] for name in running if name not in new}
        against = _against_running([_bare(line) for line in lines], every, known)
        found += [Objection(migration["name"], rule, said, RUNNING[rule]) for rule, said in against]
    return list(dict.fromkeys(found))


def used_by(
    releases: Sequence[Mapping[str, Any] | None], tables: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Unite what several releases use; one that cannot say may use everything that there is."""
    united: dict[str, dict[str, Any]] = {}
    for release in releases:
        uses = release["uses"] if release else {
            name: {column: {"null": True} for column in facts["columns"]} for name, facts in tables.items()
        }  # fmt: skip
        for table, columns in uses.items():
            mine = united.setdefault(table, {})
            for column, facts in columns.items():
                mine[column] = {"null": facts["null"] or mine.get(column, {}).get("null", False)}
    return united


def _large(facts: Mapping[str, Any]) -> bool:
    return bool(facts["rows"] >= LARGE_ROWS or facts["bytes"] >= LARGE_BYTES)


def _squawk(migration: Mapping[str, Any], lines: Sequence[str], postgres: str) -> Iterator[tuple[str, str, str]]:
    """What squawk says of each statement: rule, what it found, statement.

    Raises:
        UserError: it cannot be asked.
    """
    if not lines:
        return
    command = [str(Path(sys.executable).parent / "squawk"), "--reporter", "json", "--pg-version", postgres,
               "--stdin-filepath", f"{migration['name']}.sql",
               f"--{'' if migration['atomic'] else 'no-'}assume-in-transaction"]  # fmt: skip
    text = "".join(f"{line};\n" for line in lines)
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=LIMIT)
        said = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise UserError(f"squawk cannot judge {migration['name']}: {error}") from error
    for violation in said:
        line = lines[min(violation["line"], len(lines) - 1)]
        yield violation["rule_name"], f"`{_short(line)}`", line


def _ours(migration: Mapping[str, Any], lines: Sequence[str], *, existing: bool) -> Iterator[tuple[str, str, str]]:
    """The same of what squawk does not look for."""
    for line in lines:
        bare = _bare(line)
        if _WHOLE_TABLE.search(bare):
            yield "table-locked", f"`{_short(line)}`", line
        if _ROWS.search(bare):
            yield "rows-at-once", f"`{_short(line)}`", line
        if bare.upper().startswith("DO "):
            yield "hidden", f"`{_short(line)}`", line
        if migration["atomic"] and re.search(r"\bCONCURRENTLY\b", bare, re.IGNORECASE):
            yield "ban-concurrent-index-creation-in-transaction", f"`{_short(line)}`", line
    if not migration["atomic"] and migration["operations"] > 1:
        yield "not-repeatable", f"{migration['operations']} operations without a transaction around them", ""
    if migration["python"] and migration["atomic"] and existing:
        yield "data-beside-schema", f"“{'”, “'.join(migration['python'])}” beside changes of the schema", ""


def _against_running(
    lines: Sequence[str], every: Sequence[str], running: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """What the running release would fail on: rule, what was found."""
    for line in lines:
        for table in set(_DROP_TABLE.findall(line)) & set(running):
            yield "drops-what-runs", f"the running release uses the table {table}"
        table = next(iter(_TABLE.findall(line)), "")
        if table not in running or not line.upper().startswith("ALTER TABLE"):
            continue
        columns = running[table]
        for column in set(_DROP_COLUMN.findall(line)) & set(columns):
            yield "drops-what-runs", f"the running release uses {table}.{column}"
        if _RENAME_TABLE.search(line):
            yield "renames-what-runs", f"the running release uses the table {table}"
        for column in set(_RENAME_COLUMN.findall(line)) & set(columns):
            yield "renames-what-runs", f"the running release uses {table}.{column}"
        defaults_go = {column for x in every if table in _TABLE.findall(x) for column in _DROP_DEFAULT.findall(x)}
        for column, kind in _ADD_COLUMN.findall(line):
            given = re.search(r"\b(?:DEFAULT|GENERATED|\w*SERIAL)\b", kind, re.IGNORECASE) and column not in defaults_go
            if re.search(r"\bNOT NULL\b", kind, re.IGNORECASE) and not given:
                yield "wants-what-runs-does-not-write", f"the running release writes {table} without {column}"
        for column in _SET_NOT_NULL.findall(line):
            if columns.get(column, {"null": False})["null"]:
                yield "wants-what-runs-does-not-write", f"the running release may leave {table}.{column} empty"


def _bare(line: str) -> str:
    """Leave out what stands in quotes: it is no statement."""
    return _QUOTED.sub("''", line)


def _short(line: str) -> str:
    return line if len(line) <= 100 else f"{line[:97]}..."  # noqa: PLR2004 - a line of a terminal
