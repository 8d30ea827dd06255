"""From samples to a verdict. Pure: whether the run counts, what held, where the knee is, which resource was the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from siasops.load.resources import Usage
from siasops.load.samples import Sample, longest_silence, percentile
from siasops.load.schedule import Arrival

WORKER_LIMIT = 0.9
"""Cores that one process of the generator may use: it has one, and must never be what is measured."""
MACHINE_LIMIT = 0.85
"""Share of all cores from which the processor is the limit."""
QUEUED_LIMIT = 0.5
"""Share of the time in which somebody waited for a processor, from which it is the limit too: requests come in bursts."""
FEW = 20
"""Requests below which a 95th percentile says nothing."""


@dataclass(frozen=True)
class Promise:
    """One comparison."""

    what: str
    found: str
    objective: str
    held: bool


@dataclass
class Verdict:
    """What a run says."""

    valid: bool
    complaints: list[str]
    """Why it says nothing; empty when it counts."""
    promises: list[Promise] = field(default_factory=list)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By kind: requests, failed, p50, p95, p99, worst, seconds."""
    phases: list[dict[str, Any]] = field(default_factory=list)
    knee: float | None = None
    """Highest rate at which every objective held, arrivals per second; None when there was none, or none was looked for."""
    limit: str = ""
    cost: dict[str, float] = field(default_factory=dict)
    """Processor seconds per request by group of processes, what runs anyway included; empty when something was broken."""
    remarks: list[str] = field(default_factory=list)

    @property
    def word(self) -> str:
        """Return held, failed or invalid: a run that was not offered says nothing, good or bad."""
        return (
            "invalid"
            if not self.valid
            else "held"
            if self.promises and all(p.held for p in self.promises)
            else "failed"
        )

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "verdict": self.word}


@dataclass(frozen=True)
class Fault:
    """A drill meanwhile: from its fault until everything was as before, seconds from the beginning."""

    name: str
    begin: float
    end: float
    write_gap: float
    read_gap: float
    exit_code: int = 0


def judge(
    planned: Sequence[Arrival],
    samples: Sequence[Sample],
    usages: Sequence[Usage],
    *,
    phases: Sequence[Mapping[str, Any]],
    objectives: Mapping[str, Any],
    knee: bool = False,
    fault: Fault | None = None,
) -> Verdict:
    """Judge a run.

    Args:
        planned: every arrival that should have come.
        samples: what was logged.
        usages: of the machine that offered the load.
        phases: name, rate in arrivals per second, seconds, judged; in order.
        objectives: `sias_load` of the inventory.
        knee: whether the highest phase that holds is wanted, instead of all of them holding.
        fault: what was broken meanwhile; latencies within it are shown and not judged, its gaps are.
    """
    verdict = Verdict(valid=True, complaints=[])
    begin = 0.0
    for phase in phases:
        ours = [s for s in samples if s.phase == phase["name"]]
        calm = [s for s in ours if fault is None or not fault.begin <= s.intended <= fault.end]
        promises, few = _promises(calm, objectives)
        end = begin + phase["seconds"]
        verdict.phases.append(
            {
                **phase, "begin": begin, "requests": len(ours), "failed": sum(not s.ok for s in ours),
                "p95": percentile((s.latency for s in ours if s.ok), 0.95),
                "held": all(p.held for p in promises) and bool(promises),
                "broken": [f"{p.what}: {p.found}" for p in promises if not p.held],
                "limit": limit([u for u in usages if begin <= u.at <= end]),
            }
        )  # fmt: skip
        begin = end
    # Beyond the knee nobody keeps up, the generator of a small machine neither: what is said is said of the steps below.
    counted = verdict.phases[: next((i + 1 for i, p in enumerate(verdict.phases) if knee and not p["held"]), None)]
    verdict.complaints = _complaints(planned, samples, usages, counted, objectives)
    verdict.valid = not verdict.complaints
    judged = {p["name"] for p in counted if p["judged"]}
    calm = [s for s in samples if s.phase in judged and (fault is None or not fault.begin <= s.intended <= fault.end)]
    verdict.figures = {
        kind: figures([s for s in samples if s.kind == kind]) for kind in sorted({s.kind for s in samples})
    }
    if knee:
        verdict.promises = _knee(verdict, objectives)
    else:
        verdict.promises, few = _promises(calm, objectives)
        verdict.remarks += [f"{kind}: only {n} requests, no percentile is judged" for kind, n in few.items()]
    if fault is not None:
        verdict.promises += _gaps(samples, fault, objectives)
    spans = [(p["begin"], p["begin"] + p["seconds"]) for p in counted if p["judged"]]
    judged_usages = [u for u in usages if any(b <= u.at <= e for b, e in spans)]
    verdict.limit = limit(judged_usages)
    if fault is None:
        verdict.cost = cost(judged_usages, len(calm), sum(end - begin for begin, end in spans))
    return verdict


