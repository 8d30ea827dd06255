"""What must hold after a drill, as pure functions: operations in, findings and figures out.

Nothing here opens a file or a connection, so that each rule can be tested with invented histories. A check that had
nothing to compare is a finding, never a success.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from siasops.drill.history import (
    GENESIS,
    DocumentOp,
    DocumentRead,
    HttpOp,
    LedgerOp,
    LedgerRead,
    LedgerRow,
    Outcome,
    ProbeOp,
    chain_hash,
)

EXAMPLES = 5
"""How many offending operations a finding names."""


@dataclass(frozen=True)
class Finding:
    """A promise that did not hold: which rule, how many times, and a sentence with examples."""

    rule: str
    count: int
    text: str


@dataclass
class LedgerResult:
    """The ledger's findings and counts. `unknown_landed` + `unknown_absent` = unknowns, all resolved."""

    findings: list[Finding] = field(default_factory=list)
    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    lost: int = 0
    duplicates: int = 0
    unknown_landed: int = 0
    unknown_absent: int = 0
    rows: int = 0
    nodes: list[str] = field(default_factory=list)


@dataclass
class DocumentResult:
    """The documents' findings and counts."""

    findings: list[Finding] = field(default_factory=list)
    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    lost: int = 0
    read_back: int = 0


@dataclass(frozen=True)
class Gap:
    """The longest time without success: `seconds`, from the last success before it to the first after it.

    `recovered` is false when no success followed until the end of the observation.
    """

    seconds: float
    start: float
    end: float
    recovered: bool = True


@dataclass(frozen=True)
class Term:
    """A stretch in which one node acknowledged writes, on one timeline."""

    node: str
    timeline: int
    first: float
    last: float
    count: int


def check_ledger(
    run: str,
    ops: Sequence[LedgerOp],
    finals: Mapping[str, Sequence[LedgerRow]],
    expected_nodes: Iterable[str],
    probes: Sequence[ProbeOp] = (),
) -> LedgerResult:
    """Compare what clients were told with what every database node holds.

    Args:
        run: name of the run, part of every row's hash.
        ops: every attempt.
        finals: rows per database host, read after convergence.
        expected_nodes: database hosts that must have been read.
        probes: what every database host was asked by itself.

    Returns:
        Findings (empty when every promise held) and counts.
    """
    by_outcome = Counter(op.outcome for op in ops)
    result = LedgerResult(
        acknowledged=by_outcome[Outcome.OK],
        failed=by_outcome[Outcome.FAILED],
        unknown=by_outcome[Outcome.UNKNOWN],
        nodes=sorted(finals),
    )
    add = adder(result.findings)

    missing = sorted(set(expected_nodes) - set(finals))
    add("every node is read", missing, "not read after the run: {}")
    if not result.acknowledged:
        result.findings.append(Finding("something was compared", 1, "no write was acknowledged in the whole run"))
    if not any(finals.values()):
        result.findings.append(Finding("something was compared", 1, "no row was found on any database host"))

    acknowledged = {op.key: op for op in ops if op.outcome is Outcome.OK}
    maybe = {op.key: op for op in ops if op.outcome is Outcome.UNKNOWN}
    refused = {op.key for op in ops if op.outcome is Outcome.FAILED}
    lost: set[tuple[int, int, int]] = set()
    duplicates: set[object] = set()
    landed: set[tuple[int, int, int]] = set()
    for node, rows in finals.items():
        held = {row.key: row for row in rows}
        result.rows = max(result.rows, len(rows))
        gone = [
            op.key
            for op in acknowledged.values()
            if op.key not in held or held[op.key].hash != op.hash or (op.row is not None and held[op.key].row != op.row)
        ]
        lost.update(gone)
        add("no acknowledged write is lost", gone, f"acknowledged and not on {node}: {{}}")
        invented = [key for key in held if key not in acknowledged and key not in maybe]
        add(
            "nothing appears that was refused or never asked",
            [f"{key}{' (refused)' if key in refused else ''}" for key in invented],
            f"on {node}, though no client asked for it or was told so: {{}}",
        )
        landed.update(key for key in maybe if key in held)
        twice = _repeated((row.client, row.sequence) for row in rows)
        reissued = _repeated(row.row for row in rows)
        duplicates.update(twice, reissued)
        add("no row is there twice", twice, f"client and sequence twice on {node}: {{}}")
        add("no sequence value is issued twice", reissued, f"row number twice on {node}: {{}}")
        add("no gap below an acknowledged write", _holes(rows, acknowledged.values()), f"missing on {node}: {{}}")
        add("every client's chain is unbroken", _broken(run, rows), f"on {node}, does not follow its predecessor: {{}}")
    result.lost = len(lost)
    add(
        "no row number is acknowledged twice",
        _repeated(op.row for op in acknowledged.values() if op.row is not None),
        "acknowledged for two writes: {}",
    )
    result.duplicates = len(duplicates)
    result.unknown_landed = len(landed)
    result.unknown_absent = result.unknown - result.unknown_landed

    add("all nodes hold the same", _differences(finals), "differ between nodes: {}")
    add("never two nodes acknowledge at once", split_brain(acks(ops, probes)), "{}")
    return result


