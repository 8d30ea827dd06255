"""Bank, unique keys and the probe of every node: what must hold, as pure functions beside those of `checker`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from siasops.drill.checker import Finding, adder
from siasops.drill.history import ACCOUNTS, OPENING, Claim, Final, Outcome, ProbeOp, Snapshot, Transfer

TOTAL = ACCOUNTS * OPENING


@dataclass
class ConsistencyResult:
    """Findings and counts."""

    findings: list[Finding] = field(default_factory=list)
    transfers: int = 0
    snapshots: int = 0
    claims: int = 0
    probes: int = 0
    lost: int = 0
    """Acknowledged transfers, claims and probes that some node does not hold."""


def check(
    transfers: Sequence[Transfer],
    snapshots: Sequence[Snapshot],
    claims: Sequence[Claim],
    probes: Sequence[ProbeOp],
    finals: Mapping[str, Final],
) -> ConsistencyResult:
    """Check everything; a part that had nothing to compare is a finding."""
    result = ConsistencyResult(
        transfers=sum(t.outcome is Outcome.OK for t in transfers),
        snapshots=sum(s.total is not None for s in snapshots),
        claims=sum(c.outcome is Outcome.OK for c in claims),
        probes=sum(p.outcome is Outcome.OK for p in probes),
    )
    for name in ("transfers", "snapshots", "claims", "probes"):
        if not getattr(result, name) or not finals:
            result.findings.append(Finding("something was compared", 1, f"no {name} were acknowledged or read back"))
    for findings, lost in (
        check_bank(transfers, snapshots, finals),
        check_claims(claims, finals),
        check_probes(probes, finals),
    ):
        result.findings += findings
        result.lost += lost
    return result


def check_bank(
    transfers: Sequence[Transfer], snapshots: Sequence[Snapshot], finals: Mapping[str, Final]
) -> tuple[list[Finding], int]:
    """The sum is the same in every snapshot; every account holds what the transfers that landed say."""
    findings: list[Finding] = []
    add = adder(findings)
    wrong = [
        f"{s.total} in {s.accounts} accounts at {s.ended:.2f} s on {s.node}"
        for s in snapshots
        if s.total is not None and (s.total, s.accounts) != (TOTAL, ACCOUNTS)
    ]
    add("the bank's sum is the same in every snapshot", wrong, f"instead of {TOTAL}: {{}}")
    known = {t.id: t for t in transfers}
    lost: set[str] = set()
    for node, final in finals.items():
        gone = [t.id for t in transfers if t.outcome is Outcome.OK and t.id not in final.transfers]
        lost.update(gone)
        add("no acknowledged transfer is lost", gone, f"acknowledged and not on {node}: {{}}")
        invented = [i for i in final.transfers if i not in known or known[i].outcome is Outcome.FAILED]
        add("no transfer appears that was refused or never asked", invented, f"on {node}: {{}}")
        expected = dict.fromkeys(range(ACCOUNTS), OPENING)
        for name in final.transfers & known.keys():
            expected[known[name].source] -= known[name].amount
            expected[known[name].target] += known[name].amount
        off = [f"{a}: {final.balances.get(a)}, not {b}" for a, b in expected.items() if final.balances.get(a) != b]
        add("every account holds what its transfers say", off, f"on {node}: {{}}")
    return findings, len(lost)


def check_claims(claims: Sequence[Claim], finals: Mapping[str, Final]) -> tuple[list[Finding], int]:
    """A key has one winner, who is still there, and no number is given twice."""
    findings: list[Finding] = []
    add = adder(findings)
    winners: dict[str, list[Claim]] = defaultdict(list)
    numbers: dict[int, list[str]] = defaultdict(list)
    refused: dict[str, set[int]] = defaultdict(set)
    for claim in claims:
        if claim.outcome is Outcome.OK:
            winners[claim.key].append(claim)
            if claim.number is not None:
                numbers[claim.number].append(claim.key)
        elif claim.outcome is Outcome.FAILED:
            refused[claim.key].add(claim.client)
    add("a unique key has one winner", [k for k, won in winners.items() if len(won) > 1], "acknowledged twice: {}")
    add("no number is given twice", [n for n, keys in numbers.items() if len(keys) > 1], "acknowledged twice: {}")
    lost: set[str] = set()
    for node, final in finals.items():
        gone = [k for k, won in winners.items() if final.claims.get(k) != (won[0].client, won[0].number)]
        lost.update(gone)
        add("no acknowledged claim is lost", gone, f"not there, or another's, on {node}: {{}}")
        wrong = [key for key, (client, _) in final.claims.items() if client in refused[key]]
        add("nobody holds a key that was refused to them", wrong, f"on {node}: {{}}")
    return findings, len(lost)


def check_probes(probes: Sequence[ProbeOp], finals: Mapping[str, Final]) -> tuple[list[Finding], int]:
    """What a database host acknowledged by itself is there in the end, on every host."""
    findings: list[Finding] = []
    lost: set[tuple[str, int]] = set()
    for node, final in finals.items():
        gone = [
            (p.node, p.number) for p in probes if p.outcome is Outcome.OK and (p.node, p.number) not in final.probes
        ]
        lost.update(gone)
        adder(findings)("no write that a node acknowledged is lost", gone, f"acknowledged and not on {node}: {{}}")
    return findings, len(lost)