def figures(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return a kind's figures; latencies in seconds, of the answers that were good."""
    good = [s.latency for s in samples if s.ok]
    why: dict[str, int] = {}
    for s in samples:
        if not s.ok:
            why[s.why] = why.get(s.why, 0) + 1
    return {
        "requests": len(samples), "failed": len(samples) - len(good), "why": why,
        "p50": percentile(good, 0.5), "p95": percentile(good, 0.95), "p99": percentile(good, 0.99),
        "worst": max(good, default=float("nan")),
    }  # fmt: skip


def cost(usages: Sequence[Usage], requests: int, seconds: float) -> dict[str, float]:
    """Return processor seconds per request by group: cores in use over `seconds`, shared out among its `requests`."""
    return {group: used * seconds / requests for group, used in _cores(usages).items()} if requests else {}


def _cores(usages: Sequence[Usage]) -> dict[str, float]:
    """Cores in use by group, on average."""
    return {g: fmean(u.cores.get(g, 0.0) for u in usages) for g in sorted({g for u in usages for g in u.cores})}


def limit(usages: Sequence[Usage]) -> str:
    """Name the resource that was the limit over a span, or say that none was."""
    if not usages:
        return "not looked at"
    busy, wait, queued = (fmean(values) for values in zip(*((u.busy, u.iowait, u.queued) for u in usages), strict=True))
    cores = _cores(usages)
    total = sum(cores.values()) or 1.0
    most = sorted(cores, key=lambda g: -cores[g])[:3]
    shares = ", ".join(f"{g} {cores[g] / total:.0%}" for g in most)
    if busy >= MACHINE_LIMIT or queued >= QUEUED_LIMIT:
        return (
            f"the processor, {busy:.0%} in use and {queued:.0%} of the time somebody waiting for it, of that {shares}"
        )
    if wait >= 1 - MACHINE_LIMIT:
        return f"the disk: {wait:.0%} of the time waiting for it; processor {busy:.0%} in use ({shares})"
    return f"not the processor ({busy:.0%} in use: {shares}; {queued:.0%} waiting) nor the disk ({wait:.0%} waiting)"


def _complaints(
    planned: Sequence[Arrival],
    samples: Sequence[Sample],
    usages: Sequence[Usage],
    phases: Sequence[Mapping[str, Any]],
    objectives: Mapping[str, Any],
) -> list[str]:
    found = []
    names, end = {p["name"] for p in phases}, max((p["begin"] + p["seconds"] for p in phases), default=0.0)
    planned = [a for a in planned if a.phase in names]
    usages = [u for u in usages if u.at <= end]
    late = [s.started - s.intended for s in samples if s.first and s.phase in names]
    in_time = sum(1 for lag in late if lag <= objectives["late"])
    share = in_time / len(planned) if planned else 0.0
    if share < objectives["offered"]:
        found.append(
            f"{share:.1%} of {len(planned)} arrivals began in time, {objectives['offered']:.0%} must "
            f"({len(planned) - len(late)} never came, {len(late) - in_time} came later than {objectives['late']:g} s)"
        )
    busiest = percentile((u.busiest_worker for u in usages), 0.5)
    if busiest > WORKER_LIMIT:
        found.append(
            f"the generator was the bottleneck: one of its processes used {busiest:.0%} of its core; add --workers"
        )
    return found


def _promises(samples: Sequence[Sample], objectives: Mapping[str, Any]) -> tuple[list[Promise], dict[str, int]]:
    promises, few = [], {}
    for kind, promised in objectives["mix"].items():
        ours = [s for s in samples if s.kind == kind]
        good = [s.latency for s in ours if s.ok]
        if not ours:
            continue
        if len(ours) < FEW:
            few[kind] = len(ours)
            continue
        p95 = percentile(good, 0.95)
        promises.append(
            Promise(f"{kind}, 95 %", f"{p95 * 1000:.0f} ms of {len(good)}", f"{promised['p95'] * 1000:.0f} ms",
                    bool(good) and p95 <= promised["p95"])
        )  # fmt: skip
    if samples:
        failed = sum(not s.ok for s in samples)
        share = failed / len(samples)
        promises.append(
            Promise("failed requests", f"{failed} of {len(samples)}, {share:.2%}", f"{objectives['failed']:.1%}",
                    share <= objectives["failed"])
        )  # fmt: skip
    return promises, few


def _gaps(samples: Sequence[Sample], fault: Fault, objectives: Mapping[str, Any]) -> list[Promise]:
    writes = [s for s in samples if s.kind in objectives["writes"]]
    reads = [s for s in samples if s.kind not in objectives["writes"] and s.kind in objectives["mix"]]
    promises = [
        Promise(f"longest time without a {what} during {fault.name}", f"{gap:.1f} s", f"{allowed:g} s", gap <= allowed)
        for what, ours, allowed in (("write", writes, fault.write_gap), ("read", reads, fault.read_gap))
        if ours
        for gap in [longest_silence(ours, fault.begin, fault.end)]
    ]
    return [
        *promises,
        Promise(f"verdict of the drill {fault.name}", f"exit code {fault.exit_code}", "0", fault.exit_code == 0),
    ]


def _knee(verdict: Verdict, objectives: Mapping[str, Any]) -> list[Promise]:
    held: list[dict[str, Any]] = []
    for phase in verdict.phases:
        if not phase["held"]:
            verdict.remarks.append(
                f"the first step that does not hold: {phase['name']}, {phase['rate']:g}/s; {'; '.join(phase['broken'])}; "
                f"limit: {phase['limit']}"
            )
            break
        held.append(phase)
    verdict.knee = held[-1]["rate"] if held else None
    found = f"{verdict.knee:g} requests/s" if held else "not even the first step"
    enough = verdict.knee is not None and verdict.knee >= objectives["rate"]
    return [Promise("highest rate at which every objective holds", found, f"{objectives['rate']:g} requests/s", enough)]
