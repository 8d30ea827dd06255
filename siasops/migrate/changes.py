"""Which rows have been touched, by the source's own log: a second logical slot, read beside the one that green follows.

Every insert, update, delete and truncate that committed after the slot's position is in it, with the row's key. So a row
that differs and is not in it has been lost, and a row that is in it is compared again once green has caught up.

    touched = Touched.load(path)
    touched.read(source, "sias_proof", "sias_migration")     # saved before the slot forgets

Format of the messages: PostgreSQL's manual, “Logical Replication Message Formats”, protocol version 1.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from siasops.migrate.database import Database, literal
from siasops.migrate.tables import LOCAL, Table

Key = tuple[str, ...]
"""A row's key as texts, in the order of `Table.key`."""
AT_ONCE = 100_000
"""Messages that are read in one answer, at least; a transaction is never cut."""


@dataclass
class Touched:
    """Rows touched since some moment. `whole`: tables that were truncated; everything of them is to be compared again."""

    rows: dict[str, set[Key]] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    path: Path | None = None
    """Where it is kept; None keeps it in memory alone."""

    @classmethod
    def load(cls, path: Path) -> Touched:
        """Read what an earlier process kept; empty when there was none."""
        if not path.exists():
            return cls(path=path)
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls({t: {tuple(k) for k in keys} for t, keys in data["rows"].items()}, set(data["whole"]), path)

    def __len__(self) -> int:
        """Rows, truncated tables counted as one each."""
        return len(self.whole) + sum(len(keys) for keys in self.rows.values())

    def __contains__(self, place: tuple[str, Key]) -> bool:
        """Whether a table's (by title) row has been touched."""
        table, key = place
        return table in self.whole or key in self.rows.get(table, ())

    def save(self) -> None:
        """Put it on the disk, whole or not at all."""
        if self.path is None:
            return
        draft = self.path.with_suffix(".new")
        with draft.open("w", encoding="utf-8") as file:
            json.dump({"rows": {t: sorted(k) for t, k in self.rows.items()}, "whole": sorted(self.whole)}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)

    def narrow(self, left: Touched) -> None:
        """Forget every row but these; what had been saved is replaced."""
        self.rows, self.whole = {t: set(keys) for t, keys in left.rows.items()}, set(left.whole)
        self.save()

    def read(self, source: Database, slot: str, publication: str, tables: Mapping[str, Table]) -> int:
        """Add everything that committed between the slot's position and now, and move the slot.

        What was read is saved before the slot forgets it: a process that dies in between reads it again.

        Args:
            source: the database that is written.
            slot: a logical slot of plugin pgoutput that nobody else reads.
            publication: of all tables.
            tables: by title, for the order of their keys.

        Returns:
            Changes that were read.
        """
        read = 0
        # Up to here and no further: a source that is written all the time would be read for ever.
        (now,) = source.ask("SELECT pg_current_wal_flush_lsn()::text AS position")
        upto = literal(now["position"])
        while True:
            answers = source.ask(
                "SELECT encode(data, 'hex') AS data FROM pg_logical_slot_peek_binary_changes("
                f"{literal(slot)}, {upto}, {AT_ONCE}, 'proto_version', '1', 'publication_names', {literal(publication)})"
            )
            if not answers:
                return read
            decoder, end = Decoder(tables), ""
            for answer in answers:
                data = bytes.fromhex(answer["data"])
                if data[:1] == b"C":
                    end = position(struct.unpack_from(">Q", data, 10)[0])
                for table, key in decoder.decode(data):
                    if table == LOCAL:
                        continue
                    read += 1
                    if key is None:
                        self.whole.add(table)
                    else:
                        self.rows.setdefault(table, set()).add(key)
            self.save()
            # Its end: what is peeked always ends with a commit.
            source.ask(f"SELECT end_lsn::text FROM pg_replication_slot_advance({literal(slot)}, {literal(end)})")
            if len(answers) < AT_ONCE:
                return read


def position(number: int) -> str:
    """Write a position of the log as PostgreSQL does."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


class Decoder:
    """Reads messages of pgoutput, and tells the keys of the rows that they touch."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = tables
        self._relations: dict[int, tuple[str, list[str]]] = {}

    def decode(self, data: bytes) -> Iterator[tuple[str, Key | None]]:
        """Yield table and key for each row of one message; a key of None means the whole table."""
        kind = data[:1]
        if kind == b"R":
            self._relation(data)
        elif kind == b"T":
            count = struct.unpack_from(">i", data, 1)[0]
            for oid in struct.unpack_from(f">{count}i", data, 6):
                yield self._relations[oid][0], None
        elif kind in {b"I", b"U", b"D"}:
            (oid,) = struct.unpack_from(">i", data, 1)
            table, columns = self._relations[oid]
            place = 5
            while place < len(data):
                # K: the former key; O: the whole former row; N: the new row. Both ends of a moved row are touched.
                place, values = _values(data, place + 1)
                yield table, self._key(table, dict(zip(columns, values, strict=True)))

    def _relation(self, data: bytes) -> None:
        (oid,) = struct.unpack_from(">i", data, 1)
        place, schema = _string(data, 5)
        place, name = _string(data, place)
        (count,) = struct.unpack_from(">h", data, place + 1)
        place += 3
        columns = []
        for _ in range(count):
            place, column = _string(data, place + 1)
            columns.append(column)
            place += 8
        self._relations[oid] = f"{schema}.{name}", columns

    def _key(self, table: str, values: Mapping[str, str | None]) -> Key | None:
        known = self._tables.get(table)
        if known is None or not known.key:
            return None  # made since, or without a key: only the whole can be compared
        key = [values[column] for column, _ in known.key]
        return tuple(part for part in key if part is not None)


def _string(data: bytes, place: int) -> tuple[int, str]:
    end = data.index(b"\0", place)
    return end + 1, data[place:end].decode()


def _values(data: bytes, place: int) -> tuple[int, list[str | None]]:
    (count,) = struct.unpack_from(">h", data, place)
    place += 2
    values: list[str | None] = []
    for _ in range(count):
        kind = data[place : place + 1]
        place += 1
        if kind == b"t":
            (length,) = struct.unpack_from(">i", data, place)
            values.append(data[place + 4 : place + 4 + length].decode())
            place += 4 + length
        else:  # n: null, u: a large value that did not change; neither is part of a key
            values.append(None)
    return place, values
