"""From operations to a verdict: figures, the promises they are compared with, and whether each holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from siasops.drill import checker, consistency
from siasops.drill.checker import Finding, Gap, Term
from siasops.drill.history import DocumentOp, Final, History, HttpOp, LedgerRow, Outcome

OFFERED = 0.99
"""Share of the intended HTTP arrivals that must have begun in time; below, the run says nothing about HTTP."""


@dataclass(frozen=True)
class Moments:
    """When the phases of a run began, seconds of the controller's monotonic clock."""

    baseline: float
    fault: float
    started: float
    """When the fault was fully in force."""
    healed: float
    converged: float
    end: float
    copies_back: float | None
    """When every database host followed again for good; None when that was not seen."""
    documents_back: float | None = None
    """When no brick missed a document any more; None when none was lost."""


@dataclass(frozen=True)
class Span:
    """A phase of a planned change, seconds of the same clock."""

    title: str
    begin: float
    end: float


class Disturbance(Protocol):
    """What `judge` asks of a fault, or of a change; see `Fault`."""

    @property
    def lasts(self) -> bool:
        """As `Fault.lasts`."""

    @property
    def takes_copies(self) -> bool:
        """As `Fault.takes_copies`."""

    @property
    def stops_writes(self) -> bool:
        """As `Fault.stops_writes`."""


@dataclass(frozen=True)
class Promise:
    """One line of the verdict: what was promised, what was found."""

    what: str
    found: str
    objective: str
    held: bool


@dataclass
class Result:
    """Everything that a drill found."""

    name: str
    run: str
    environment: str
    plan: dict[str, Any]
    story: str
    moments: Moments
    promises: list[Promise] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    terms: list[Term] = field(default_factory=list)
    write_gap: Gap | None = None
    read_gap: Gap | None = None
    valid: bool = True
    seconds: float = 0.0
    spans: list[Span] = field(default_factory=list)
    """Phases, of a planned change."""
    event: str = "fault"
    """What zero of the time axis is: the fault, or the change."""

    @property
    def held(self) -> bool:
        """Whether every promise held, something was compared, and the load was really offered."""
        return bool(self.promises) and all(p.held for p in self.promises) and not self.findings and self.valid

    @property
    def verdict(self) -> str:
        """Return held, failed or invalid; a broken promise outweighs a starved generator."""
        if not self.promises or self.findings or not all(p.held for p in self.promises):
            return "failed"
        return "held" if self.valid else "invalid"

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "verdict": self.verdict}


