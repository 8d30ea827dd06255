"""What there is to compare: ordinary tables with their columns, and the key that a row is told from others by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from siasops.migrate.database import Database, identifier

SYSTEM = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
"""Namespaces whose content is the users'."""
LOCAL = "sias_migration.decision"
"""The only table that is each side's own: who serves is decided on the side that is left."""
_TABLES = f"""
SELECT n.nspname AS schema, c.relname AS name, c.oid::bigint AS oid, greatest(c.reltuples, 0)::bigint AS about,
       (SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
       (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY k.place)
          FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k (attnum, place), pg_attribute a
         WHERE i.indrelid = c.oid AND k.place <= i.indnkeyatts AND a.attrelid = c.oid AND a.attnum = k.attnum
           AND i.indisvalid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident WHEN 'd' THEN i.indisprimary END) AS key
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {SYSTEM}
   AND n.nspname || '.' || c.relname <> '{LOCAL}'
 ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Table:
    """A table that holds rows: ordinary ones, and each partition of a partitioned one."""

    schema: str
    name: str
    oid: int
    about: int
    """Rows, as the planner believes; 0 when it has never looked."""
    columns: tuple[str, ...]
    key: tuple[tuple[str, str], ...]
    """Name and type of each column of the replica identity; empty when rows cannot be told apart."""

    @property
    def title(self) -> str:
        """How sentences call it."""
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        """Its quoted name."""
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    def row(self, alias: str = "t") -> str:
        """The whole row as text, columns in an order of ours: dropped columns and their order are nobody's difference."""
        return f"ROW({', '.join(f'{alias}.{identifier(c)}' for c in self.columns)})::text"

    def key_row(self, alias: str = "t") -> str:
        """The key as a row."""
        return f"ROW({', '.join(f'{alias}.{identifier(c)}' for c, _ in self.key)})"

    def key_texts(self, alias: str = "t") -> str:
        """The key as an array of texts, the form in which keys travel."""
        return f"ARRAY[{', '.join(f'{alias}.{identifier(c)}::text' for c, _ in self.key)}]"


def tables(database: Database) -> list[Table]:
    """List the tables of a database, by schema and name."""
    return [_table(row) for row in database.ask(_TABLES)]


def _table(row: dict[str, Any]) -> Table:
    key = tuple((str(name), str(kind)) for name, kind in row["key"] or [])
    return Table(row["schema"], row["name"], row["oid"], row["about"], tuple(row["columns"] or ()), key)
