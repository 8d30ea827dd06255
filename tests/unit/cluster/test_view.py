"""The view and its judgement, on answers recorded from a lab."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from siasops.cluster import instance, switchover
from siasops.cluster.check import check, healthy
from siasops.cluster.instance import Instance, Serving
from siasops.cluster.switchover import assertions
from siasops.cluster.view import (
    Brick,
    Standby,
    View,
    bricks_of,
    haproxy_up,
    members_of,
    sections,
    voters_of,
)
from siasops.console import Progress
from siasops.inventory import Inventory
from tests.unit.cluster.conftest import ETCD, HEALTH, PRIMARY, STANDBY

METRICS = """# TYPE haproxy_server_status gauge
haproxy_server_status{proxy="pg_primary",server="db-a1",state="DOWN"} 0
haproxy_server_status{proxy="pg_primary",server="db-a1",state="UP"} 1
haproxy_server_status{proxy="pg_primary",server="db-b1",state="UP"} 0
haproxy_server_status{proxy="pg_replicas",server="db-b1",state="UP"} 1
"""


def test_members_are_read_from_patroni(lab: Inventory) -> None:
    primary, standby = members_of(lab, {"db-a1": PRIMARY, "db-b1": STANDBY})
    assert primary.leads
    assert primary.standbys == (Standby("db-b1", "streaming", "sync"),)
    assert (standby.state, standby.lag_bytes, standby.version) == ("streaming", 1024, "15.20")


def test_a_member_that_does_not_answer_is_kept_in_the_view(lab: Inventory) -> None:
    assert [m.answers for m in members_of(lab, {"db-a1": PRIMARY, "db-b1": None})] == [True, False]


def test_the_etcd_leader_is_told_by_its_member_id(lab: Inventory) -> None:
    assert [v.host for v in voters_of(lab, ETCD, HEALTH) if v.leads] == ["witness"]
    assert not voters_of(lab, {**ETCD, "witness": None}, HEALTH)[2].healthy


def test_servers_that_haproxy_holds_for_up_are_read_from_its_metrics() -> None:
    assert haproxy_up(METRICS, "pg_primary") == ("db-a1",)
    assert haproxy_up(METRICS, "pg_replicas") == ("db-b1",)
    assert haproxy_up("", "pg_primary") == ()


@pytest.mark.parametrize(
    ("answer", "brick"),
    [
        ("=== addresses\n[]\n=== brick\n1\n0\n", Brick("app-a1", "a", True, 0)),
        ("=== brick\n1\n23\n", Brick("app-a1", "a", True, 23)),
        ("=== brick\n0\n4\n", Brick("app-a1", "a", False, 4)),
        ("=== brick\n1\nunknown\n", Brick("app-a1", "a", True, None)),
        ("", Brick("app-a1", "a", False, None)),
    ],
)
def test_a_brick_counts_what_the_others_miss(lab: Inventory, answer: str, brick: Brick) -> None:
    assert bricks_of(lab, {"app-a1": answer})[0] == brick


def test_an_answer_is_split_by_its_headings() -> None:
    assert sections("=== one\na\nb\n=== two\nc\n") == {"one": "a\nb\n", "two": "c\n"}


def test_a_whole_lab_is_go(view: View) -> None:
    lines = check(view)
    assert [line for line in lines if not line.ok] == []
    assert healthy(lines)
    assert not healthy([])


def _members(view: View, **changes: dict[str, Any]) -> View:
    """Change the primary or the standby."""
    kinds = ("primary", "standby")
    return replace(
        view, members=tuple(replace(m, **changes.get(k, {})) for k, m in zip(kinds, view.members, strict=True))
    )


def _first(view: View, part: str, **changes: Any) -> View:
    """Change the first voter, front, brick or room."""
    first, *others = getattr(view, part)
    return replace(view, **{part: (replace(first, **changes), *others)})


WOUNDS: dict[str, Callable[[View], View]] = {
    "host": lambda v: replace(v, silent={"witness": "no route"}),
    "no leader": lambda v: _members(v, primary={"role": "replica"}),
    "two leaders": lambda v: _members(v, standby={"role": "primary", "state": "running"}),
    "not streaming": lambda v: _members(v, primary={"standbys": ()}),
    "asynchronous": lambda v: _members(v, primary={"standbys": (Standby("db-b1", "streaming", "async"),)}),
    "own room only": lambda v: _members(v, standby={"room": "a"}),
    "old timeline": lambda v: _members(v, standby={"timeline": 0}),
    "lag": lambda v: _members(v, standby={"lag_bytes": 1 << 30}),
    "another database": lambda v: _members(v, standby={"system_id": "1"}),
    "paused": lambda v: _members(v, primary={"paused": True}),
    "voter": lambda v: _first(v, "voters", healthy=False),
    "etcd leader beside the primary": lambda v: replace(
        v, voters=tuple(replace(voter, leads=voter.host == "db-a1") for voter in v.voters)
    ),
    "heal": lambda v: _first(v, "bricks", pending=4),
    "brick": lambda v: _first(v, "bricks", serves=False),
    "service": lambda v: _first(v, "fronts", units={**v.fronts[0].units, "pgbouncer": "failed"}),
    "helped out": lambda v: _first(v, "fronts", answered_by="app-b1"),
    "wrong primary": lambda v: _first(v, "fronts", primary=("db-b1",)),
    "address away": lambda v: _first(v, "rooms", holders=("app-b1",)),
    "address twice": lambda v: _first(v, "rooms", holders=("app-a1", "app-b1")),
    "room not ready": lambda v: _first(v, "rooms", ready=False),
}


@pytest.mark.parametrize("wound", WOUNDS)
def test_every_wound_is_a_no_go_that_says_what_to_do(view: View, wound: str) -> None:
    wrong = [line for line in check(WOUNDS[wound](view)) if not line.ok]
    assert wrong
    assert all(line.found and line.action for line in wrong)


def test_a_switchover_to_the_other_room_takes_its_synchronous_standby(view: View) -> None:
    lines, target = assertions(view, "b")
    assert all(line.ok for line in lines)
    assert len(lines) == 4
    assert target is not None
    assert target.host == "db-b1"


@pytest.mark.parametrize("wound", ["asynchronous", "lag", "heal", "paused"])
def test_a_switchover_never_starts_from_a_wounded_cluster(view: View, wound: str) -> None:
    lines, _ = assertions(WOUNDS[wound](view), "b")
    assert not all(line.ok for line in lines)
    assert all(line.action for line in lines if not line.ok)


def test_a_switchover_waits_for_one_that_is_scheduled(view: View) -> None:
    lines, _ = assertions(replace(view, scheduled="a switchover is scheduled"), "b")
    assert [line.what for line in lines if not line.ok] == ["Nobody else is changing the cluster"]


def test_a_switchover_does_not_take_a_migration_s_source_away(
    lab: Inventory, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Instance(lab, "blue", "15", "sias"), Instance(lab, "green", "17", "sias-17")
    monkeypatch.setattr(switchover, "_look", lambda *_: view)
    monkeypatch.setattr(switchover.remote, "connect", lambda _: nullcontext())
    try:
        for now, may in ((Serving(old), True), (Serving(old, new), False), (Serving(new, old), True)):
            instance.know(lab, now)
            found = switchover.run(lab, "b", dry=True, progress=Progress())
            assert found.held is may
            (line,) = (line for line in found.assertions if line.what == "No migration is under way")
            assert (line.ok, bool(line.action)) == (may, not may)
    finally:
        instance._known.clear()