def judge(
    result: Result,
    history: History,
    ledgers: Mapping[str, Sequence[LedgerRow]],
    finals: Mapping[str, Final],
    *,
    fault: Disturbance,
    expected_nodes: Sequence[str],
    rooms: Sequence[str],
    rates: Mapping[str, float],
    objectives: Mapping[str, Any],
    limits: Mapping[str, float],
) -> Result:
    """Fill a result in: compare the history with what the nodes hold, with the objectives and with this run's limits."""
    moments = result.moments
    ledger = checker.check_ledger(result.run, history.ledger, ledgers, expected_nodes, history.probes)
    documents = checker.check_documents(history.documents, history.document_reads, rooms)
    others = consistency.check(history.transfers, history.snapshots, history.claims, history.probes, finals)
    result.findings = [
        *ledger.findings,
        *checker.check_reads(history.ledger, history.reads),
        *documents.findings,
        *others.findings,
    ]
    result.terms = checker.terms(history.ledger)

    window = moments.fault, moments.converged
    good = [op for op in history.ledger if op.outcome is Outcome.OK and op.ended is not None]
    writes = {room: checker.longest_gap([op.ended or 0.0 for op in good if op.home == room], *window) for room in rooms}
    result.write_gap = checker.longest_gap([op.ended or 0.0 for op in good], *window)
    reads = {
        (room, database): checker.longest_gap(
            [r.ended for r in history.reads if r.outcome is Outcome.OK and r.home == room and r.database == database],
            *window,
        )
        for room in rooms
        for database in ("sias", "sias_ro")
    }
    # The promise about reads is for the users who fare worst: a room's, through the path that may lag.
    lagging = [reads[room, "sias_ro"] for room in rooms]
    result.read_gap = (
        None if any(gap is None for gap in lagging) else max((g for g in lagging if g), key=lambda gap: gap.seconds)
    )
    slowest = _slowest_document(history.documents, *window)
    wait = None if slowest is None else round(slowest[0], 2)
    http = {kind: [op for op in history.http if op.kind == kind] for kind in rates}
    slow = float(objectives["http_slow"])
    offered = {
        kind: checker.offered_ratio(ops, rates[kind], moments.baseline, moments.converged) for kind, ops in http.items()
    }
    result.valid = all(ratio >= OFFERED for ratio in offered.values())
    failures = [op for op in history.http if not op.ok and moments.fault <= op.intended <= moments.converged]
    failed = len(failures)
    reference = moments.healed if fault.lasts else moments.fault
    back = {
        name: None if at is None else round(max(0.0, at - reference), 1)
        for name, at in (("database", moments.copies_back), ("documents", moments.documents_back))
        if name == "database" or fault.takes_copies
    }
    redundancy = None if None in back.values() else max(at for at in back.values() if at is not None)
    meanwhile = sum(1 for op in good if op.invoked >= moments.started and (op.ended or 0.0) <= moments.healed)

    result.figures = {
        "writes_acknowledged": ledger.acknowledged,
        "writes_refused": ledger.failed,
        "writes_unknown": ledger.unknown,
        "unknown_landed": ledger.unknown_landed,
        "unknown_absent": ledger.unknown_absent,
        "writes_lost": ledger.lost + others.lost,
        "writes_in_force": meanwhile,
        "duplicates": ledger.duplicates,
        "rows": ledger.rows,
        "nodes_read": ledger.nodes,
        "write_gap": _seconds(result.write_gap),
        "write_gap_at": _span(result.write_gap, moments.fault),
        "write_gap_by_room": {room: _seconds(gap) for room, gap in writes.items()},
        "read_gap": _seconds(result.read_gap),
        "read_gap_at": _span(result.read_gap, moments.fault),
        "read_gap_by_room": {f"{room} {database}": _seconds(gap) for (room, database), gap in reads.items()},
        "replica_staleness": round(checker.staleness(history.ledger, history.reads, "sias_ro"), 2),
        "primary_staleness": round(checker.staleness(history.ledger, history.reads, "sias"), 2),
        "transfers": others.transfers,
        "snapshots": others.snapshots,
        "claims": others.claims,
        "probes": others.probes,
        "documents_acknowledged": documents.acknowledged,
        "documents_unknown": documents.unknown,
        "documents_lost": documents.lost,
        "documents_read_back": documents.read_back,
        "document_wait": wait,
        "redundancy_back": redundancy,
        "redundancy_back_by_part": back,
        "held_for": round(moments.healed - moments.fault, 1),
        "converged": round(moments.converged - moments.fault, 1),
        "leaders": [term.node for term in result.terms],
        "http": {
            kind: {**asdict(checker.http_figures(ops, slow)), "offered": round(offered[kind], 4)}
            for kind, ops in http.items()
        },
        "http_failed": failed,
        "http_gap": _seconds(checker.longest_gap([op.ended for op in history.http if op.ok], *window)),
    }
    result.promises = [
        Promise(
            "Acknowledged writes lost",
            f"{ledger.lost} of {ledger.acknowledged} in the ledger, {others.lost} of "
            f"{others.transfers + others.claims + others.probes} others",
            f"{objectives['acknowledged_writes_lost']}",
            ledger.acknowledged > 0 and ledger.lost + others.lost <= objectives["acknowledged_writes_lost"],
        ),
        Promise(
            "Duplicates", f"{ledger.duplicates} in {ledger.rows} rows", "0", ledger.rows > 0 and not ledger.duplicates
        ),
        Promise(
            "Unknown writes resolved",
            f"{ledger.unknown_landed} landed, {ledger.unknown_absent} did not, of {ledger.unknown}",
            "all",
            bool(ledgers) and set(expected_nodes) <= set(ledgers),
        ),
        *_about_writing(result, limits, meanwhile, stops=fault.stops_writes),
        _limit("Longest time without a read, in the room that fared worst", result.read_gap, limits["read_gap"]),
        Promise(
            "Acknowledged documents lost",
            f"{documents.lost} of {documents.acknowledged}, each read back through {len(rooms)} rooms",
            f"{objectives['documents_lost']}",
            documents.acknowledged > 0 and documents.lost <= objectives["documents_lost"],
        ),
    ]
    if "document_wait" in limits:
        result.promises.append(
            Promise(
                "Longest wait to store a document",
                "nobody stored one" if slowest is None else _about_document(*slowest, moments.fault),
                f"at most {limits['document_wait']} s",
                wait is not None and wait <= limits["document_wait"],
            )
        )
    if "http_failed" in limits:
        result.promises.append(
            Promise(
                "Failed requests",
                _about_failures(failures, moments.fault),
                f"{limits['http_failed']}",
                failed <= limits["http_failed"],
            )
        )
    result.promises.append(
        Promise(
            f"Redundancy back after {'its end' if result.spans else 'the healing' if fault.lasts else 'the fault'}",
            ", ".join(f"{name} {'never' if at is None else f'{at:.1f} s'}" for name, at in back.items()),
            f"at most {limits['redundancy_back']} s",
            redundancy is not None and redundancy <= limits["redundancy_back"],
        )
    )
    return result


