"""The checker on invented histories: silent when every promise held, red for each way in which one can break."""

# ruff: noqa: S311 - dice for invented histories
from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siasops.drill import checker
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

RUN = "run"
NODES = ("db-a1", "db-b1")


@dataclass
class World:
    """A history and what every node holds after it."""

    ops: list[LedgerOp]
    rows: list[LedgerRow]

    def check(self, **finals: list[LedgerRow]) -> checker.LedgerResult:
        nodes = {name.replace("_", "-"): rows for name, rows in finals.items()} or dict.fromkeys(NODES, self.rows)
        return checker.check_ledger(RUN, self.ops, nodes, NODES)


def world(seed: int, steps: int = 60, clients: int = 3) -> World:
    """A platform that keeps its promises: every attempt is acknowledged, refused or unknown; some unknown ones landed.

    Half-way the other node takes over on the next timeline.
    """
    dice = random.Random(seed)
    ops: list[LedgerOp] = []
    rows: list[LedgerRow] = []
    last = dict.fromkeys(range(clients), (0, GENESIS, 0))
    for step in range(steps):
        client = dice.randrange(clients)
        sequence, previous, attempt = last[client]
        sequence, attempt = sequence + 1, attempt + 1
        node, timeline = (NODES[0], 1) if step < steps / 2 else (NODES[1], 2)
        digest = chain_hash(previous, RUN, client, sequence, attempt)
        # The first is acknowledged, so that there is something to compare.
        outcome = Outcome.OK if step == 0 else dice.choices(list(Outcome), weights=[8, 1, 2])[0]
        landed = outcome is Outcome.OK or (outcome is Outcome.UNKNOWN and dice.random() < 0.5)
        row = len(rows) + 1 if landed else None
        ops.append(
            LedgerOp(
                client, sequence, attempt, digest, "a", "a", step, step + 0.5, outcome,
                row=row if outcome is Outcome.OK else None, node=node, timeline=timeline,
            )
        )  # fmt: skip
        if landed:
            rows.append(LedgerRow(len(rows) + 1, client, sequence, attempt, previous, digest))
            last[client] = sequence, digest, attempt
        else:
            last[client] = sequence - 1, previous, attempt
    return World(ops, rows)


seeds = st.integers(0, 10_000)


def rules(result: checker.LedgerResult) -> set[str]:
    return {finding.rule for finding in result.findings}


@given(seeds)
def test_a_history_that_keeps_its_promises_has_no_finding(seed: int) -> None:
    made = world(seed)
    result = made.check()
    assert result.findings == []
    assert result.unknown_landed + result.unknown_absent == result.unknown
    assert result.rows == len(made.rows)


def acknowledged_row(made: World, dice: random.Random) -> LedgerRow:
    keys = {op.key for op in made.ops if op.outcome is Outcome.OK}
    return dice.choice([row for row in made.rows if row.key in keys])


@given(seeds)
def test_a_lost_acknowledged_write_is_found_even_on_one_node_alone(seed: int) -> None:
    made = world(seed)
    victim = acknowledged_row(made, random.Random(seed))
    without = [row for row in made.rows if row != victim]
    result = made.check(db_a1=made.rows, db_b1=without)
    assert result.lost == 1
    assert {"no acknowledged write is lost", "all nodes hold the same"} <= rules(result)


@given(seeds)
def test_a_lost_write_leaves_a_hole_below_what_was_acknowledged_later(seed: int) -> None:
    made = world(seed)
    later = {op.client: op.sequence for op in made.ops if op.outcome is Outcome.OK}
    below = [row for row in made.rows if row.sequence < later.get(row.client, 0)]
    if not below:
        return
    victim = random.Random(seed).choice(below)
    without = [row for row in made.rows if row != victim]
    assert "no gap below an acknowledged write" in rules(made.check(db_a1=without, db_b1=without))


@given(seeds)
def test_a_row_that_is_there_twice_is_found(seed: int) -> None:
    made = world(seed)
    row = random.Random(seed).choice(made.rows)
    twice = [*made.rows, replace(row, row=10_000)]
    result = made.check(db_a1=twice, db_b1=twice)
    assert result.duplicates == 1
    assert "no row is there twice" in rules(result)


@given(seeds)
def test_a_sequence_value_that_is_issued_twice_is_found(seed: int) -> None:
    made = world(seed)
    changed = [*made.rows[:-1], replace(made.rows[-1], row=made.rows[0].row)]
    if len(changed) < 2:
        return
    assert "no sequence value is issued twice" in rules(made.check(db_a1=changed, db_b1=changed))


@given(seeds)
def test_a_refused_write_that_appears_is_found(seed: int) -> None:
    made = world(seed)
    refused = [op for op in made.ops if op.outcome is Outcome.FAILED]
    if not refused:
        return
    op = refused[0]
    more = [*made.rows, LedgerRow(9_999, op.client, op.sequence + 500, op.attempt, "x", op.hash)]
    made.ops.append(replace(op, sequence=op.sequence + 500))
    result = made.check(db_a1=more, db_b1=more)
    assert "nothing appears that was refused or never asked" in rules(result)


