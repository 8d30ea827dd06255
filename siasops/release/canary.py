"""Whether the first host of a release may be followed by others: its errors and its times, beside those of the other hosts.

Two sources, of the same minutes: what the applications and HAProxy counted, of every user; and, where load is offered beneath,
what was felt outside both rooms. Either is enough to go back.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from siasops.change.procedure import Act, GoBack
from siasops.drill.history import HttpOp, read_http, records
from siasops.release import host as hosts

LOOK_EVERY = 1.0
P95 = 0.95


@dataclass
class View:
    """One kind of request. `p95` in seconds, None when there are too few."""

    requests: int = 0
    failed: int = 0
    p95: float | None = None


@dataclass
class Figures:
    """What a host, or several together, answered since the canary has its release. `broken`: connections that broke off."""

    views: dict[str, View] = field(default_factory=dict)
    broken: int = 0

    @property
    def requests(self) -> int:
        """Requests in all."""
        return sum(view.requests for view in self.views.values())

    @property
    def failed(self) -> int:
        """Those that failed."""
        return sum(view.failed for view in self.views.values()) + self.broken

    @property
    def share(self) -> float:
        """Part of the requests that failed, 0 to 1."""
        return self.failed / max(1, self.requests + self.broken)


def verdict(canary: Figures, others: Figures, limits: Mapping[str, float]) -> str:
    """Say what speaks against the canary; empty when nothing does.

    Args:
        canary: what the first host answered.
        others: what the other hosts answered meanwhile, by the former release.
        limits: `objectives.changes.release.canary`.
    """
    # What fails everywhere, because a database moves for instance, is not the release's fault.
    if canary.failed >= limits["failed_least"] and canary.share > limits["failed"] + 2 * others.share:
        worst = sorted((-v.failed, name) for name, v in canary.views.items() if v.failed)
        named = [f"{name} {-count}" for count, name in worst[:3]] + (
            [f"{canary.broken} broke off"] if canary.broken else []
        )
        return (
            f"{canary.failed} of its {canary.requests} requests fail ({', '.join(named)}), "
            f"{others.failed} of {others.requests} on the others"
        )
    slow = []
    for name, mine in canary.views.items():
        theirs = others.views.get(name, View())
        if mine.p95 is None or theirs.p95 is None or min(mine.requests, theirs.requests) < limits["requests"]:
            continue
        if mine.p95 > max(limits["p95_from"], limits["p95_ratio"] * theirs.p95):
            slow.append(f"95 % of {name} within {mine.p95:.2f} s, {theirs.p95:.2f} s on the others")
    return "; ".join(slow)


def between(before: Mapping[str, Any], after: Mapping[str, Any], names: Iterable[str]) -> Figures:
    """Add up what hosts counted between two looks.

    Args:
        before: by host, as its tool told it.
        after: the same, later.
        names: which hosts.
    """
    found, within = Figures(), dict[str, dict[float, float]]()
    for name in names:
        for key, now in after[name]["views"].items():
            then = before[name]["views"].get(key, {"requests": 0, "failed": 0, "within": {}})
            view = found.views.setdefault(key, View())
            # An application that was started anew counts from nothing.
            fresh = now["requests"] < then["requests"]
            view.requests += round(now["requests"] - (0 if fresh else then["requests"]))
            view.failed += round(now["failed"] - (0 if fresh else then["failed"]))
            for bound, count in now["within"].items():
                of = within.setdefault(key, {})
                of[float(bound)] = of.get(float(bound), 0) + count - (0 if fresh else then["within"].get(bound, 0))
        found.broken += sum(after[h]["broken"].get(name, 0) - before[h]["broken"].get(name, 0) for h in after)
    for key, view in found.views.items():
        view.p95 = _p95(within.get(key, {}))
    found.views = {key: view for key, view in found.views.items() if view.requests}
    return found


def felt(ops: Sequence[HttpOp], names: Iterable[str]) -> Figures:
    """Add up what load from outside felt of hosts, by who answered."""
    found, chosen = Figures(), set(names)
    for kind in sorted({op.kind for op in ops}):
        mine = [op for op in ops if op.kind == kind and op.served_by in chosen]
        times = sorted(op.latency for op in mine)
        failed = sum(not op.ok for op in mine)
        found.views[kind] = View(
            len(mine), failed, times[min(len(times) - 1, int(P95 * len(times)))] if times else None
        )
    return found


def watch(act: Act, canary: str, limits: Mapping[str, float]) -> str:
    """Watch the first host for `limits["seconds"]`, and longer while too few come to it to say anything.

    Returns:
        What was found, in a sentence.

    Raises:
        GoBack: it is worse than the others, or nobody came.
    """
    others = [name for name in hosts.order(act.inventory) if name != canary]
    begin, before = time.monotonic(), hosts.figures(act.stage)
    while True:
        time.sleep(LOOK_EVERY)
        after = hosts.figures(act.stage)
        sources = [(between(before, after, [canary]), between(before, after, others))]
        if act.watch is not None:
            act.watch.look()
            ops = [op for op in read_http(records(act.watch.folder / "http.jsonl")) if op.intended >= begin]
            sources.append((felt(ops, [canary]), felt(ops, others)))
        for mine, theirs in sources:
            if against := verdict(mine, theirs, limits):
                # Users are led elsewhere before anything else is considered.
                hosts.shun(act.fleet, canary)
                raise GoBack(f"on {canary} {against}")
        mine, theirs = sources[0]
        lasted = time.monotonic() - begin
        if lasted >= limits["seconds"] and mine.requests >= limits["requests"]:
            return f"{mine.failed} of {mine.requests} requests failed on {canary}, {theirs.failed} of {theirs.requests} elsewhere"
        if lasted >= limits["patience"]:
            raise GoBack(f"only {mine.requests} requests came to {canary} in {lasted:.0f} s, too few to say anything")


def _p95(within: Mapping[float, float]) -> float | None:
    """The bound below which 95 % lie, between the buckets' bounds as if evenly spread; None when there is nothing."""
    total = within.get(float("inf"), 0)
    if total <= 0:
        return None
    wanted, low, below = P95 * total, 0.0, 0.0
    for bound in sorted(within):
        count = within[bound]
        if count >= wanted:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / max(count - below, 1e-9)
        low, below = bound, count
    return low
