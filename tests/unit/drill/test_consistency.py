"""Bank, unique keys and probes on invented histories: silent when all is well, red for each way to go wrong."""

# ruff: noqa: S311 - dice for invented histories
from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siasops.drill import consistency
from siasops.drill.history import ACCOUNTS, OPENING, Claim, Final, Outcome, ProbeOp, Snapshot, Transfer
from siasops.drill.workloads.nodes import judge

NODES = ("db-a1", "db-b1")


@dataclass
class World:
    """What was asked, and what every node holds after it."""

    transfers: list[Transfer]
    snapshots: list[Snapshot]
    claims: list[Claim]
    probes: list[ProbeOp]
    final: Final

    def rules(self, **changes: object) -> set[str]:
        """Rules that do not hold when one node holds something else."""
        finals = {NODES[0]: self.final, NODES[1]: replace(self.final, **changes)}  # type: ignore[arg-type]
        result = consistency.check(self.transfers, self.snapshots, self.claims, self.probes, finals)
        return {finding.rule for finding in result.findings}


def world(seed: int) -> World:
    dice = random.Random(seed)
    balances = dict.fromkeys(range(ACCOUNTS), OPENING)
    transfers, snapshots, claims, probes = [], [], [], []
    landed: set[str] = set()
    held: dict[str, tuple[int, int]] = {}
    kept: set[tuple[str, int]] = set()
    for step in range(30):
        outcome = Outcome.OK if step == 0 else dice.choices(list(Outcome), weights=[8, 1, 2])[0]
        took = outcome is Outcome.OK or (outcome is Outcome.UNKNOWN and dice.random() < 0.5)
        source, target = dice.sample(range(ACCOUNTS), 2)
        transfer = Transfer(f"a{step}", source, target, dice.randint(1, 9), step, step + 0.5, outcome)
        transfers.append(transfer)
        if took:
            balances[source] -= transfer.amount
            balances[target] += transfer.amount
            landed.add(transfer.id)
        snapshots.append(Snapshot("sias", step + 0.7, NODES[0], ACCOUNTS, sum(balances.values())))
        winner = dice.randrange(3)
        for client in range(3):
            ended = outcome if client == winner else Outcome.FAILED
            number = step * 3 + client if ended is Outcome.OK else None
            claims.append(Claim(f"{step}", client, step, step + 0.4, ended, number))
        if took:
            held[f"{step}"] = winner, step * 3 + winner
        probes.append(ProbeOp(NODES[0], step, step, step + 0.3, outcome, 1))
        if took:
            kept.add((NODES[0], step))
    return World(transfers, snapshots, claims, probes, Final(balances, frozenset(landed), held, frozenset(kept)))


seeds = st.integers(0, 10_000)


@given(seeds)
def test_a_history_that_keeps_its_promises_has_no_finding(seed: int) -> None:
    assert world(seed).rules() == set()


@given(seeds)
def test_a_transfer_that_is_gone_from_one_node_is_found(seed: int) -> None:
    made = world(seed)
    gone = next(t.id for t in made.transfers if t.outcome is Outcome.OK)
    assert made.rules(transfers=made.final.transfers - {gone}) == {
        "no acknowledged transfer is lost",
        "every account holds what its transfers say",
    }


@given(seeds, st.integers(0, ACCOUNTS - 1), st.integers(1, 50))
def test_half_a_transfer_shows_in_the_balances_and_in_a_snapshot(seed: int, account: int, amount: int) -> None:
    made = world(seed)
    off = {**made.final.balances, account: made.final.balances[account] - amount}
    assert made.rules(balances=off) == {"every account holds what its transfers say"}
    made.snapshots[3] = replace(made.snapshots[3], total=consistency.TOTAL - amount)
    assert made.rules() == {"the bank's sum is the same in every snapshot"}


def test_a_snapshot_that_misses_an_account_is_found() -> None:
    made = world(1)
    made.snapshots[3] = replace(made.snapshots[3], accounts=ACCOUNTS - 1)
    assert made.rules() == {"the bank's sum is the same in every snapshot"}


@given(seeds)
def test_a_transfer_that_was_refused_and_appears_is_found(seed: int) -> None:
    made = world(seed)
    assert "no transfer appears that was refused or never asked" in made.rules(
        transfers=made.final.transfers | {"never"}
    )


@given(seeds)
def test_two_winners_of_one_key_are_found(seed: int) -> None:
    made = world(seed)
    first = next(c for c in made.claims if c.outcome is Outcome.OK)
    made.claims.append(replace(first, client=first.client + 1, number=9_999))
    assert "a unique key has one winner" in made.rules()


@given(seeds)
def test_a_number_that_is_issued_again_is_found(seed: int) -> None:
    made = world(seed)
    first = next(c for c in made.claims if c.outcome is Outcome.OK)
    made.claims.append(replace(first, key="other"))
    assert "no number is given twice" in made.rules()


@given(seeds)
def test_a_claim_that_is_gone_or_anothers_is_found(seed: int) -> None:
    made = world(seed)
    key = next(c.key for c in made.claims if c.outcome is Outcome.OK)
    client, number = made.final.claims[key]
    without = {k: v for k, v in made.final.claims.items() if k != key}
    assert made.rules(claims=without) == {"no acknowledged claim is lost"}
    assert made.rules(claims={**without, key: ((client + 1) % 3, number)}) == {
        "no acknowledged claim is lost",
        "nobody holds a key that was refused to them",
    }


@given(seeds)
def test_a_write_that_only_one_node_holds_is_found(seed: int) -> None:
    made = world(seed)
    op = next(p for p in made.probes if p.outcome is Outcome.OK)
    assert made.rules(probes=made.final.probes - {(op.node, op.number)}) == {
        "no write that a node acknowledged is lost"
    }


@pytest.mark.parametrize("part", ["transfers", "snapshots", "claims", "probes"])
def test_a_part_that_compared_nothing_fails(part: str) -> None:
    made = world(1)
    setattr(made, part, [])
    assert "something was compared" in made.rules()


CANCELLED = [
    "WARNING:  canceling wait for synchronous replication due to user request",
    "DETAIL:  The transaction has already committed locally, but might not have been replicated to the standby.",
    "landed|0000000A",
]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["landed|0000000A"], (Outcome.OK, 10)),
        (CANCELLED, (Outcome.UNKNOWN, 10)),
        (["ERROR:  cannot execute INSERT in a read-only transaction"], (Outcome.FAILED, None)),
        (["FATAL:  terminating connection due to administrator command"], (Outcome.UNKNOWN, None)),
        (["ERROR:  canceling statement", "connection to server was lost"], (Outcome.UNKNOWN, None)),
        ([], (Outcome.UNKNOWN, None)),
    ],
)
def test_a_node_s_answer_is_never_called_better_than_it_is(
    lines: list[str], expected: tuple[Outcome, int | None]
) -> None:
    answer = judge(lines)
    assert answer is not None
    assert answer[:2] == expected


def test_a_standby_is_asked_nothing() -> None:
    assert judge(["standby"]) is None