@given(seeds)
def test_an_altered_row_breaks_the_chain(seed: int) -> None:
    made = world(seed)
    row = acknowledged_row(made, random.Random(seed))
    altered = [replace(r, hash="f" * 64) if r == row else r for r in made.rows]
    result = made.check(db_a1=altered, db_b1=altered)
    assert {"every client's chain is unbroken", "no acknowledged write is lost"} <= rules(result)


@given(seeds)
def test_a_node_that_was_not_read_is_a_finding(seed: int) -> None:
    made = world(seed)
    assert rules(made.check(db_a1=made.rows)) == {"every node is read"}


@pytest.mark.parametrize("empty", ["history", "nodes"])
def test_a_check_that_compared_nothing_fails(empty: str) -> None:
    made = world(1)
    if empty == "history":
        made.ops.clear()
    result = made.check(db_a1=[], db_b1=[])
    assert "something was compared" in rules(result)


@given(seeds)
def test_a_write_acknowledged_by_the_former_primary_after_the_new_one_is_split_brain(seed: int) -> None:
    made = world(seed)
    newer = [op for op in made.ops if op.outcome is Outcome.OK and op.timeline == 2]
    if not newer:
        return
    late = replace(newer[0], timeline=1, node=NODES[0], invoked=1_000.0, ended=1_000.1, attempt=999, row=None)
    made.ops.append(late)
    assert "never two nodes acknowledge at once" in rules(made.check())


def test_two_nodes_on_one_timeline_are_split_brain() -> None:
    made = world(3)
    made.ops[:] = [replace(op, timeline=1) for op in made.ops]
    assert "never two nodes acknowledge at once" in rules(made.check())


@pytest.mark.parametrize(("timeline", "found"), [(1, True), (3, False)])
def test_a_node_that_acknowledges_the_probe_after_the_other_took_over_is_split_brain(
    timeline: int, found: bool
) -> None:
    made = world(3)
    probe = ProbeOp(NODES[0], 1, 1_000.0, 1_000.1, Outcome.OK, timeline)
    result = checker.check_ledger(RUN, made.ops, dict.fromkeys(NODES, made.rows), NODES, [probe])
    assert ("never two nodes acknowledge at once" in rules(result)) is found


def test_of_two_clusters_the_former_acknowledges_nothing_once_the_new_one_has() -> None:
    def ack(timeline: int, invoked: float, ended: float) -> checker.Ack:
        return checker.Ack("10.0.0.1", timeline, invoked, ended, "a write")

    # Green begins with timelines of its own, lower or higher; and the same on the way back.
    for before, after in ((7, 100_002), (100_002, 7)):
        moved = [ack(before, 0, 1), ack(before, 1, 3), ack(after, 2, 4), ack(after, 5, 6)]
        assert checker.split_brain(moved) == []
        assert len(checker.split_brain([*moved, ack(before, 5, 7)])) == 1


def test_a_write_under_way_while_the_other_takes_over_is_no_split_brain() -> None:
    old = LedgerOp(0, 1, 1, "h", "a", "a", 1.0, 2.2, Outcome.OK, node="db-a1", timeline=1)
    new = LedgerOp(1, 1, 1, "i", "b", "b", 1.9, 2.1, Outcome.OK, node="db-b1", timeline=2)
    assert checker.split_brain(checker.acks([old, new])) == []


# --- reads --------------------------------------------------------------------------------------------------------


def read(at: float, seen: int, database: str = "sias") -> LedgerRead:
    return LedgerRead(database, "a", "a", at, at + 0.01, Outcome.OK, "db-a1", {0: seen})


def acked(sequence: int, at: float) -> LedgerOp:
    return LedgerOp(0, sequence, sequence, "h", "a", "a", at - 0.1, at, Outcome.OK)


@pytest.mark.parametrize(
    ("seen", "rules"),
    [
        (2, []),
        (1, ["a read through sias sees every acknowledged write"]),
        (3, ["a read through sias sees nothing before it is written"]),
    ],
)
def test_a_read_through_sias_must_see_what_was_acknowledged_before_it(seen: int, rules: list[str]) -> None:
    ops = [acked(1, 1.0), acked(2, 2.0), acked(3, 5.0)]
    assert [finding.rule for finding in checker.check_reads(ops, [read(3.0, seen)])] == rules


def test_a_read_may_see_a_write_under_way_or_not_but_a_later_one_may_not_go_back() -> None:
    # The fate of the second write is unknown: its wait for the standby was cancelled. Once it was shown it must stay.
    ops = [acked(1, 1.0), replace(acked(2, 9.0), invoked=2.0, outcome=Outcome.UNKNOWN)]
    assert checker.check_reads(ops, [read(3.0, 1), read(4.0, 2), read(5.0, 2)]) == []
    (finding,) = checker.check_reads(ops, [read(3.0, 2), read(4.0, 1)])
    assert finding.rule == "reads through sias never go back"


