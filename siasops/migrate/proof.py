"""Proof that two databases hold the same rows: counted, hashed, and where they differ, shown by key range.

Whole, while both are written and green follows:

1. a logical slot remembers every row that is touched from now on (`changes.py`);
2. green has applied everything that committed before it;
3. every table is counted and hashed on both sides, in ranges of its key;
4. ranges that differ are read row by row; a row that differs and was not touched since (1) is a **difference**: it was lost
   or altered. One that was touched is **pending**: the next delta reads it again.

Delta, when green has caught up: only rows touched since, and those pending, are read. After a fence, nothing may be left.

A row's hash is that of its text (`hashtextextended(ROW(...)::text, 0)`), in a session where the same value has the same
text everywhere; a range's is the sum, so that order does not matter.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from siasops.cluster.check import Line
from siasops.migrate.changes import Key, Touched
from siasops.migrate.database import Database, identifier, literal
from siasops.migrate.tables import Table, tables

Answer = TypeVar("Answer")

RANGE = 10_000
"""Rows of one key range."""
BATCH = 5_000
"""Keys that are looked up by one question."""
SHOWN = 5
"""Examples of a difference, at most."""


@dataclass(frozen=True)
class Difference:
    """Rows of one key range that are not the same on both sides."""

    table: str
    range: str
    missing: int = 0
    """Only the source has them."""
    different: int = 0
    surplus: int = 0
    """Only the target has them."""
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = [(self.missing, "missing"), (self.different, "different"), (self.surplus, "too many")]
        words = ", ".join(f"{count} {word}" for count, word in counts if count)
        return f"{self.table}, {self.range}: {words}" + (
            f", such as {'; '.join(self.examples)}" if self.examples else ""
        )


@dataclass
class Proof:
    """What a comparison found."""

    tables: int = 0
    rows: int = 0
    """Rows of the source that were compared."""
    seconds: float = 0.0
    differences: list[Difference] = field(default_factory=list)
    pending: Touched = field(default_factory=Touched)
    """Rows that differ and were touched meanwhile: to be compared again."""

    def line(self, what: str, *, may_be_empty: bool = False) -> Line:
        """Judge it. Nothing compared is no proof, except for a delta in which nothing was written."""
        size = f"{self.rows} rows of {self.tables} tables in {self.seconds:.2f} s"
        if self.differences:
            shown = " | ".join(map(str, self.differences[:SHOWN]))
            more = f" | and {len(self.differences) - SHOWN} more ranges" if len(self.differences) > SHOWN else ""
            return Line(False, what, f"{size}; {shown}{more}", "Do not cut over: take green down and copy it anew.")
        if self.pending:
            return Line(False, what, f"{size}; {len(self.pending)} rows are still on their way", "Compare them again.")
        if not may_be_empty and not (self.rows and self.tables):
            return Line(False, what, f"nothing was compared: {size}", "A proof that compared nothing proves nothing.")
        return Line(True, what, f"{size}, no difference")


def whole(source: Database, target: Database, touched: Callable[[], Touched] = Touched) -> Proof:
    """Compare everything.

    Args:
        source: the database whose rows are the truth.
        target: the other; it has applied everything that committed before `touched` began to look.
        touched: rows touched on the source since then, asked for after each table was read; none when both stand still.
    """
    begin, proof, both = time.monotonic(), Proof(), _Both(source, target)
    here, there = both.ask(tables)
    proof.differences += _unpaired(here, there)
    paired = {t.title for t in there}
    for table in here:
        proof.tables += 1
        if table.title in paired:
            _table(both, table, proof, touched)
    proof.seconds = time.monotonic() - begin
    return proof


def delta(source: Database, target: Database, touched: Touched, known: Mapping[str, Table]) -> Proof:
    """Compare touched rows alone; those that differ come back as pending, for the caller to judge or to ask again.

    Args:
        source: the database that was written.
        target: the one that follows.
        touched: by table title.
        known: tables by title.
    """
    begin, proof, both = time.monotonic(), Proof(), _Both(source, target)
    for title in sorted(touched.whole | {t for t, keys in touched.rows.items() if keys}):
        proof.tables += 1
        table = known.get(title)
        if table is None or not table.key or title in touched.whole:
            _again(both, title, table, proof)
            continue
        keys = sorted(touched.rows[title])
        for first in range(0, len(keys), BATCH):
            query = _rows_by_key(table, keys[first : first + BATCH])
            rows, others = both.ask(partial(_hashes, query=query))
            proof.rows += len(rows)
            unequal = {key for key in rows.keys() | others.keys() if rows.get(key) != others.get(key)}
            if unequal:
                proof.pending.rows.setdefault(title, set()).update(unequal)
    proof.seconds = time.monotonic() - begin
    return proof


def settle(source: Database, target: Database, touched: Touched, known: Mapping[str, Table], read: Callable[[], object],
           *, enough: int = 200, rounds: int = 10) -> None:  # fmt: skip
    """Compare touched rows while they flow, and forget those that agree: few are left for the pause.

    A row that agrees here is proven until it is touched again, which `read` would tell: the slot was moved before the look.

    Args:
        source: the database that is written.
        target: the one that follows.
        touched: narrowed to the rows that do not agree yet.
        known: tables by title.
        read: adds to `touched` what has been touched since.
        enough: stop when no more rows are left.
        rounds: stop after these, whatever is left.
    """
    for _ in range(rounds):
        read()
        if len(touched) <= enough:
            return
        touched.narrow(delta(source, target, touched, known).pending)


def final(proof: Proof) -> Proof:
    """Take what is pending for what it is when nothing moves any more: differences."""
    for title, keys in sorted(proof.pending.rows.items()):
        shown = tuple(", ".join(key) for key in sorted(keys)[:SHOWN])
        proof.differences.append(Difference(title, "rows that were touched", different=len(keys), examples=shown))
    proof.differences += [Difference(title, "the whole table", different=1) for title in sorted(proof.pending.whole)]
    proof.pending = Touched()
    return proof


def _unpaired(here: Iterable[Table], there: Iterable[Table]) -> list[Difference]:
    ours, others = {t.title for t in here}, {t.title for t in there}
    absent = [Difference(title, "the whole table", missing=1) for title in sorted(ours - others)]
    return absent + [Difference(title, "the whole table", surplus=1) for title in sorted(others - ours)]


@dataclass(frozen=True)
class _Both:
    """Both sides, asked at once."""

    source: Database
    target: Database

    def ask(self, question: Callable[[Database], Answer]) -> tuple[Answer, Answer]:
        with ThreadPoolExecutor(max_workers=2) as pool:
            here, there = pool.map(question, (self.source, self.target))
        return here, there


def _again(both: _Both, title: str, table: Table | None, proof: Proof) -> None:
    """Compare a truncated table, or one without a key, as a whole."""
    if table is None:
        proof.pending.whole.add(title)
        return
    rows, others = both.ask(partial(_by_part, query=_sums(table, [])))
    proof.rows += sum(count for count, _ in rows.values())
    if rows != others:
        proof.pending.whole.add(title)


def _table(both: _Both, table: Table, proof: Proof, touched: Callable[[], Touched]) -> None:
    bounds = _bounds(both.source, table)
    rows, others = both.ask(partial(_by_part, query=_sums(table, bounds)))
    proof.rows += sum(count for count, _ in rows.values())
    parts = sorted(part for part in rows.keys() | others.keys() if rows.get(part) != others.get(part))
    if not parts:
        return
    if not table.key:
        counts = [sum(count for count, _ in side.values()) for side in (rows, others)]
        found = f"the whole table ({counts[0]} rows here, {counts[1]} there; it has no key to tell them apart)"
        proof.differences.append(Difference(table.title, found, different=1))
        return
    mine, theirs = both.ask(partial(_placed, query=_rows_of_parts(table, bounds, parts)))
    moving = touched()
    places = {key: part for side in (theirs, mine) for key, (part, _) in side.items()}
    for part in sorted(set(places.values())):
        keys = sorted(key for key, place in places.items() if place == part and mine.get(key) != theirs.get(key))
        still = [key for key in keys if (table.title, key) not in moving]
        _defer(table, set(keys) - set(still), moving, proof)
        _judge(table, _range(table, bounds, part), still, (mine, theirs), proof)


def _defer(table: Table, keys: set[Key], moving: Touched, proof: Proof) -> None:
    """Leave rows that were touched meanwhile to the next delta."""
    if keys and table.title in moving.whole:
        proof.pending.whole.add(table.title)
    elif keys:
        proof.pending.rows.setdefault(table.title, set()).update(keys)


def _judge(table: Table, where: str, keys: Sequence[Key], sides: Sequence[Mapping[Key, Any]], proof: Proof) -> None:
    """Say what is wrong with rows of one range that differ."""
    mine, theirs = sides
    found: dict[str, list[Key]] = {"missing": [], "different": [], "surplus": []}
    for key in keys:
        found["missing" if key not in theirs else "surplus" if key not in mine else "different"].append(key)
    if keys:
        examples = tuple(f"{word} {', '.join(key)}" for word, these in found.items() for key in these[:SHOWN])[:SHOWN]
        counts = {word: len(these) for word, these in found.items()}
        proof.differences.append(Difference(table.title, where, **counts, examples=examples))


def _bounds(source: Database, table: Table) -> list[Key]:
    """First keys of every range but the first."""
    if not table.key:
        return []
    order = ", ".join(f"t.{identifier(column)}" for column, _ in table.key)
    return [
        tuple(row["key"])
        for row in source.ask(
            f"SELECT key FROM (SELECT {table.key_texts()} AS key, row_number() OVER (ORDER BY {order}) AS n"
            f" FROM {table.sql} t) ordered WHERE n % {RANGE} = 0 ORDER BY n"
        )
    ]


def _part(table: Table, bounds: Sequence[Key]) -> str:
    """Which range a row is in: 0 before the first bound."""
    if not bounds:
        return "0"
    rows = ", ".join(f"ROW({_typed(table, bound)})" for bound in bounds)
    return f"width_bucket({table.key_row()}, ARRAY[{rows}])"


def _typed(table: Table, key: Key) -> str:
    return ", ".join(f"{literal(text)}::{kind}" for text, (_, kind) in zip(key, table.key, strict=True))


def _range(table: Table, bounds: Sequence[Key], part: int) -> str:
    name = ", ".join(column for column, _ in table.key)
    first = f"from {', '.join(bounds[part - 1])}" if part else "from the first"
    return f"{name} {first}" + (f" to before {', '.join(bounds[part])}" if part < len(bounds) else " to the last")


def _sums(table: Table, bounds: Sequence[Key]) -> str:
    return (
        f"SELECT {_part(table, bounds)} AS part, count(*) AS count,"
        f" sum(hashtextextended({table.row()}, 0)::numeric)::text AS sum FROM {table.sql} t GROUP BY 1 ORDER BY 1"
    )


def _rows_of_parts(table: Table, bounds: Sequence[Key], parts: Sequence[int]) -> str:
    part = _part(table, bounds)
    return (
        f"SELECT {part} AS part, {table.key_texts()} AS key, hashtextextended({table.row()}, 0) AS hash"
        f" FROM {table.sql} t WHERE {part} IN ({', '.join(map(str, parts))})"
    )


def _rows_by_key(table: Table, keys: Sequence[Key]) -> str:
    names = [f"k{number}" for number in range(len(table.key))]
    columns = ", ".join(f"(w ->> {n})::{kind} AS {names[n]}" for n, (_, kind) in enumerate(table.key))
    same = " AND ".join(
        f"t.{identifier(column)} = w.{name}" for (column, _), name in zip(table.key, names, strict=True)
    )
    return (
        f"SELECT {table.key_texts()} AS key, hashtextextended({table.row()}, 0) AS hash"
        f" FROM (SELECT DISTINCT {columns} FROM json_array_elements({literal(json.dumps(keys))}::json) w) w"
        f" JOIN {table.sql} t ON {same}"
    )


def _by_part(database: Database, query: str) -> dict[int, tuple[int, str]]:
    return {int(row["part"]): (int(row["count"]), row["sum"]) for row in database.ask(query)}


def _hashes(database: Database, query: str) -> dict[Key, Any]:
    return {tuple(row["key"]): row["hash"] for row in database.ask(query)}


def _placed(database: Database, query: str) -> dict[Key, tuple[int, Any]]:
    return {tuple(row["key"]): (int(row["part"]), row["hash"]) for row in database.ask(query)}