def check_reads(ops: Sequence[LedgerOp], reads: Sequence[LedgerRead]) -> list[Finding]:
    """Check that reads through `sias` are linearizable.

    A client's last sequence is a register with one writer. Its reads are linearizable when each sees every write that
    was acknowledged before it began, none sees a write that began after it ended, and none is older than one that ended
    before it began (Lamport, On Interprocess Communication, 1986: a regular register without new-old inversion).
    """
    fresh = sorted(
        (read for read in reads if read.outcome is Outcome.OK and read.database == "sias"), key=lambda r: r.invoked
    )
    if not fresh:
        return [Finding("something was compared", 1, "no read through sias succeeded in the whole run")]
    findings: list[Finding] = []
    add = adder(findings)
    done = [(op.ended, op.client, op.sequence) for op in ops if op.outcome is Outcome.OK and op.ended is not None]
    begun: dict[tuple[int, int], float] = {}
    for op in ops:
        key = op.client, op.sequence
        begun[key] = min(begun.get(key, op.invoked), op.invoked)
    shown = [
        (read.ended, client, sequence) for read in fresh for client, sequence in (read.seen or {}).items() if sequence
    ]
    for rule, known, saying in (
        ("a read through sias sees every acknowledged write", done, "acknowledged"),
        ("reads through sias never go back", shown, "shown before"),
    ):
        add(rule, _older(fresh, sorted(known), saying), f"older than what was {saying}: {{}}")
    early = [
        f"client {client} sequence {sequence} at {read.ended:.2f} s on {read.node}"
        for read in fresh
        for client, sequence in (read.seen or {}).items()
        if sequence and begun.get((client, sequence), float("inf")) > read.ended
    ]
    add("a read through sias sees nothing before it is written", early, "nobody had asked for it yet: {}")
    return findings


def _older(reads: Sequence[LedgerRead], known: Sequence[tuple[float, int, int]], saying: str) -> list[str]:
    """Reads, in their order, that show less than what was known (when, client, sequence; in order) before they began."""
    newest: dict[int, int] = {}
    stale: list[str] = []
    at = 0
    for read in reads:
        while at < len(known) and known[at][0] < read.invoked:
            _, client, sequence = known[at]
            newest[client] = max(newest.get(client, 0), sequence)
            at += 1
        seen = read.seen or {}
        stale.extend(
            f"client {client} at {read.invoked:.2f} s: {seen.get(client, 0)} on {read.node}, {sequence} {saying}"
            for client, sequence in newest.items()
            if seen.get(client, 0) < sequence
        )
    return stale


def staleness(ops: Sequence[LedgerOp], reads: Sequence[LedgerRead], database: str) -> float:
    """Worst age of what a read through `database` showed, in seconds; through `sias` it must be 0.

    That is how long ago the first write that it did not see had been acknowledged when it began; 0 when all were fresh.
    """
    acked: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for op in sorted(ops, key=lambda op: op.sequence):
        if op.outcome is Outcome.OK and op.ended is not None:
            acked[op.client].append((op.sequence, op.ended))
    worst = 0.0
    for read in reads:
        if read.outcome is not Outcome.OK or read.database != database:
            continue
        for client, entries in acked.items():
            seen = (read.seen or {}).get(client, 0)
            low, high = 0, len(entries)
            while low < high:  # the first acknowledged sequence that is newer than what was seen
                middle = (low + high) // 2
                low, high = (middle + 1, high) if entries[middle][0] <= seen else (low, middle)
            if low < len(entries):
                worst = max(worst, read.invoked - entries[low][1])
    return worst


