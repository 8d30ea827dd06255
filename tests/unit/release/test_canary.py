"""The first host is compared with the others: a release that is worse goes back, one that is not worse goes on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from siasops import inventory as facts
from siasops.change.procedure import Act, GoBack
from siasops.drill.history import HttpOp
from siasops.release import canary
from siasops.release import host as hosts
from siasops.release.canary import Figures, View, between, felt, verdict

LIMITS = facts.load(facts.resolve("lab")).objectives["changes"]["release"]["canary"]


def figures(requests: int = 100, failed: int = 0, p95: float = 0.2, broken: int = 0) -> Figures:
    return Figures({"repertoire:search": View(requests, failed, p95)}, broken)


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        (figures(), figures(), ""),
        (figures(failed=1), figures(), ""),  # one may be anything
        (figures(failed=5), figures(), r"5 of its 100 requests fail \(repertoire:search 5\), 0 of 100"),
        (figures(failed=5), figures(failed=6), ""),  # a database that moves is felt everywhere
        (figures(failed=50), figures(failed=6), "50 of its 100"),
        (figures(broken=3), figures(), "3 broke off"),
        (figures(p95=1.2), figures(p95=0.5), r"95 % of repertoire:search within 1.20 s, 0.50 s"),
        (figures(p95=0.9), figures(p95=0.5), ""),
        (figures(p95=0.39), figures(p95=0.01), ""),  # nobody feels that
        (figures(requests=10, p95=5.0), figures(), ""),  # too few to say
        (figures(requests=0, p95=0), figures(), ""),
    ],
)
def test_the_verdict(mine: Figures, theirs: Figures, said: str) -> None:
    assert re.search(said, verdict(mine, theirs, LIMITS)) if said else verdict(mine, theirs, LIMITS) == ""


def told(requests: int, failed: int = 0, broken: int = 0, within: dict[str, float] | None = None) -> dict[str, Any]:
    view = {"requests": requests, "failed": failed, "within": within or {}}
    return {"views": {"repertoire:search": view}, "broken": {"app-a1": broken, "app-b1": 0}}


def test_only_what_was_answered_meanwhile_counts() -> None:
    before = {"app-a1": told(1000, 50, 7, {"0.1": 900, "1": 1000, "+Inf": 1000}), "app-b1": told(5)}
    after = {"app-a1": told(1100, 52, 9, {"0.1": 990, "1": 1099, "+Inf": 1100}), "app-b1": told(5, broken=1)}
    found = between(before, after, ["app-a1"])
    assert (found.requests, found.failed, found.broken) == (100, 5, 3)
    # 90 within 0.1 s, 9 more within a second: 95 of 100 lie five ninths of the way.
    assert found.views["repertoire:search"].p95 == pytest.approx(0.1 + 0.9 * 5 / 9)
    assert between(before, after, ["app-b1"]).views == {}


def test_an_application_that_was_started_anew_counts_from_nothing() -> None:
    found = between({"app-a1": told(1000, 10)}, {"app-a1": told(30, 4)}, ["app-a1"])
    assert (found.requests, found.failed) == (30, 4)


def op(served_by: str, latency: float, *, ok: bool = True, at: float = 0.0) -> HttpOp:
    return HttpOp("read", "a", at, at, at + latency, ok, 200 if ok else 500, served_by=served_by)


def test_what_was_felt_is_the_host_s_that_answered() -> None:
    ops = [op("app-a1", n / 100, ok=n > 2) for n in range(100)] + [op("app-b1", 0.1)] * 50 + [op("", 3.0, ok=False)]
    mine, theirs = felt(ops, ["app-a1"]), felt(ops, ["app-b1"])
    assert (mine.requests, mine.failed, mine.views["read"].p95) == (100, 3, 0.95)
    assert (theirs.requests, theirs.failed, theirs.views["read"].p95) == (50, 0, 0.1)


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A watch whose seconds are looks."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(canary, "time", SimpleNamespace(
        monotonic=lambda: clock.now, sleep=lambda s: setattr(clock, "now", clock.now + s)))  # fmt: skip
    shunned: list[str] = []
    monkeypatch.setattr(hosts, "shun", lambda _fleet, name: shunned.append(name))
    return SimpleNamespace(
        inventory=facts.load(facts.resolve("lab")), stage=None, fleet=None, watch=None, shunned=shunned, clock=clock
    )


def looks(monkeypatch: pytest.MonkeyPatch, act: SimpleNamespace, rate: float, failing: float = 0.0) -> None:
    def figures(_stage: object) -> dict[str, Any]:
        n = int(act.clock.now * rate)
        return {"app-a1": told(n, int(act.clock.now * failing)), "app-b1": told(n)}

    monkeypatch.setattr(hosts, "figures", figures)


def watch(act: Any) -> str:
    acting: Act = act
    return canary.watch(acting, "app-a1", LIMITS)


def test_a_good_canary_is_watched_as_long_as_promised(act: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    looks(monkeypatch, act, rate=4)
    assert watch(act) == "0 of 80 requests failed on app-a1, 0 of 80 elsewhere"
    assert act.clock.now == LIMITS["seconds"]


def test_a_bad_canary_is_left_at_once(act: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    looks(monkeypatch, act, rate=4, failing=1)
    with pytest.raises(GoBack, match=r"on app-a1 2 of its 8 requests fail"):
        watch(act)
    assert act.shunned == ["app-a1"]
    assert act.clock.now == 2


def test_a_canary_that_nobody_came_to_says_nothing(act: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    looks(monkeypatch, act, rate=0.5)
    assert watch(act).startswith("0 of 40")
    assert act.clock.now == 80
    looks(monkeypatch, act, rate=0)
    with pytest.raises(GoBack, match="only 0 requests came to app-a1 in 300 s"):
        watch(act)


def test_what_is_felt_outside_is_enough_to_go_back(
    act: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks(monkeypatch, act, rate=4)
    lines = [{"e": "request", "kind": "read", "room": "a", "intended": at, "started": at, "t": at + 0.1, "ok": ok,
              "status": 200 if ok else 500, "served_by": "app-a1"}
             for at, ok in ((-5.0, False), (-4.0, False), (1.0, False), (2.0, True))]  # fmt: skip
    log = tmp_path / "http.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    act.watch = SimpleNamespace(folder=tmp_path, look=lambda: "")
    assert watch(act).startswith("0 of 80")  # what failed before it had its release, and one that failed since
    act.clock.now = 0.0
    with log.open("a") as file:
        file.write(json.dumps({**lines[2], "intended": 3.0}) + "\n")
    with pytest.raises(GoBack, match="2 of its 3 requests fail"):
        watch(act)
