"""Operation logs of the workloads: written line by line, read back as typed operations.

Every operation is logged twice: its intent, durable before anything is sent, and its outcome. An intent without an
outcome is unknown: its process or machine died. Times are seconds of the controller's monotonic clock, which all
workloads of a run share.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any


class Outcome(StrEnum):
    """How an operation ended, as its client can know it."""

    OK = "ok"
    """Acknowledged: it must never be lost."""
    FAILED = "failed"
    """Refused for certain: it must never appear."""
    UNKNOWN = "unknown"
    """Neither: the link was lost after COMMIT was sent, or the server did not wait for its standby."""


GENESIS = "0" * 64
"""What the first row of every client's chain points to."""


def chain_hash(previous: str, run: str, client: int, sequence: int, attempt: int) -> str:
    """Hash of a ledger row: a row that is altered, or that replaces another, breaks its client's chain."""
    return hashlib.sha256(f"{previous}|{run}|{client}|{sequence}|{attempt}".encode()).hexdigest()


@dataclass(frozen=True)
class LedgerOp:
    """One attempt to insert one row.

    `home` is the room whose users the client stands for, `via` the room whose PgBouncer it used; `node` and `timeline`
    tell who acknowledged.
    """

    client: int
    sequence: int
    attempt: int
    hash: str
    home: str
    via: str
    invoked: float
    ended: float | None = None
    outcome: Outcome = Outcome.UNKNOWN
    why: str = ""
    row: int | None = None
    node: str | None = None
    timeline: int | None = None

    @property
    def key(self) -> tuple[int, int, int]:
        """Client, sequence, attempt: identifies the operation within a run."""
        return self.client, self.sequence, self.attempt


@dataclass(frozen=True)
class LedgerRow:
    """A row as a database node holds it after the run."""

    row: int
    client: int
    sequence: int
    attempt: int
    previous: str
    hash: str

    @property
    def key(self) -> tuple[int, int, int]:
        """Client, sequence, attempt."""
        return self.client, self.sequence, self.attempt


@dataclass(frozen=True)
class LedgerRead:
    """One read of every client's last sequence, through `database` (sias or sias_ro)."""

    database: str
    home: str
    via: str
    invoked: float
    ended: float
    outcome: Outcome
    node: str | None = None
    seen: Mapping[int, int] | None = None
    why: str = ""


@dataclass(frozen=True)
class DocumentOp:
    """One upload through one room's address. `address` is where it can be read, once known."""

    number: int
    sha256: str
    room: str
    invoked: float
    ended: float | None = None
    outcome: Outcome = Outcome.UNKNOWN
    path: str | None = None
    why: str = ""


@dataclass(frozen=True)
class DocumentRead:
    """One read back of an acknowledged document through one room's address; `final` after convergence."""

    number: int
    room: str
    ended: float
    sha256: str | None
    final: bool
    why: str = ""


@dataclass(frozen=True)
class HttpOp:
    """One request of the prober. Latency counts from `intended`, whatever delayed its start."""

    kind: str
    room: str
    intended: float
    started: float
    ended: float
    ok: bool
    status: int | None
    why: str = ""
    served_by: str = ""

    @property
    def latency(self) -> float:
        """Seconds from the intended start to the whole answer."""
        return self.ended - self.intended


@dataclass(frozen=True)
class History:
    """Everything that the workloads of a run logged."""

    ledger: list[LedgerOp]
    reads: list[LedgerRead]
    documents: list[DocumentOp]
    document_reads: list[DocumentRead]
    http: list[HttpOp]


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a log; a torn last line (its writer was killed) is left out, any other bad line is an error.

    Raises:
        ValueError: names the file and the line.
    """
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                return
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from error


def read_ledger(lines: Iterable[dict[str, Any]]) -> tuple[list[LedgerOp], list[LedgerRead]]:
    """Pair intents with outcomes; keep reads."""
    ops: dict[tuple[int, int, int], LedgerOp] = {}
    reads: list[LedgerRead] = []
    for line in lines:
        match line["e"]:
            case "intent":
                op = LedgerOp(
                    client=line["client"],
                    sequence=line["sequence"],
                    attempt=line["attempt"],
                    hash=line["hash"],
                    home=line["home"],
                    via=line["via"],
                    invoked=line["t"],
                )
                ops[op.key] = op
            case "outcome":
                key = line["client"], line["sequence"], line["attempt"]
                ops[key] = replace(
                    ops[key],
                    ended=line["t"],
                    outcome=Outcome(line["outcome"]),
                    why=line.get("why", ""),
                    row=line.get("row"),
                    node=line.get("node"),
                    timeline=line.get("timeline"),
                )
            case "read":
                seen = line.get("seen")
                reads.append(
                    LedgerRead(
                        database=line["database"],
                        home=line["home"],
                        via=line["via"],
                        invoked=line["invoked"],
                        ended=line["t"],
                        outcome=Outcome(line["outcome"]),
                        node=line.get("node"),
                        seen={int(client): sequence for client, sequence in seen.items()} if seen else None,
                        why=line.get("why", ""),
                    )
                )
            case _:
                continue
    return list(ops.values()), reads


def read_documents(lines: Iterable[dict[str, Any]]) -> tuple[list[DocumentOp], list[DocumentRead]]:
    """Pair uploads with outcomes; keep what was read back."""
    ops: dict[int, DocumentOp] = {}
    reads: list[DocumentRead] = []
    for line in lines:
        match line["e"]:
            case "intent":
                ops[line["number"]] = DocumentOp(line["number"], line["sha256"], line["room"], line["t"])
            case "outcome":
                ops[line["number"]] = replace(
                    ops[line["number"]],
                    ended=line["t"],
                    outcome=Outcome(line["outcome"]),
                    path=line.get("path"),
                    why=line.get("why", ""),
                )
            case "read":
                reads.append(
                    DocumentRead(
                        line["number"], line["room"], line["t"], line["sha256"], line["final"], line.get("why", "")
                    )
                )
            case _:
                continue
    return list(ops.values()), reads


def read_http(lines: Iterable[dict[str, Any]]) -> list[HttpOp]:
    """Keep the prober's requests, in their order of completion."""
    return [
        HttpOp(
            kind=line["kind"],
            room=line["room"],
            intended=line["intended"],
            started=line["started"],
            ended=line["t"],
            ok=line["ok"],
            status=line.get("status"),
            why=line.get("why", ""),
            served_by=line.get("served_by", ""),
        )
        for line in lines
        if line["e"] == "request"
    ]


def load(folder: Path, names: Mapping[str, str] | None = None) -> History:
    """Read the logs of a run; `names` turns the addresses of nodes into host names."""
    named = names or {}
    ledger, reads = read_ledger(
        {**line, "node": named.get(line["node"], line["node"])} if line.get("node") else line
        for line in records(folder / "ledger.jsonl")
    )
    documents, document_reads = read_documents(records(folder / "documents.jsonl"))
    return History(ledger, reads, documents, document_reads, read_http(records(folder / "http.jsonl")))