def check_documents(ops: Sequence[DocumentOp], reads: Sequence[DocumentRead], rooms: Iterable[str]) -> DocumentResult:
    """Check that every acknowledged document reads back the same from every room's address."""
    by_outcome = Counter(op.outcome for op in ops)
    result = DocumentResult(
        acknowledged=by_outcome[Outcome.OK],
        failed=by_outcome[Outcome.FAILED],
        unknown=by_outcome[Outcome.UNKNOWN],
    )
    add = adder(result.findings)
    if not result.acknowledged:
        result.findings.append(Finding("something was compared", 1, "no document was acknowledged in the whole run"))
    final: dict[tuple[int, str], DocumentRead] = {(r.number, r.room): r for r in reads if r.final}
    result.read_back = sum(1 for read in final.values() if read.sha256)
    wanted = {op.number: op.sha256 for op in ops if op.outcome is Outcome.OK}
    lost: set[int] = set()
    for room in rooms:
        gone = [
            number
            for number, digest in wanted.items()
            if (number, room) not in final or final[number, room].sha256 != digest
        ]
        lost.update(gone)
        add(
            "no acknowledged document is lost",
            [f"{n} ({final[n, room].why or 'other bytes' if (n, room) in final else 'never read'})" for n in gone],
            f"not the same through room {room}: {{}}",
        )
    result.lost = len(lost)
    # Also while the fault lasts: unreadable is an outage, other bytes would be corruption.
    wrong = [
        f"{read.number} through room {read.room} at {read.ended:.2f} s"
        for read in reads
        if read.sha256 and read.number in wanted and read.sha256 != wanted[read.number]
    ]
    add("a document never reads back altered", wrong, "other bytes: {}")
    return result


CLUSTER = 100_000
"""What workloads add to the timelines of the second of two clusters (slot green, see siasops/cluster/instance.py)."""


@dataclass(frozen=True)
class Ack:
    """An acknowledged write: who acknowledged it, on which timeline, from when to when it was under way."""

    node: str
    timeline: int
    invoked: float
    ended: float
    what: str


def acks(ledger: Sequence[LedgerOp], probes: Sequence[ProbeOp] = ()) -> list[Ack]:
    """Gather the acknowledgements whose node and timeline are known."""
    return [
        *(
            Ack(op.node, op.timeline, op.invoked, op.ended, f"client {op.client} sequence {op.sequence}")
            for op in ledger
            if op.outcome is Outcome.OK and op.node and op.timeline is not None and op.ended is not None
        ),
        *(
            Ack(op.node, op.timeline, op.invoked, op.ended, f"the probe's write {op.number}")
            for op in probes
            if op.outcome is Outcome.OK and op.timeline is not None and op.ended is not None
        ),
    ]


