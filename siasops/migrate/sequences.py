"""Sequences: logical replication does not carry them, so the target is set to the source's exact value and a margin.

The margin covers what a crash may skip, and makes a number that was given twice impossible. A check that had nothing to
compare fails: elsewhere, one that compared two empty answers has passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from siasops.cluster.check import Line
from siasops.migrate.database import Database, identifier, literal
from siasops.migrate.tables import SYSTEM

MARGIN = 1000
"""Values left unused by a cutover."""
_SEQUENCES = f"""
SELECT n.nspname AS schema, c.relname AS name, s.seqincrement AS step, s.seqmin AS min, s.seqmax AS max, s.seqcycle AS cycles,
       pg_sequence_last_value(c.oid) AS last
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relpersistence <> 't' AND {SYSTEM}
 ORDER BY 1, 2
"""
_OWNERS = f"""
SELECT n.nspname AS schema, c.relname AS name, tn.nspname AS table_schema, t.relname AS table_name, a.attname AS column
  FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
   AND a.atttypid IN (20, 21, 23) AND t.relkind IN ('r', 'p') AND {SYSTEM}
"""


@dataclass(frozen=True)
class Sequence:
    """A sequence. `last` is None when it has never given a value."""

    schema: str
    name: str
    step: int
    min: int
    max: int
    cycles: bool
    last: int | None

    @property
    def title(self) -> str:
        """How sentences call it."""
        return f"{self.schema}.{self.name}"

    def after(self, margin: int) -> int | None:
        """The last value that a successor shall have: this one's and the margin; None when nothing was ever given."""
        if self.last is None:
            return None
        return max(self.min, min(self.max, self.last + margin * self.step))

    @property
    def left(self) -> int:
        """Values that it can still give."""
        last = self.last if self.last is not None else (self.min if self.step > 0 else self.max)
        return (self.max - last if self.step > 0 else last - self.min) // abs(self.step)


def sequences(database: Database) -> dict[str, Sequence]:
    """Read every sequence, by title."""
    found = [Sequence(**row) for row in database.ask(_SEQUENCES)]
    return {sequence.title: sequence for sequence in found}


def carry(source: Mapping[str, Sequence], margin: int = MARGIN) -> str:
    """Statements that set the target's sequences; to be run once, before the target gives values of its own."""
    lines = []
    for sequence in source.values():
        value = sequence.after(margin)
        if value is not None:
            name = literal(f"{identifier(sequence.schema)}.{identifier(sequence.name)}")
            lines.append(f"SELECT pg_catalog.setval({name}::regclass, {value}, true);")
    return "\n".join(lines)


def carried(
    source: Mapping[str, Sequence], target: Mapping[str, Sequence], *, exact: bool, margin: int = MARGIN
) -> Line:
    """Judge the target's sequences: exactly what `carry` sets, or (exact=False) what has been used from there on."""
    what = "Sequences go on where they stood"
    wrong = [f"{title} is missing" for title in source if title not in target]
    compared = 0
    for title, sequence in source.items():
        wanted, other = sequence.after(margin), target.get(title)
        if other is None:
            continue
        compared += 1
        good = other.last == wanted if exact else wanted is None or (other.last is not None and _reached(other, wanted))
        if not good:
            wrong.append(f"{title} stands at {other.last}, {wanted} wanted ({sequence.last} and the margin)")
    if wrong:
        return Line(False, what, "; ".join(wrong[:10]), "Set them again before anybody writes there.")
    if not any(sequence.last is not None for sequence in source.values()):
        return Line(
            False,
            what,
            f"nothing was compared ({compared} sequences, none ever used)",
            "See that it is the right database.",
        )
    return Line(True, what, f"{compared} compared, {margin} values of margin")


def unused(database: Database) -> Line:
    """Judge each sequence by the largest value in its column, which knows nothing of how sequences were carried."""
    what, known = "No sequence would give a number that exists", sequences(database)
    edges = []
    for row in database.ask(_OWNERS):
        title = f"{row['schema']}.{row['name']}"
        edge = "max" if known[title].step > 0 else "min"
        table = f"{identifier(row['table_schema'])}.{identifier(row['table_name'])}"
        (found,) = database.ask(f"SELECT {edge}({identifier(row['column'])}) AS edge FROM {table}")
        if found["edge"] is not None:
            edges.append((title, f"{row['table_name']}.{row['column']}", found["edge"]))
    # Where people write, a sequence is past every number that was seen before it.
    known = sequences(database)
    behind = [
        f"{title} stands at {known[title].last}, {column} holds {edge}"
        for title, column, edge in edges
        if known[title].last is None or not _reached(known[title], edge)
    ]
    compared = len(edges)
    if behind:
        return Line(False, what, "; ".join(behind[:10]), "Set them past it before anybody writes there.")
    return Line(
        compared > 0, what, f"{compared} compared with their columns", "" if compared else "Nothing was compared."
    )


def _reached(sequence: Sequence, value: int) -> bool:
    assert sequence.last is not None  # noqa: S101 - the callers have looked
    return sequence.last >= value if sequence.step > 0 else sequence.last <= value
