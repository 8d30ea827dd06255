"""A host leaves and comes back in an order in which nobody is cut off, and never as the last copy of anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import yaml

from siasops import remote
from siasops.cluster import absence, address, drain
from siasops.cluster.check import healthy
from siasops.cluster.view import RoomAddress, View
from siasops.console import Progress
from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory
from siasops.remote import RemoteError, Result
from tests.unit.cluster.conftest import Hosts

STATISTICS = """# pxname,svname,qcur,qmax,scur,smax
web_ready,app-b1,0,0,{web},9
web_live,app-b1,0,0,0,9
pg_replicas,db-b1,0,0,{reads},9
pg_primary,db-b1,0,0,7,9
"""


@pytest.fixture
def hosts(lab: Inventory, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    made = Hosts(lab)
    where = {"a": "app-a1", "b": "app-b1"}

    def shown(name: str) -> str:
        mine = [room.address for room in lab.rooms.values() if where[room.letter] == name]
        return "".join(f"eth0 UP {one}/32\n" for one in mine)

    def let_go(name: str, room: str) -> str:
        where[room] = next(other for other in ("app-a1", "app-b1") if other != name)
        return "quiet 0\ngone\n"

    for name in where.values():
        made.when(name, "ip -4 -brief", lambda name=name: shown(name))  # type: ignore[misc]
        for room in where:
            made.when(name, f"python3 - .*room_{room} ", lambda name=name, room=room: let_go(name, room))  # type: ignore[misc]
    made.when("*", "show stat", lambda: STATISTICS.format(web=0, reads=0))
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    return made


def show(monkeypatch: pytest.MonkeyPatch, view: Callable[..., View]) -> None:
    """Let whoever looks, at everything or at the database alone, see that."""
    monkeypatch.setattr(absence, "Asker", lambda _: nullcontext())
    for name in ("look", "look_at_database"):
        monkeypatch.setattr(absence, name, view)


@pytest.fixture
def looked(view: View, monkeypatch: pytest.MonkeyPatch) -> list[View]:
    """What `look` shows; the last one stands."""
    shown = [view]
    show(monkeypatch, lambda *_: shown[-1])
    return shown


def leader_without(view: View, standby: str) -> View:
    """The primary waits for nobody, and the standby is gone."""
    members = tuple(replace(m, standbys=()) if m.leads else replace(m, answers=False) for m in view.members)
    assert standby in {m.host for m in members if not m.answers}
    return replace(view, members=members)


def users_moved(view: View) -> View:
    rooms = tuple(RoomAddress(r.room, r.address, ("app-a1",), True, "app-a1") for r in view.rooms)
    return replace(view, rooms=rooms)


def test_a_host_may_leave_a_platform_that_is_whole(lab: Inventory, view: View) -> None:
    for name in ("db-b1", "app-a1", "app-b1", "witness"):
        assert healthy(absence.may_leave(view, lab.hosts[name], []))


@pytest.mark.parametrize(
    ("name", "absent", "wound", "said"),
    [
        ("db-a1", [], None, "sias switchover"),
        ("app-b1", ["app-a1"], None, "sias host return app-a1"),
        ("app-b1", [], "voters", "last copy"),
        ("app-b1", [], "bricks", "last copy"),
        ("app-b1", [], "silent", "last copy"),
    ],
)
def test_it_may_not_as_the_primary_or_as_the_last_copy(
    lab: Inventory, view: View, *, name: str, absent: list[str], wound: str | None, said: str
) -> None:
    wounds: dict[str | None, View] = {
        None: view,
        "voters": replace(view, voters=(replace(view.voters[0], healthy=False), *view.voters[1:])),
        "bricks": replace(view, bricks=(replace(view.bricks[0], pending=3), *view.bricks[1:])),
        "silent": replace(view, silent={"app-a1": "no route"}),
    }
    lines = absence.may_leave(wounds[wound], lab.hosts[name], absent)
    assert said in " ".join(line.action for line in lines if not line.ok)


def test_who_had_begun_to_leave_may_go_on(lab: Inventory, view: View) -> None:
    half = replace(view, fronts=(view.fronts[0], replace(view.fronts[1], ready=False)))
    assert not healthy(absence.may_leave(half, lab.hosts["app-b1"], []))
    assert healthy(absence.may_leave(half, lab.hosts["app-b1"], ["app-b1"]))
    assert not healthy(absence.may_leave(half, lab.hosts["app-a1"], ["app-b1"]))


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("app-b1", ["sias-worker", "sias-web", "sias-documents", "pgbouncer", "keepalived", "haproxy", "pgbackrest",
                    "sias-directory", "glusterd"]),
        ("db-b1", ["patroni", "sias-guard-agent", "pgbackrest", "etcd-leader-placement", "etcd"]),
        ("witness", ["glusterd", "sias-guard", "etcd-leader-placement", "etcd"]),
    ],
)  # fmt: skip
def test_what_serves_is_stopped_before_what_it_stands_on(lab: Inventory, name: str, order: list[str]) -> None:
    assert absence.services(lab, lab.hosts[name]) == order


def test_users_go_first_then_requests_then_services(
    lab: Inventory, hosts: Hosts, looked: list[View], view: View
) -> None:
    looked.append(view)
    hosts.when("app-b1", "systemctl stop glusterd", lambda: looked.append(users_moved(view)) or "")
    absence.leave(lab, hosts, "app-b1", Progress())  # type: ignore[arg-type]
    mark = hosts.position("app-b1", f"date -Is >{absence.MARK}")
    address_gone = hosts.position("app-b1", r"python3 - 192.168.56.22 .*room_b .* stay")
    drained = hosts.position("app-a1", "set server web_ready/app-b1 state drain set server web_live/app-b1 state drain")
    stopped = [line for _, line in hosts.told("systemctl stop (?!sias-backup)")]
    assert mark < address_gone < drained < hosts.position("app-b1", "systemctl stop sias-worker")
    assert [line.split()[2] for line in stopped] == absence.services(lab, lab.hosts["app-b1"])
    assert hosts.position("app-b1", "systemctl stop glusterd") < hosts.position("app-b1", "pkill -TERM -x glusterfsd")
    assert hosts.position("app-b1", "systemctl stop sias-backup.target") < hosts.position("app-b1", "sias-worker")
    # Both rooms' addresses: it may hold the other room's as well.
    assert {line.split()[3] for _, line in hosts.told("^python3 - ")} == {address.file("a"), address.file("b")}
    assert {host for host, _ in hosts.told("set server")} == {"app-a1"}


def test_a_standby_is_waited_for_and_read_from_by_nobody_before_it_stops(
    lab: Inventory, hosts: Hosts, looked: list[View], view: View
) -> None:
    hosts.when("db-b1", "nosync: true", lambda: looked.append(leader_without(view, "db-b1")) or "")
    absence.leave(lab, hosts, "db-b1", Progress())  # type: ignore[arg-type]
    tag = hosts.position("db-b1", "sed .*nosync: true.*reload patroni")
    for application in ("app-a1", "app-b1"):
        drained = hosts.position(application, "set server pg_replicas/db-b1 state drain")
        let_go = hosts.position(application, "RECONNECT sias_ro")
        assert tag < drained < let_go < hosts.position("db-b1", "systemctl stop patroni")
    assert not hosts.told("set server pg_primary")


def test_a_refused_host_is_not_touched(lab: Inventory, hosts: Hosts, looked: list[View]) -> None:
    with pytest.raises(UserError, match=r"db-a1 may not leave.*it leads.*sias switchover"):
        absence.leave(lab, hosts, "db-a1", Progress())  # type: ignore[arg-type]
    assert {line for _, line in hosts.log} == {f"test -e {absence.MARK}"}


def test_a_look_that_fails_once_is_waited_out_and_one_that_goes_on_failing_is_not(
    lab: Inventory, hosts: Hosts, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = replace(view, fronts=(replace(view.fronts[0], ready=False), *view.fronts[1:]))
    monkeypatch.setattr(absence, "LEAVE_LIMIT", 1.5)
    monkeypatch.setattr(absence, "look", lambda *_: busy)
    with pytest.raises(UserError, match=r"app-b1 may not leave.*does not answer 200"):
        absence.leave(lab, hosts, "app-b1", Progress())  # type: ignore[arg-type]
    assert not hosts.told("date -Is")
    seen = iter([busy, view])
    monkeypatch.setattr(absence, "look", lambda *_: next(seen, users_moved(view)))
    absence.leave(lab, hosts, "app-b1", Progress())  # type: ignore[arg-type]
    assert hosts.told("systemctl stop sias-web")


def test_a_standby_counts_again_only_when_it_has_caught_up(
    lab: Inventory, hosts: Hosts, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = tuple(replace(m, lag_bytes=1 << 30) if not m.leads else m for m in view.members)
    asked: list[int] = []

    def again(*_: Any) -> View:
        asked.append(len(hosts.told("d;.*nosync|nosync.*/d'")))
        return view if len(asked) > 2 else replace(view, members=behind)

    show(monkeypatch, again)
    lines = absence.come_back(lab, hosts, "db-b1", Progress())  # type: ignore[arg-type]
    assert asked[:3] == [0, 0, 0], "the tag went before the standby had caught up"
    assert healthy(lines)
    assert hosts.position("db-b1", "nosync.*/d'") < hosts.position("app-a1", "pg_replicas/db-b1 state ready")
    started = [line.split()[-1] for host, line in hosts.told("systemctl start") if host == "db-b1"]
    assert started == list(reversed(absence.services(lab, lab.hosts["db-b1"])))
    enabled = [
        line.split("enable --quiet ")[1].split(";")[0] for host, line in hosts.told("enable --quiet") if host == "db-b1"
    ]
    assert enabled == started, "what an interrupted upgrade disabled would not start at the next boot"
    assert hosts.log[-1] == ("db-b1", f"rm -f {absence.MARK}")


def test_a_host_that_is_not_whole_in_time_stays_marked_as_away(
    lab: Inventory, hosts: Hosts, looked: list[View], view: View
) -> None:
    looked.append(replace(view, bricks=(replace(view.bricks[0], pending=12), *view.bricks[1:])))
    with pytest.raises(RemoteError, match="files that others miss: app-a1 12"):
        absence.come_back(lab, hosts, "app-b1", Progress(), limit=0.0)  # type: ignore[arg-type]
    assert not hosts.told(f"rm -f {absence.MARK}")


def test_an_address_goes_home_at_the_moment_when_its_holder_has_nothing_left_to_say(
    lab: Inventory, hosts: Hosts
) -> None:
    hosts.run("app-b1", "python3 - x room_b stay")  # it is away: app-a1 holds both
    hosts.when("app-b1", "grep -lxs 1", lambda: f"{address.file('a')}\n{address.file('b')}\n")
    address.come_home(lab, hosts, "app-b1", lambda _: None)  # type: ignore[arg-type]
    (home,) = hosts.told(r"python3 - .* back$")
    assert home[0] == "app-a1"
    assert address.file("b") in home[1]
    assert {line.split(">")[1] for _, line in hosts.told("echo 0 >")} == {address.file("a"), address.file("b")}
    assert address.holders(lab, hosts) == {"a": "app-a1", "b": "app-b1"}  # type: ignore[arg-type]


def test_nobody_comes_home_before_keepalived_would_hold_an_address(lab: Inventory, hosts: Hosts) -> None:
    hosts.when("app-b1", "grep -lxs 1", lambda: address.file("b"))
    hosts.when("app-b1", "room-address", lambda: Result("app-b1", 1, "", ""))
    clock = iter(range(0, 10_000, 10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote.time, "monotonic", lambda: float(next(clock)))
        with pytest.raises(RemoteError, match="keepalived on app-b1"):
            address.come_home(lab, hosts, "app-b1", lambda _: None)  # type: ignore[arg-type]
    assert not hosts.told("python3 - .* back$|echo 0")


def test_an_address_that_nobody_else_takes_comes_back(
    lab: Inventory, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.when("*", "ip -4 -brief", lambda: "")
    monkeypatch.setattr(address, "MOVE_LIMIT", 0.0)
    with pytest.raises(RemoteError, match="another host holds"):
        address.leave(lab, hosts, "app-b1", lambda _: None)  # type: ignore[arg-type]
    assert hosts.log[-1] == ("app-b1", f"mkdir -p {address.FOLDER} && echo 0 >{address.file('a')}")


def test_the_order_of_holders_is_that_of_keepalived(lab: Inventory) -> None:
    from siasops import inventory as facts  # noqa: PLC0415

    full = facts.load(facts.resolve("lab-full"))
    assert address.preference(lab, "b") == ["app-b1", "app-a1"]
    assert address.preference(full, "a") == ["app-a1", "app-a2", "app-b1", "app-b2"]
    variables = yaml.safe_load((ROOT / "roles/keepalived/vars/main.yml").read_text(encoding="utf-8"))
    assert variables["_keepalived_away"] == address.FOLDER
    asked = re.findall(r"\('(\w+)', keepalived", (ROOT / "roles/keepalived/templates/keepalived.conf.j2").read_text())
    assert tuple(asked) == address.QUESTIONS


def test_statistics_count_a_server_in_its_backends_only() -> None:
    text = STATISTICS.format(web=2, reads=3)
    assert drain.connections(text, drain.WEB, "app-b1") == 2
    assert drain.connections(text, drain.READS, "db-b1") == 3
    assert drain.connections("", drain.READS, "db-b1") == 0


def test_what_does_not_end_in_time_is_counted(hosts: Hosts) -> None:
    hosts.when("app-a1", "show stat", lambda: STATISTICS.format(web=4, reads=0))
    assert drain.drain(hosts, drain.WEB, "app-b1", hosts=["app-a1"], limit=0.0) == 4  # type: ignore[arg-type]


def test_a_haproxy_that_refuses_stops_a_drain_and_one_that_is_down_does_not_stop_its_end(hosts: Hosts) -> None:
    hosts.when("app-a1", "set server", lambda: "No such server.\n")
    with pytest.raises(RemoteError, match=r"app-a1: HAProxy could not set app-b1 to drain: No such server\."):
        drain.drain(hosts, drain.WEB, "app-b1", hosts=["app-a1"], limit=1.0)  # type: ignore[arg-type]
    hosts.when("app-a1", "set server", lambda: Result("app-a1", 1, "", "no socket"))
    with pytest.raises(RemoteError, match="no socket"):
        drain.drain(hosts, drain.WEB, "app-b1", hosts=["app-a1"], limit=1.0)  # type: ignore[arg-type]
    drain.ready(hosts, drain.WEB, "app-b1", hosts=["app-a1"])  # type: ignore[arg-type]