def split_brain(acknowledged: Sequence[Ack]) -> list[str]:
    """Acknowledgements that prove two primaries: sentences, none when there was one at any time.

    A write that began after a higher timeline had already acknowledged one must not be acknowledged by a lower one;
    and one timeline belongs to one node. Of two clusters (a migration to another major version), whose timelines have
    nothing to do with each other, none acknowledges a write that began after the other had taken over.
    """
    found = _two_clusters(acknowledged)
    nodes: dict[int, set[str]] = defaultdict(set)
    first: dict[int, float] = {}
    for ack in acknowledged:
        nodes[ack.timeline].add(ack.node)
        first[ack.timeline] = min(first.get(ack.timeline, ack.ended), ack.ended)
    found.extend(
        f"timeline {timeline} acknowledged by {' and '.join(sorted(names))}"
        for timeline, names in sorted(nodes.items())
        if len(names) > 1
    )
    for ack in acknowledged:
        same = ack.timeline // CLUSTER
        higher = [t for t, at in first.items() if t // CLUSTER == same and t > ack.timeline and at < ack.invoked]
        if higher:
            found.append(
                f"{ack.node} acknowledged {ack.what} on timeline {ack.timeline}, "
                f"begun after timeline {min(higher)} had acknowledged"
            )
    return found


def _two_clusters(acknowledged: Sequence[Ack]) -> list[str]:
    first: dict[int, float] = {}
    for ack in acknowledged:
        cluster = ack.timeline // CLUSTER
        first[cluster] = min(first.get(cluster, ack.ended), ack.ended)
    takers = sorted(first, key=lambda cluster: first[cluster])
    return [
        f"{ack.node} acknowledged {ack.what} on the former cluster, begun after the new one had acknowledged"
        for ack in acknowledged
        if any(first[taker] < ack.invoked for taker in takers[takers.index(ack.timeline // CLUSTER) + 1 :])
    ]


def terms(ops: Sequence[LedgerOp]) -> list[Term]:
    """Who acknowledged writes when, in order."""
    spans: dict[tuple[int, str], list[float]] = defaultdict(list)
    for op in ops:
        if op.outcome is Outcome.OK and op.ended is not None and op.node and op.timeline is not None:
            spans[op.timeline, op.node].append(op.ended)
    found = [Term(node, timeline, min(at), max(at), len(at)) for (timeline, node), at in spans.items()]
    return sorted(found, key=lambda term: term.first)


def longest_gap(successes: Iterable[float], start: float, end: float) -> Gap | None:
    """Find the longest time between two successes that overlaps [start, end].

    The time before `start` counts where a gap began there. When no success follows, the gap lasts until `end`.

    Returns:
        None when nothing ever succeeded: there is nothing to compare.
    """
    times = sorted(successes)
    if not times:
        return None
    gaps = [Gap(b - a, a, b) for a, b in pairwise(times) if b > start and a < end]
    if times[-1] < end:
        gaps.append(Gap(end - times[-1], times[-1], end, recovered=False))
    if times[0] > start:
        gaps.append(Gap(times[0] - start, start, times[0]))
    return max(gaps, key=lambda gap: gap.seconds, default=Gap(0.0, start, start))


@dataclass(frozen=True)
class HttpFigures:
    """Counts of one kind of request; `p50`, `p95`, `worst` are seconds from the intended start, of successful ones."""

    requests: int
    failed: int
    slow: int
    p50: float
    p95: float
    worst: float


def http_figures(ops: Sequence[HttpOp], slow: float) -> HttpFigures:
    """Failed and slow requests; percentiles over the successful ones, seconds from the intended start."""
    good = sorted(op.latency for op in ops if op.ok)
    return HttpFigures(
        requests=len(ops),
        failed=sum(1 for op in ops if not op.ok),
        slow=sum(1 for latency in good if latency > slow),
        p50=_quantile(good, 0.50),
        p95=_quantile(good, 0.95),
        worst=good[-1] if good else 0.0,
    )


def offered_ratio(ops: Sequence[HttpOp], rate: float, start: float, end: float, *, tolerance: float = 0.5) -> float:
    """Share of the arrivals due in [start, end] that began within `tolerance` seconds of their time.

    Below 0.99 the generator was starved and its run says nothing about the platform.
    """
    due = math.floor(rate * (end - start))  # what falls into the window at least, wherever the schedule begins
    begun = sum(1 for op in ops if start <= op.intended <= end and op.started - op.intended <= tolerance)
    return min(1.0, begun / due) if due > 0 else 0.0


def _quantile(ordered: Sequence[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def adder(findings: list[Finding]) -> Callable[[str, Sequence[object], str], None]:
    """Make a function that records a finding when there are offenders."""

    def add(rule: str, offenders: Sequence[object], template: str) -> None:
        if offenders:
            shown = ", ".join(str(offender) for offender in offenders[:EXAMPLES])
            more = f" and {len(offenders) - EXAMPLES} more" if len(offenders) > EXAMPLES else ""
            findings.append(Finding(rule, len(offenders), template.format(shown + more)))

    return add


def _repeated(values: Iterable[Hashable]) -> list[Hashable]:
    return [value for value, count in Counter(values).items() if count > 1]


def _holes(rows: Sequence[LedgerRow], acknowledged: Iterable[LedgerOp]) -> list[str]:
    """Sequences that are missing below a client's last acknowledged one."""
    held: dict[int, set[int]] = defaultdict(set)
    for row in rows:
        held[row.client].add(row.sequence)
    last: dict[int, int] = {}
    for op in acknowledged:
        last[op.client] = max(last.get(op.client, 0), op.sequence)
    return [
        f"client {client} sequence {sequence}"
        for client, highest in sorted(last.items())
        for sequence in range(1, highest + 1)
        if sequence not in held[client]
    ]


def _broken(run: str, rows: Sequence[LedgerRow]) -> list[str]:
    """Rows whose hash is not that of their content and their predecessor's hash."""
    hashes = {(row.client, row.sequence): row.hash for row in rows}
    broken = []
    for row in rows:
        before = GENESIS if row.sequence == 1 else hashes.get((row.client, row.sequence - 1))
        if before is None:
            continue  # a hole: said elsewhere, once
        if row.previous != before or row.hash != chain_hash(before, run, row.client, row.sequence, row.attempt):
            broken.append(f"client {row.client} sequence {row.sequence}")
    return broken


def _differences(finals: Mapping[str, Sequence[LedgerRow]]) -> list[str]:
    """Rows that some node holds and another does not, with the nodes that hold them."""
    holders: dict[LedgerRow, list[str]] = defaultdict(list)
    for node, rows in finals.items():
        for row in set(rows):
            holders[row].append(node)
    return [
        f"client {row.client} sequence {row.sequence} only on {', '.join(nodes)}"
        for row, nodes in holders.items()
        if len(nodes) < len(finals)
    ]