@given(seeds)
def test_reads_of_one_register_are_linearizable_and_one_taken_back_is_found(seed: int) -> None:
    dice = random.Random(seed)
    value, ops, reads = 0, [], []
    for step in range(40):
        at = float(step)
        if dice.random() < 0.5:
            value += 1
            ops.append(LedgerOp(0, value, value, "h", "a", "a", at, at + 0.5, Outcome.OK))
        else:
            reads.append(read(at, value))
    if not reads or not reads[-1].seen or not reads[-1].seen[0]:
        return
    assert checker.check_reads(ops, reads) == []
    taken_back = [*reads, read(100.0, reads[-1].seen[0] - 1)]
    rules = {finding.rule for finding in checker.check_reads(ops, taken_back)}
    assert {"reads through sias never go back", "a read through sias sees every acknowledged write"} <= rules


def test_reads_of_a_replica_may_lag_and_their_age_is_measured() -> None:
    ops = [acked(1, 1.0), acked(2, 2.0), acked(3, 5.0)]
    lagging = read(6.5, 1, "sias_ro")
    assert checker.staleness(ops, [lagging, read(6.6, 3, "sias_ro")], "sias_ro") == pytest.approx(4.5)
    assert checker.check_reads(ops, [lagging])[0].rule == "something was compared"


# --- documents ----------------------------------------------------------------------------------------------------


def document_reads(*digests: tuple[str, str | None]) -> list[DocumentRead]:
    return [DocumentRead(1, room, 9.0, digest, final=True, why="404") for room, digest in digests]


@pytest.mark.parametrize(
    ("reads", "lost"),
    [
        (document_reads(("a", "same"), ("b", "same")), 0),
        (document_reads(("a", "same"), ("b", None)), 1),
        (document_reads(("a", "same"), ("b", "other")), 1),
        (document_reads(("a", "same")), 1),
        ([], 1),
    ],
)
def test_a_document_must_read_back_the_same_through_both_rooms(reads: list[DocumentRead], lost: int) -> None:
    result = checker.check_documents([DocumentOp(1, "same", "a", 1.0, 1.2, Outcome.OK, "/x")], reads, ("a", "b"))
    assert result.lost == lost
    assert bool(result.findings) == bool(lost)


def test_documents_of_which_none_was_stored_prove_nothing() -> None:
    assert checker.check_documents([], [], ("a", "b")).findings[0].rule == "something was compared"


# --- gaps and HTTP ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "window", "expected"),
    [
        ([1, 2, 3, 7, 8], (3.5, 8), 4.0),  # began before the window
        ([1, 5, 5.1, 5.2, 6], (4.9, 6), 4.0),  # ends inside the window
        ([0, 3, 5.1, 5.2, 6], (5.15, 6), 0.8),  # a gap before the window does not count
        ([1, 2], (1.5, 10), 8.0),  # never came back
        ([4, 5], (1, 5), 3.0),  # nothing at first
    ],
)
def test_the_longest_gap_overlaps_the_fault(times: list[float], window: tuple[float, float], expected: float) -> None:
    gap = checker.longest_gap(times, *window)
    assert gap is not None
    assert gap.seconds == pytest.approx(expected)
    assert gap.recovered is (times != [1, 2])


def test_no_success_at_all_is_no_gap_but_nothing_to_compare() -> None:
    assert checker.longest_gap([], 0, 10) is None


@given(st.lists(st.floats(0, 100), min_size=2), st.floats(0, 50), st.floats(50, 100))
def test_no_gap_between_successes_is_longer_than_the_longest(times: list[float], start: float, end: float) -> None:
    gap = checker.longest_gap(times, start, end)
    assert gap is not None
    ordered = sorted(times)
    for before, after in pairwise(ordered):
        if after > start and before < end:
            assert after - before <= gap.seconds


def request(intended: float, *, late: float = 0.0, took: float = 0.1, ok: bool = True) -> HttpOp:
    return HttpOp("read", "a", intended, intended + late, intended + late + took, ok, 200 if ok else 503)


def test_latency_counts_from_the_intended_start() -> None:
    figures = checker.http_figures([request(1, late=2.0), request(2), request(3, ok=False)], slow=1.0)
    assert (figures.requests, figures.failed, figures.slow) == (3, 1, 1)
    assert figures.worst == pytest.approx(2.1)


@pytest.mark.parametrize(("change", "ratio"), [(lambda ops: ops, 1.0), (lambda ops: ops[:50], 0.5)])
def test_a_starved_generator_is_seen(change: Callable[[list[HttpOp]], list[HttpOp]], ratio: float) -> None:
    ops = [request(n / 10) for n in range(100)]
    assert checker.offered_ratio(change(ops), 10, 0, 10) == pytest.approx(ratio, abs=0.02)
    late = [replace(op, started=op.intended + 3) for op in ops]
    assert checker.offered_ratio(late, 10, 0, 10) == 0.0
