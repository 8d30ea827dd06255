"""Debian's next release on every host: the order, the phases, and the way back.

The standby's room first, applications before databases; then the primary moves there; then the other room; the witness
last. Each host leaves, is upgraded, rebooted, deployed and called back, and everything is whole before the next one. A host
that does not come back stops it all there, with the others serving; so do users who wait before another one leaves.

Two pgBackRests of different Debians do not speak to each other: while the rooms differ, the primary archives to the
repository that has its version, and what the other one lacks is made good by a full backup at the end. What a primary
has not archived when it steps down is lost to the archive, so that it moves only after a repository holds its last segment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from siasops.backup import archive
from siasops.backup.catalogue import as_postgres, read, repository_hosts
from siasops.change.procedure import Act, Phase, Plan, Procedure
from siasops.change.state import State
from siasops.cluster import absence, drain, instance
from siasops.cluster import switchover as switch
from siasops.cluster.check import Line
from siasops.cluster.view import Member, look
from siasops.drill.faults import Stage
from siasops.errors import USAGE, UserError
from siasops.inventory import ROOT, Inventory
from siasops.lab import deploy
from siasops.lab.owners import Owner
from siasops.remote import RemoteError, wait_until
from siasops.upgrade import check, collation, documents, hosts, rebuild, wheels
from siasops.upgrade.collation import Place
from siasops.upgrade.hosts import Road

ARCHIVE_LIMIT = 600.0
"""Seconds for a repository to hold a segment: archiving tries again once a minute while a repository is away."""
BACKUP_LIMIT = 6 * 3600.0
COPY_LIMIT = 6 * 3600
"""Seconds for a host that was made anew to copy the database."""


class Debian(Procedure):
    """A Debian upgrade of every host."""

    kind: ClassVar[str] = "debian"
    command: ClassVar[str] = "sias upgrade debian"

    def plan(self, stage: Stage, wanted: Mapping[str, Any]) -> Plan:
        """See `Procedure.plan`. `wanted["to"]`: the release; by default the latest that the platform knows."""
        inventory, fleet = stage.inventory, stage.fleet
        known = list(inventory.facts["sias_debian"])
        new = str(wanted.get("to") or known[-1])
        if new not in known or known.index(new) == 0:
            raise UserError(f"There is no road to Debian “{new}”; the platform knows {', '.join(known[1:])}.", USAGE)
        old = known[known.index(new) - 1]
        states = hosts.states(fleet, inventory.hosts)
        silent = [name for name, found in states.items() if found is None]
        if silent:
            raise UserError(f"{', '.join(silent)} did not say which Debian runs there: see `sias cluster check`.")
        running = {name: found for name, found in states.items() if found is not None}
        left = [name for name, found in running.items() if found.debian != new]
        story = f"Debian {old} to {new}"
        if not left:
            return Plan(story, nothing=f"Every host runs Debian {new} already; nothing to do.")
        odd = [f"{name} runs {running[name].debian}" for name in left if running[name].debian != old]
        if odd:
            raise UserError(f"Debian {new} is reached from {old} alone: {', '.join(odd)}.", USAGE)
        leader = look(inventory, fleet).leader
        if leader is None:
            raise UserError("Nobody leads: an upgrade never starts from a wounded platform. See `sias cluster check`.")
        return Plan(
            f"{story} on {', '.join(left)}",
            {"from": old, "to": new, "postgresql": leader.version.split(".")[0], **order(inventory, left, leader.room)},
        )

    def check(self, stage: Stage, plan: Plan) -> Sequence[Line]:
        """See `Procedure.check`."""
        return check.lines(stage, plan.facts)

    def phases(self, plan: Plan) -> Sequence[Phase]:
        """See `Procedure.phases`."""
        facts = plan.facts
        return [
            Phase("download", f"Fetch the packages and the Python environments of Debian {facts['to']}", 60, _download),
            Phase("documents", "Give the document volume a description that both Glusters read alike", 15, _documents),
            *(phase for host in facts["early"] for phase in _forward(facts, host)),
            *_move(facts, facts["to_room"]),
            *(phase for host in (*facts["late"], *facts["last"]) for phase in _forward(facts, host)),
            Phase("archive", "Wait until every repository holds the log", 30, _archive),
            Phase("backups", "Take a backup in each room, a full one where log is missing", 60, _backups),
            Phase("text", "Tell PostgreSQL that its text sorts as proven", 5, _text),
        ]

    def back(self, plan: Plan) -> Sequence[Phase]:
        """See `Procedure.back`. Databases before repositories, which speak to every one of them."""
        facts = plan.facts
        databases = set(facts["databases"])
        late = [host for host in facts["late"] if host in databases]
        early = [host for host in facts["early"] if host in databases]
        others = [host for host in (*facts["late"], *facts["early"]) if host not in databases]
        return [
            Phase("back:look", f"See which hosts no longer run a whole Debian {facts['from']}", 5, _look_back),
            Phase("back:wounded", "First what is away, so that nothing else is the last copy", 5, _mend),
            *(phase for host in (*facts["last"], *late) for phase in _backward(facts, host)),
            *_move(facts, facts["from_room"], key="back:primary"),
            *(phase for host in (*early, *others) for phase in _backward(facts, host)),
            Phase("back:archive", "Wait until every repository holds the log", 30, _archive),
            Phase("back:backups", "Take a backup in each room, a full one where log is missing", 60, _backups),
        ]

    def verify(self, stage: Stage, plan: Plan) -> Sequence[Line]:
        """See `Procedure.verify`."""
        return check.verified(stage, plan.facts)

    def plan_back(self, stage: Stage, last: State | None, wanted: Mapping[str, Any]) -> Plan:
        """See `Procedure.plan_back`.

        Raises:
            UserError: it was settled, or there was none.
        """
        found = super().plan_back(stage, last, wanted)
        states = hosts.states(stage.fleet, stage.inventory.hosts)
        if all(one is not None and one.debian == found.facts["from"] and one.whole for one in states.values()):
            return Plan(found.story, nothing=f"Every host runs Debian {found.facts['from']}; nothing to go back from.")
        return found


def order(inventory: Inventory, left: Iterable[str], primary_room: str) -> dict[str, Any]:
    """Put hosts in the order in which they are upgraded.

    Args:
        inventory: the environment.
        left: hosts that are still to be upgraded.
        primary_room: where the primary stands.

    Returns:
        Facts of a plan: `early`, the rooms without the primary; `late`, its room; `last`, the witness site; the rooms that
        the primary moves to and comes from, and whether it has to; which of them are databases.
    """
    chosen = [inventory.hosts[name] for name in inventory.hosts if name in set(left)]
    # Applications first: a room's repository must speak the new version before its databases do.
    chosen.sort(key=lambda host: (host.room, "applications" not in host.groups, "databases" not in host.groups))
    rooms = list(inventory.rooms)
    elsewhere = next(room for room in rooms if room != primary_room and inventory.group("databases", room=room))
    late = [host for host in chosen if host.room == primary_room]
    return {
        "early": [host.name for host in chosen if host.room in rooms and host.room != primary_room],
        "late": [host.name for host in late],
        "last": [host.name for host in chosen if host.room not in rooms],
        "from_room": primary_room,
        "to_room": elsewhere,
        "move": any("databases" in host.groups for host in late),
        "databases": [host.name for host in chosen if "databases" in host.groups],
    }


def _forward(facts: Mapping[str, Any], host: str) -> Iterator[Phase]:
    """What is done with each host, one thing after the other."""
    new = facts["to"]
    steps: tuple[tuple[str, str, float, Callable[..., None]], ...] = (
        ("leave", "its users and its work go to others", 25, _leave),
        ("upgrade", f"packages of Debian {new}", 120, _upgrade),
        ("reboot", f"reboot into Debian {new}", 20, _reboot),
        ("converge", "deploy it, and prove its indexes", 90, _converge),
        ("return", "it serves again, everything is whole", 30, _return),
    )
    for key, title, seconds, act in steps:
        yield Phase(f"{host}:{key}", f"{host}: {title}", seconds, partial(act, host=host), (host,), key == "leave")


def _backward(facts: Mapping[str, Any], host: str) -> Iterator[Phase]:
    """The same on the way back; nothing happens to a host that still runs the former release."""
    old = facts["from"]
    steps: tuple[tuple[str, str, float, Callable[..., None]], ...] = (
        ("out", "its users and its work go to others", 25, _out),
        ("anew", f"made anew on Debian {old}", 60, _anew),
        ("deploy", "deploy it, and fill it from the others", 180, _deploy),
        ("in", "it serves again, everything is whole", 30, _return),
    )
    for key, title, seconds, act in steps:
        yield Phase(f"{host}:{key}", f"{host}: {title}", seconds, partial(_if_anew, host=host, step=act), (host,))


def _move(facts: Mapping[str, Any], room: str, key: str = "primary") -> Iterator[Phase]:
    if facts["move"]:
        yield Phase(key, f"The primary moves to room {room}", 20, partial(_primary, room=room), served=True)


# --- Forward ------------------------------------------------------------------------------------------------------------


def _download(act: Act) -> None:
    road = Road.of(act.inventory, act.plan.facts)
    chosen = [*act.plan.facts["early"], *act.plan.facts["late"], *act.plan.facts["last"]]
    left = [n for n, found in hosts.states(act.fleet, chosen).items() if found is None or found.debian != road.new]
    hosts.download(act.fleet, left, road.old_name, road.new_name, act.progress.say)
    python = act.inventory.facts["sias_debian"][road.new]["python"]
    for archived in wheels.resolve(act.inventory, python):
        act.progress.say(f"environment {archived.rsplit('/', 1)[-1]}")


def _documents(act: Act) -> None:
    documents.level(act.inventory, act.fleet, act.progress.say)


def _leave(act: Act, *, host: str) -> None:
    inventory, fleet = act.inventory, act.fleet
    if "databases" in inventory.hosts[host].groups:
        leader = _leader(act)
        if leader.host == host:
            # It was not expected here: somebody, or a failure, has moved it since.
            _primary(act, room=next(room for room in inventory.rooms if room != leader.room))
        if host not in act.state.notes.get("text", {}):
            noted = collation.note(_place(act, host))
            act.remember(text=act.state.notes.get("text", {}) | {host: noted})
            act.progress.say(f"{host}: the order of text noted for {len(noted)} collations of its databases")
    absence.leave(inventory, fleet, host, act.progress)


def _upgrade(act: Act, *, host: str) -> None:
    road = Road.of(act.inventory, act.plan.facts)
    hosts.upgrade(act.fleet, host, road, act.progress.say, shared_disk=act.inventory.is_lab)


def _reboot(act: Act, *, host: str) -> None:
    boots = act.state.notes.get("boot", {})
    if host not in boots:
        # Known before it is rebooted, so that a run that was interrupted does not do it twice.
        boots = boots | {host: hosts.state(act.fleet, host).boot}
        act.remember(boot=boots)
    act.progress.say(f"{host} is back after {hosts.reboot(act.fleet, host, boots[host]):.0f} s")


def _converge(act: Act, *, host: str) -> None:
    inventory, groups = act.inventory, act.inventory.hosts[host].groups
    if "bricks" in groups:
        documents.wait_joined(inventory, act.fleet, host)
    if "databases" in groups:
        # The reboot started it on the former Python, and the playbook restarts no Patroni that runs. Nobody waits for it yet.
        python = inventory.facts["sias_debian"][act.plan.facts["to"]]["python"]
        for unit in (one.unit for one in instance.of(inventory).slots if one.runs):
            running = f"$(readlink /proc/$(systemctl show -P MainPID {unit})/exe)"
            line = f'test "{running}" = /usr/bin/python{python} || systemctl stop {unit}'
            act.fleet.run(host, line, timeout=absence.STOP_LIMIT, check=True)
    deploy.playbook(inventory, "site", say=act.progress.say, arguments=("--limit", host))
    if "databases" in groups:
        _prove(act, host)


def _prove(act: Act, host: str) -> None:
    """Prove on a host that text sorts as before, and that every index is whole; or note what must be built anew."""
    place = _place(act, host)
    differing = collation.differing(act.state.notes["text"][host], collation.hashes(place))
    if differing:
        act.remember(sorts_otherwise=act.state.notes.get("sorts_otherwise", {}) | {host: differing})
        act.progress.say(
            f"{host} sorts otherwise than before: {', '.join(differing)}; indexes are built anew on the primary"
        )
        return
    act.progress.say(
        f"{host}: text sorts as before; {collation.whole(place)} B-trees are whole, every row found in them"
    )


def _return(act: Act, *, host: str) -> None:
    lines = absence.come_back(act.inventory, act.fleet, host, act.progress)
    act.progress.say(f"all {len(lines)} checks hold")
    if host in act.state.notes.get("sorts_otherwise", {}):
        # Nobody reads by its indexes until they are built anew.
        applications = [h.name for h in act.inventory.group("applications")]
        server = instance.of(act.inventory).serving.server(host)
        drain.drain(act.fleet, drain.READS, server, hosts=applications, limit=absence.DRAIN_LIMIT)


def _primary(act: Act, *, room: str) -> None:
    leader = _leader(act)
    if leader.room != room:
        _hold_log(act, leader)
        moved = switch.run(act.inventory, room, dry=False, progress=act.progress, recorded=False)
        if not moved.held:
            raise UserError(f"The primary could not move to room {room}: {moved.sentence}")
        act.progress.say(moved.sentence)
    _reindex(act)


def _hold_log(act: Act, leader: Member) -> None:
    """Wait until a repository holds everything that the primary has written so far."""
    segment = _end_segment(act, leader.host)
    wait_until(
        lambda: any(_holds(wal, segment) for wal in _newest(act)),
        f"a repository holds {segment}, the last segment of {leader.host}",
        deadline=ARCHIVE_LIMIT,
        every=1.0,
        say=act.progress.say,
    )


def _archive(act: Act) -> None:
    segment = _end_segment(act, _leader(act).host)
    wait_until(
        lambda: all(_holds(wal, segment) for wal in _newest(act)),
        f"every repository holds {segment}",
        deadline=ARCHIVE_LIMIT,
        every=1.0,
        say=act.progress.say,
    )


def _backups(act: Act) -> None:
    gaps = archive.gaps(act.inventory, act.fleet)
    for host in repository_hosts(act.inventory):
        gap = gaps.get(host.name)
        kind = "diff" if gap is not None and not gap.missing else "full"
        line = as_postgres(f"/usr/local/sbin/sias-backup take --type {kind}")
        answer = act.fleet.run(host.name, line, timeout=BACKUP_LIMIT, check=True)
        taken = json.loads(answer.stdout)
        lacking = f", because {gap.missing} segments are missing from {gap.first} on" if gap and gap.missing else ""
        act.progress.say(f"room {host.room}: {kind} backup {taken['label']} in {taken['seconds']} s{lacking}")
        # One that the timetable began while the rooms spoke different versions.
        act.fleet.run(host.name, "systemctl reset-failed 'sias-backup@*' 2>/dev/null || :", timeout=30.0)
    _record_debian(act)


def _text(act: Act) -> None:
    _reindex(act)
    place = _place(act, _leader(act).host)
    refreshed = collation.refresh(place)
    act.progress.say(
        f"versions of collations refreshed; databases with one of their own: {', '.join(refreshed) or 'none'}"
    )
    collation.forget(act.fleet, [host.name for host in act.inventory.group("databases")])


def _reindex(act: Act) -> None:
    """Build anew on the primary what sorts otherwise, once it runs the new release; then everybody may read by it."""
    noted: dict[str, list[str]] = act.state.notes.get("sorts_otherwise", {})
    leader = _leader(act).host
    if leader not in noted:
        return
    place = _place(act, leader)
    built = collation.reindex(place, noted[leader])
    act.progress.say(f"{len(built)} indexes built anew; {collation.whole(place)} B-trees are whole")
    applications = [host.name for host in act.inventory.group("applications")]
    for host in noted:
        drain.ready(act.fleet, drain.READS, instance.of(act.inventory).serving.server(host), hosts=applications)
    act.remember(sorts_otherwise={})


def _record_debian(act: Act) -> None:
    """Note for `sias lab up` which Debian this lab runs now."""
    if act.inventory.is_lab:
        release = act.plan.facts["to" if act.state.direction == "forward" else "from"]
        Owner(str(ROOT), act.inventory.environment, release).write()


# --- Back ---------------------------------------------------------------------------------------------------------------


def _look_back(act: Act) -> None:
    old, absent = act.plan.facts["from"], absence.away(act.fleet)
    chosen = [*act.plan.facts["early"], *act.plan.facts["late"], *act.plan.facts["last"]]
    states = hosts.states(act.fleet, chosen)
    anew = [name for name, found in states.items() if found is None or found.debian != old or not found.whole]
    wounded = [name for name, found in states.items() if found is None or name in absent]
    act.remember(anew=anew, wounded=wounded, made=[])
    act.progress.say(f"to be made anew: {', '.join(anew) or 'none'}")


def _mend(act: Act) -> None:
    for host in act.state.notes["wounded"]:
        for step in (_out, _anew, _deploy):
            _if_anew(act, host=host, step=step)
        _return(act, host=host)
        act.remember(anew=[name for name in act.state.notes["anew"] if name != host])


def _if_anew(act: Act, *, host: str, step: Callable[..., None]) -> None:
    if host in act.state.notes["anew"]:
        step(act, host=host)


def _out(act: Act, *, host: str) -> None:
    if host in act.state.notes["made"] or hosts.states(act.fleet, [host])[host] is None:
        return  # made anew, or dead: there is nothing to leave
    leader = _leader(act)
    if leader.host == host:
        _primary(act, room=next(room for room in act.inventory.rooms if room != leader.room))
    absence.leave(act.inventory, act.fleet, host, act.progress)


def _anew(act: Act, *, host: str) -> None:
    made = act.state.notes["made"]
    if host in made:
        return
    rebuild.make_anew(act.inventory, act.fleet, host, act.plan.facts["from"], act.progress)
    act.remember(made=[*made, host])


def _deploy(act: Act, *, host: str) -> None:
    inventory, fleet, groups = act.inventory, act.fleet, act.inventory.hosts[host].groups
    documents.mark_away(inventory, fleet, host)
    if "bricks" in groups:
        documents.restore(inventory, fleet, host)
    arguments = ("--limit", host, "-e", f"patroni_cluster_deadline={COPY_LIMIT}")
    deploy.playbook(inventory, "site", say=act.progress.say, arguments=arguments, timeout=COPY_LIMIT + 3600)
    if "bricks" in groups:
        documents.fill(inventory, fleet, host, act.progress.say)


# --- What both need -----------------------------------------------------------------------------------------------------


def _leader(act: Act) -> Member:
    leader = look(act.inventory, act.fleet).leader
    if leader is None:
        raise RemoteError("Nobody leads: see `sias cluster check`, and go on when there is a primary.")
    return leader


def _place(act: Act, host: str) -> Place:
    return Place(act.fleet, host, instance.of(act.inventory).serving.postgres)


def _end_segment(act: Act, host: str) -> str:
    """End the segment that the primary writes, and name it."""
    command, query = archive.psql("SELECT pg_walfile_name(pg_switch_wal())")
    return act.fleet.run(host, command, stdin=query, timeout=30.0, check=True).stdout.strip()


def _newest(act: Act) -> list[str]:
    """The newest segment of each repository; empty for one that cannot say."""
    return [repository.wal_max or "" for repository in read(act.inventory, act.fleet)]


def _holds(newest: str, segment: str) -> bool:
    """Whether a repository holds a segment, or a later one."""
    return newest >= segment
