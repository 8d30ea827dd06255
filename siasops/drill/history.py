"""Operation logs of the workloads: written line by line, read back as typed operations.

Every operation is logged twice: its intent, durable before anything is sent, and its outcome. An intent without an
outcome is unknown: its process or machine died. Times are seconds of the controller's monotonic clock, which all
workloads of a run share.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
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
ACCOUNTS = 8
OPENING = 1000
"""The bank: how many accounts, and what each holds at first."""


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
class Transfer:
    """One attempt to move `amount` from one account to another."""

    id: str
    source: int
    target: int
    amount: int
    invoked: float
    ended: float | None = None
    outcome: Outcome = Outcome.UNKNOWN


@dataclass(frozen=True)
class Claim:
    """One attempt to be the first to insert a key; `number` is what the winner was given."""

    key: str
    client: int
    invoked: float
    ended: float | None = None
    outcome: Outcome = Outcome.UNKNOWN
    number: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """What somebody found when adding all accounts up; `total` None = no answer."""

    database: str
    ended: float
    node: str | None
    accounts: int | None
    total: int | None


@dataclass(frozen=True)
class ProbeOp:
    """One write asked of one database host by itself."""

    node: str
    number: int
    invoked: float
    ended: float | None = None
    outcome: Outcome = Outcome.UNKNOWN
    timeline: int | None = None


@dataclass(frozen=True)
class Final:
    """What one database host holds after the run, beside the ledger."""

    balances: Mapping[int, int]
    transfers: frozenset[str]
    claims: Mapping[str, tuple[int, int]]
    """Key to its client and its number."""
    probes: frozenset[tuple[str, int]]
    """Node and number of the probe's rows."""


@dataclass(frozen=True)
class History:
    """Everything that the workloads of a run logged."""

    ledger: list[LedgerOp]
    reads: list[LedgerRead]
    documents: list[DocumentOp]
    document_reads: list[DocumentRead]
    http: list[HttpOp]
    transfers: list[Transfer] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    probes: list[ProbeOp] = field(default_factory=list)


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a log; a torn last line (its writer was killed) is left out, any other bad line is an error.

    Raises:
        ValueError: names the file and the line.
    """
    packed = path.with_name(path.name + ".gz")
    if packed.exists():
        lines = gzip.decompress(packed.read_bytes()).decode().split("\n")
    elif path.exists():
        lines = path.read_text(encoding="utf-8").split("\n")
    else:
        return
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                return
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from error


def pack(folder: Path) -> None:
    """Compress the logs of a run that has its verdict: they shrink to a tenth, and are read as before."""
    for path in folder.glob("*.jsonl"):
        if path.name != "journal.jsonl":
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), 6))
            path.unlink()


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


def read_invariants(lines: Iterable[dict[str, Any]]) -> tuple[list[Transfer], list[Claim], list[Snapshot]]:
    """Pair intents with outcomes; keep snapshots."""
    transfers: dict[str, Transfer] = {}
    claims: dict[str, Claim] = {}
    snapshots: list[Snapshot] = []
    for line in lines:
        match line["e"], line.get("what"):
            case "intent", "transfer":
                transfers[line["id"]] = Transfer(line["id"], line["source"], line["target"], line["amount"], line["t"])
            case "intent", "claim":
                claims[line["id"]] = Claim(line["key"], line["client"], line["t"])
            case "outcome", "transfer":
                transfers[line["id"]] = replace(
                    transfers[line["id"]], ended=line["t"], outcome=Outcome(line["outcome"])
                )
            case "outcome", "claim":
                claims[line["id"]] = replace(
                    claims[line["id"]], ended=line["t"], outcome=Outcome(line["outcome"]), number=line["value"]
                )
            case "snapshot", _:
                snapshots.append(Snapshot(line["database"], line["t"], line["node"], line["accounts"], line["total"]))
            case _:
                continue
    return list(transfers.values()), list(claims.values()), snapshots


def read_probes(lines: Iterable[dict[str, Any]]) -> list[ProbeOp]:
    """Pair what each host was asked with what it answered; questions to standbys are left out."""
    ops: dict[tuple[str, int], ProbeOp] = {}
    for line in lines:
        match line["e"]:
            case "intent":
                ops[line["node"], line["number"]] = ProbeOp(line["node"], line["number"], line["t"])
            case "standby":
                ops.pop((line["node"], line["number"]), None)
            case "outcome":
                key = line["node"], line["number"]
                ops[key] = replace(
                    ops[key], ended=line["t"], outcome=Outcome(line["outcome"]), timeline=line["timeline"]
                )
            case _:
                continue
    return list(ops.values())


def load(folder: Path, names: Mapping[str, str] | None = None) -> History:
    """Read the logs of a run; `names` turns the addresses of nodes into host names."""
    named = names or {}
    ledger, reads = read_ledger(
        {**line, "node": named.get(line["node"], line["node"])} if line.get("node") else line
        for line in records(folder / "ledger.jsonl")
    )
    documents, document_reads = read_documents(records(folder / "documents.jsonl"))
    transfers, claims, snapshots = read_invariants(records(folder / "invariants.jsonl"))
    return History(
        ledger,
        reads,
        documents,
        document_reads,
        read_http(records(folder / "http.jsonl")),
        transfers,
        claims,
        [replace(s, node=named.get(s.node, s.node)) if s.node else s for s in snapshots],
        read_probes(records(folder / "nodes.jsonl")),
    )
