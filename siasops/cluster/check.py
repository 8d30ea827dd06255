"""Go / no-go lines made from a view: what was looked at, what was found, and what to do when it is not right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from siasops.cluster.view import View

LAG_LIMIT = 16 * 1024 * 1024
"""Bytes that a standby may be behind: one WAL segment."""


@dataclass(frozen=True)
class Line:
    """One check. `action` is empty when it holds."""

    ok: bool
    what: str
    found: str
    action: str = ""


def check(view: View) -> list[Line]:
    """Judge a view: every line is a sentence's worth of evidence, go or no-go."""
    return [*_hosts(view), *_database(view), *_quorum(view), *_documents(view), *_fronts(view), *_rooms(view)]


def healthy(lines: list[Line]) -> bool:
    """Whether everything holds. Nothing looked at is not healthy."""
    return bool(lines) and all(line.ok for line in lines)


def together(what: str, lines: Iterable[Line], action: str) -> Line:
    """Make one line of many: what it found is what does not hold. Nothing looked at does not hold."""
    every = list(lines)
    wrong = "; ".join(f"{line.what}: {line.found}" for line in every if not line.ok)
    held = healthy(every)
    return Line(held, what, wrong or f"all {len(every)} checks hold", "" if held else action)


def _hosts(view: View) -> Iterator[Line]:
    if view.silent:
        names = ", ".join(f"{name} ({why})" for name, why in view.silent.items())
        yield Line(False, "Every host answers", f"silent: {names}", "Power it on, or see its console and its link.")
    else:
        yield Line(True, "Every host answers", "all answer ssh")


def _database(view: View) -> Iterator[Line]:
    leading = [m for m in view.members if m.leads]
    states = ", ".join(f"{m.host} {m.role if m.answers else 'does not answer'}/{m.state}" for m in view.members)
    what = "Exactly one database host leads"
    if len(leading) == 1:
        yield Line(True, what, f"{leading[0].host}, timeline {leading[0].timeline}")
    else:
        yield Line(
            False,
            what,
            f"{', '.join(m.host for m in leading) or 'nobody'} leads ({states})",
            "See `journalctl -u patroni` on the database hosts and that etcd has a majority; wait for the election.",
        )
        return
    leader = leading[0]
    standbys = {s.host: s for s in leader.standbys}
    behind = []
    for member in view.members:
        if member.host == leader.host:
            continue
        stream = standbys.get(member.host)
        if not member.answers:
            behind.append(f"{member.host} does not answer")
        elif stream is None or stream.state != "streaming":
            behind.append(f"{member.host} is not streaming ({member.state})")
        elif member.timeline != leader.timeline:
            behind.append(f"{member.host} is on timeline {member.timeline}, not {leader.timeline}")
        elif member.lag_bytes is None or member.lag_bytes > LAG_LIMIT:
            behind.append(f"{member.host} lags by {member.lag_bytes} bytes")
    count = len(view.members) - 1
    yield Line(
        not behind and count > 0,
        "Every other database host follows",
        "; ".join(behind) if behind else f"{count} streaming, none further behind than {LAG_LIMIT >> 20} MiB",
        "See `journalctl -u patroni` there; `patronictl reinit` rebuilds a copy that cannot follow." if behind else "",
    )
    sync = [s.host for s in leader.standbys if s.sync_state in {"sync", "quorum"} and s.state == "streaming"]
    rooms = {m.host: m.room for m in view.members}
    elsewhere = [h for h in sync if rooms.get(h) != leader.room]
    enough = len(sync) >= view.expected_sync and bool(elsewhere)
    yield Line(
        enough,
        "Commits wait for the other room",
        f"{view.expected_sync} confirmation(s) wanted, synchronous: {', '.join(sync) or 'none'}",
        "" if enough else "A standby of the other room must stream; until then a room's loss could lose writes.",
    )
    identifiers = {m.system_id for m in view.members if m.answers}
    yield Line(
        len(identifiers) == 1,
        "All members are one database",
        f"system identifier {', '.join(str(i) for i in sorted(identifiers, key=str))}",
        "" if len(identifiers) == 1 else "A member carries another database: stop its patroni before anything else.",
    )
    paused = [m.host for m in view.members if m.paused]
    yield Line(
        not paused,
        "Patroni is allowed to act",
        f"paused on {', '.join(paused)}" if paused else "not paused",
        "`patronictl resume` when the maintenance is over." if paused else "",
    )