def _about_writing(result: Result, limits: Mapping[str, float], meanwhile: int, *, stops: bool) -> list[Promise]:
    """Either writers wait no longer than promised, or nothing is acknowledged until the fault is healed."""
    gap = result.write_gap
    if not stops:
        return [_limit("Longest time without an acknowledged write", gap, limits["write_gap"])]
    back = None if gap is None or not gap.recovered else max(0.0, gap.end - result.moments.healed)
    return [
        Promise("Writes acknowledged while it is in force", f"{meanwhile}", "0", meanwhile == 0),
        Promise(
            "Writes acknowledged again after healing",
            "never" if back is None else f"{back:.2f} s",
            f"at most {limits['writes_back']} s",
            back is not None and back <= limits["writes_back"],
        ),
    ]


def _slowest_document(ops: Sequence[DocumentOp], start: float, end: float) -> tuple[float, DocumentOp] | None:
    """Find who waited longest for the answer of all who stored a document around the fault; None when nobody did."""
    waits = [
        ((op.ended if op.ended is not None else end) - op.invoked, op)
        for op in ops
        if op.invoked < end and (op.ended is None or op.ended > start)
    ]
    return max(waits, key=lambda found: found[0]) if waits else None


def _about_document(wait: float, op: DocumentOp, zero: float) -> str:
    return f"{wait:.2f} s (room {op.room}, from {op.invoked - zero:.1f} s{', ' + op.why if op.why else ''})"


def _about_failures(failures: Sequence[HttpOp], zero: float) -> str:
    """Say how many failed, and of the most frequent kinds which, where and when: a bare number explains nothing."""
    if not failures:
        return "0"
    kinds = Counter(
        (op.why.split(" ")[0] or "no answer", f"room {op.room}", op.served_by or "nobody") for op in failures
    )
    shown = "; ".join(f"{n} × {why}, {room}, served by {host}" for (why, room, host), n in kinds.most_common(4))
    first, last = min(op.intended for op in failures) - zero, max(op.ended for op in failures) - zero
    return f"{len(failures)} ({shown}; {first:.1f} to {last:.1f} s)"


def _span(gap: Gap | None, zero: float) -> list[float] | None:
    """Begin and end of a gap, seconds from the fault."""
    return None if gap is None else [round(gap.start - zero, 2), round(gap.end - zero, 2)]


def _limit(what: str, gap: Gap | None, limit: float) -> Promise:
    if gap is None:
        return Promise(what, "there was none at all", f"at most {limit} s", held=False)
    found = f"{gap.seconds:.2f} s" + ("" if gap.recovered else " and it did not end")
    return Promise(what, found, f"at most {limit} s", gap.recovered and gap.seconds <= limit)


def _seconds(gap: Gap | None) -> float | None:
    return None if gap is None else round(gap.seconds, 2)