def _quorum(view: View) -> Iterator[Line]:
    sick = [v.host for v in view.voters if not v.healthy]
    yield Line(
        not sick and bool(view.voters),
        "Every etcd voter is healthy",
        f"not healthy: {', '.join(sick)}" if sick else f"{len(view.voters)} of {len(view.voters)}",
        "See `journalctl -u etcd` there; a majority must live for the database to have a leader." if sick else "",
    )
    leaders = [v for v in view.voters if v.leads]
    database = view.leader
    what = "etcd's leader stands outside the primary's room"
    if len(leaders) != 1:
        yield Line(
            False, what, f"{len(leaders)} leaders among the voters", "Wait for etcd's election; see its journal."
        )
    else:
        apart = database is None or leaders[0].room != database.room
        yield Line(
            apart,
            what,
            f"{leaders[0].host} leads etcd, {database.host if database else 'nobody'} the database",
            "" if apart else "etcd-leader-placement.service moves it within seconds; see its journal if not.",
        )


def _documents(view: View) -> Iterator[Line]:
    away = [b.host for b in view.bricks if not b.serves]
    waiting = [f"{b.host} {b.pending}" for b in view.bricks if b.pending]
    unknown = [b.host for b in view.bricks if b.serves and b.pending is None]
    ok = bool(view.bricks) and not (away or waiting or unknown)
    found = []
    if away:
        found.append(f"brick is down: {', '.join(away)}")
    if waiting:
        found.append(f"files that others miss: {', '.join(waiting)}")
    if unknown:
        found.append(f"not counted: {', '.join(unknown)}")
    yield Line(
        ok,
        "Every document is on every brick",
        "; ".join(found) or f"{len(view.bricks)} bricks serve, nothing to heal",
        ""
        if ok
        else "See `gluster volume status` and `gluster volume heal sias info` on a brick host; heals by itself.",
    )


def _fronts(view: View) -> Iterator[Line]:
    leader = view.leader
    for front in view.fronts:
        wrong = [f"{unit} is {state}" for unit, state in front.units.items() if state != "active"]
        if not front.units:
            wrong.append("its services are not known")
        if not front.ready:
            wrong.append("/healthz/ready does not answer 200")
        elif front.answered_by != front.host:
            wrong.append(f"{front.answered_by} answers for it")
        if leader and front.primary != (leader.host,):
            wrong.append(
                f"its HAProxy sees the primary on {', '.join(front.primary) or 'no host'}, not on {leader.host}"
            )
        yield Line(
            not wrong,
            f"{front.host} serves room {front.room}",
            "; ".join(wrong) or "services active, application ready, primary reached",
            f"See `systemctl status` and `journalctl -u sias-web -u haproxy -u pgbouncer` on {front.host}."
            if wrong
            else "",
        )


def _rooms(view: View) -> Iterator[Line]:
    home = {f.host: f.room for f in view.fronts}
    for room in view.rooms:
        what = f"Users of room {room.room} are served in their room ({room.address})"
        if len(room.holders) != 1:
            found = f"address held by {' and '.join(room.holders) or 'nobody'}"
            yield Line(False, what, found, "See `journalctl -u keepalived` on the application hosts.")
        elif home[room.holders[0]] != room.room:
            yield Line(
                False,
                what,
                f"{room.holders[0]} of the other room holds the address",
                "It goes home when an application host of the room is ready again.",
            )
        elif not room.ready:
            yield Line(
                False, what, f"{room.holders[0]} holds it, the application does not answer 200", "See that host."
            )
        else:
            yield Line(True, what, f"{room.holders[0]} holds it, {room.answered_by} answers")
