"""A host leaves for maintenance, and comes back, while users notice nothing.

    leave(inventory, fleet, "app-b1", progress)          addresses, requests, services: in this order, one thing after another
    come_back(inventory, fleet, "app-b1", progress)      the same the other way round, until every check holds

One host at a time: a mark on its disk says that it is away, over a reboot, and another one is refused meanwhile. Both may be
run again from their beginning, wherever they were interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from siasops.cluster import address, drain, instance
from siasops.cluster.check import LAG_LIMIT, Line, check, healthy, together
from siasops.cluster.client import Asker
from siasops.cluster.switchover import PGBOUNCER_CONSOLE
from siasops.cluster.view import View, look, look_at_database
from siasops.console import Progress
from siasops.errors import VERDICT_FAILED, UserError
from siasops.inventory import Host, Inventory
from siasops.remote import Fleet, RemoteError, wait_until

MARK = f"{address.FOLDER}/host"
"""On the disk of a host that is away."""
LEAVE_LIMIT = 60.0
"""Seconds for every check to hold before a host leaves."""
DRAIN_LIMIT = 30.0
"""Seconds for requests and reads in progress to end."""
SYNC_LIMIT = 30.0
"""Seconds for Patroni to take a standby out of the synchronous ones, or in again."""
STOP_LIMIT = 180.0
"""Seconds for one service to stop or start; Patroni's own limit is 120."""
BACK_LIMIT = 900.0
"""Seconds for everything to be whole again: a standby that catches up, documents that heal."""
BACKUP_LIMIT = 3600.0
"""Seconds to wait for a backup that runs into this host's repository."""
SERVICES = {
    "applications": ("sias-worker", "sias-web", "sias-documents", "pgbouncer", "keepalived", "haproxy"),
    "repositories": ("pgbackrest",),
    "directories": ("sias-directory",),
    "bricks": ("glusterd",),
    "databases": ("patroni", "sias-guard-agent", "pgbackrest"),
    "witnesses": ("sias-guard",),
    "etcd": ("etcd-leader-placement", "etcd"),
}
"""What is stopped on a host of each group, in order; it is started the other way round."""
BRICK = "pgrep -x glusterfsd"
"""Finds the brick's process, which may outlive glusterd."""
HEALERS = "pgrep -f '[g]lusterfs .*glustershd'"
HEALER = f"{HEALERS} >/dev/null"
HEALER_STOP = "pkill -TERM -f '[g]lusterfs .*glustershd'; :"
BRICK_STOP = f"pkill -TERM -x glusterfsd; {HEALER_STOP}"


def services(inventory: Inventory, host: Host) -> list[str]:
    """Units of a host that serve others, in the order in which they are stopped; the Patroni of each cluster among them."""
    patronis = [one.unit for one in instance.of(inventory).slots if one.runs]
    found = [unit for group, units in SERVICES.items() if group in host.groups for unit in units]
    return list(dict.fromkeys(name for unit in found for name in (patronis if unit == "patroni" else [unit])))


def away(fleet: Fleet) -> list[str]:
    """Hosts that are away by the mark on their disk."""
    answers = fleet.run_all(["test", "-e", MARK], timeout=15.0)
    return [name for name, answer in answers.items() if answer.ok]


def may_leave(view: View, host: Host, absent: Sequence[str]) -> list[Line]:
    """Judge whether a host may leave now, or go on leaving.

    Args:
        view: the cluster.
        host: who wants to leave.
        absent: hosts that are away; a host that had begun to leave is one of them.
    """
    others = [name for name in absent if name != host.name]
    leads = view.leader is not None and view.leader.host == host.name
    lines = [
        Line(
            not others,
            "No other host is away",
            f"away: {', '.join(others)}" if others else "none",
            f"`sias host return {others[0]} --yes` first." if others else "",
        ),
        Line(
            not leads,
            f"{host.name} is not the primary",
            "it leads" if leads else f"{view.leader.host if view.leader else 'nobody'} leads",
            "`sias switchover --to-room ROOM --yes` first." if leads else "",
        ),
    ]
    if host.name in absent:
        return lines  # it had the redundancy when it began
    mend = "Mend that first: what this host holds would be the last copy."
    lines.append(together("Everything is there twice", check(view), mend))
    return lines


def leave(inventory: Inventory, fleet: Fleet, name: str, progress: Progress) -> None:
    """Take a host out of everything that it serves.

    Raises:
        UserError: it may not, or a step could not be done; run it again, or `come_back`.
    """
    host = inventory.host(name)
    lines: list[Line] = []

    def decided() -> bool:
        lines[:] = may_leave(look(inventory, fleet), host, away(fleet))
        return healthy(lines) or not healthy(lines[:2])

    # A busy platform may fail one look and hold at the next; another host's absence and the lead do not pass by waiting.
    with suppress(RemoteError):
        wait_until(decided, f"{name} may leave", deadline=LEAVE_LIMIT, every=1.0, say=progress.say)
    if not healthy(lines):
        told = "; ".join(f"{line.what}: {line.found}. {line.action}" for line in lines if not line.ok)
        raise UserError(f"{name} may not leave. {told}", VERDICT_FAILED)
    fleet.run(name, f"mkdir -p {address.FOLDER} && date -Is >{MARK} && sync {MARK}", check=True)
    if "repositories" in host.groups:
        _wait_for_backup(fleet, name, progress)
    if "applications" in host.groups:
        _leave_users(inventory, fleet, host, progress)
    if "databases" in host.groups:
        _leave_reads(inventory, fleet, host, progress)
    for unit in services(inventory, host):
        progress.say(f"{name}: stop {unit}")
        # A unit that this host never had is as good as stopped.
        line = f"systemctl stop {unit} 2>/dev/null || ! systemctl is-active --quiet {unit}"
        fleet.run(name, line, timeout=STOP_LIMIT, check=True)
        if unit == "glusterd":
            fleet.run(name, BRICK_STOP, check=True)
            wait_until(
                lambda: fleet.run(name, f"! {BRICK}").ok, f"{name}: the brick's process has ended", deadline=30.0
            )
    wait_until(
        lambda: _others_serve(look(inventory, fleet), name),
        f"others serve what {name} served",
        deadline=60.0,
        every=1.0,
        say=progress.say,
    )


def come_back(
    inventory: Inventory, fleet: Fleet, name: str, progress: Progress, *, limit: float = BACK_LIMIT
) -> list[Line]:
    """Let a host serve again, and wait until every check holds. Harmless when it is not away.

    Args:
        inventory: the environment.
        fleet: connections.
        name: the host.
        progress: told what is done.
        limit: seconds for everything to be whole again; longer for a host that has to be copied anew.

    Returns:
        The checks, all of which hold.

    Raises:
        UserError: a service does not start, or something is not whole in time; users are served by the others meanwhile.
    """
    host = inventory.host(name)
    for unit in reversed(services(inventory, host)):
        # An upgrade keeps the application from starting at a boot until it is deployed again; whoever is back starts at the next.
        line = f"systemctl is-enabled --quiet {unit} || systemctl enable --quiet {unit}; systemctl start {unit}"
        started = fleet.run(name, line, timeout=STOP_LIMIT)
        if not started.ok:
            said = (started.stderr or started.stdout).strip()[-300:]
            raise RemoteError(f"{name}: {unit} does not start ({said}); `journalctl -u {unit}` there says why.")
    if "databases" in host.groups:
        _serve_reads(inventory, fleet, host, progress, limit)
    if "applications" in host.groups:
        _serve_users(inventory, fleet, host, progress, limit)
    if "repositories" in host.groups:
        fleet.run(name, ["systemctl", "start", "sias-backup.target"], timeout=STOP_LIMIT, check=True)
    lines: list[Line] = []

    def whole() -> bool:
        lines[:] = check(look(inventory, fleet))
        return healthy(lines)

    try:
        wait_until(whole, f"everything is whole with {name}", deadline=limit, every=1.0, say=progress.say)
    except RemoteError as error:
        wrong = "; ".join(f"{line.what}: {line.found}" for line in lines if not line.ok)
        raise RemoteError(f"{error} {wrong}. See `sias cluster check`.") from error
    fleet.run(name, ["rm", "-f", MARK], check=True)
    return lines


def _wait_for_backup(fleet: Fleet, name: str, progress: Progress) -> None:
    """Hold back backups that the timetable would begin, and wait for one that runs."""
    fleet.run(name, "systemctl stop sias-backup.target 'sias-backup@*.timer'", check=True, timeout=STOP_LIMIT)
    idle = "! systemctl list-units --plain --no-legend --state=active,activating 'sias-backup@*.service' | grep -q ."
    wait_until(
        lambda: fleet.run(name, idle).ok,
        f"no backup runs into {name}'s repository",
        deadline=BACKUP_LIMIT,
        every=2.0,
        say=progress.say,
    )


def _peers(inventory: Inventory, name: str) -> list[str]:
    return [host.name for host in inventory.group("applications") if host.name != name]


def _leave_users(inventory: Inventory, fleet: Fleet, host: Host, progress: Progress) -> None:
    address.leave(inventory, fleet, host.name, progress.say)
    left = drain.drain(fleet, drain.WEB, host.name, hosts=_peers(inventory, host.name), limit=DRAIN_LIMIT)
    progress.say(f"{host.name}: no requests from other hosts" + (f", {left} still in progress" if left else ""))


def _leave_reads(inventory: Inventory, fleet: Fleet, host: Host, progress: Progress) -> None:
    """Make a standby one that nobody waits for and nobody reads from."""
    name = host.name
    serving = instance.of(inventory).serving
    config, unit, server = serving.config, serving.unit, serving.server(name)
    line = f"grep -qx '  nosync: true' {config} || sed -i '/^tags:/a\\  nosync: true' {config}"
    fleet.run(name, f"{line}; ! systemctl is-active --quiet {unit} || systemctl reload {unit}", check=True)

    def free() -> bool:
        leader = look_at_database(inventory, ask).leader
        return leader is not None and all(
            s.sync_state not in {"sync", "quorum"} for s in leader.standbys if s.host == name
        )

    with Asker(inventory) as ask:
        wait_until(free, f"no commit waits for {name}", deadline=SYNC_LIMIT, every=0.5, say=progress.say)
    hosts = [h.name for h in inventory.group("applications")]
    # Out of the turn first, and only then away from it: a new connection must not come here again.
    drain.drain(fleet, drain.READS, server, hosts=hosts, limit=0.0)
    console = PGBOUNCER_CONSOLE.format(port=inventory.ports["pgbouncer"], command=f"RECONNECT {inventory.cluster}_ro")
    reconnect = f'cd / && runuser -u "$(systemctl show -P User pgbouncer)" -- {console}'
    for answer in fleet.run_all(reconnect, hosts=hosts, timeout=20.0).values():
        if not answer.ok:
            raise RemoteError(f"{answer.host}: PgBouncer does not let go of {name}: {answer.stderr.strip()[-300:]}")
    left = drain.drain(fleet, drain.READS, server, hosts=hosts, limit=DRAIN_LIMIT)
    progress.say(f"{name}: nobody reads here" + (f", but {left} that did not end" if left else ""))
    fleet.run(name, "systemctl stop sias-restore.service 2>/dev/null; :", timeout=STOP_LIMIT, check=True)


def _serve_reads(inventory: Inventory, fleet: Fleet, host: Host, progress: Progress, limit: float) -> None:
    name = host.name

    def follows() -> bool:
        member = next(m for m in look_at_database(inventory, ask).members if m.host == name)
        caught_up = member.lag_bytes is not None and member.lag_bytes <= LAG_LIMIT
        return member.leads or (member.state == "streaming" and caught_up)

    with Asker(inventory) as ask:
        wait_until(follows, f"{name} follows the primary", deadline=limit, every=1.0, say=progress.say)
    serving = instance.of(inventory).serving
    config, unit = serving.config, serving.unit
    line = f"grep -qx '  nosync: true' {config} || exit 0; sed -i '/^  nosync: true$/d' {config}"
    fleet.run(name, f"{line}; systemctl reload {unit}", check=True)
    drain.ready(fleet, drain.READS, serving.server(name), hosts=[h.name for h in inventory.group("applications")])


def _serve_users(inventory: Inventory, fleet: Fleet, host: Host, progress: Progress, limit: float) -> None:
    name = host.name

    def answers() -> bool:
        front = next(f for f in look(inventory, fleet).fronts if f.host == name)
        return front.ready and front.answered_by == name

    wait_until(answers, f"the application of {name} answers", deadline=limit, every=1.0, say=progress.say)
    drain.ready(fleet, drain.WEB, name, hosts=_peers(inventory, name))
    address.come_home(inventory, fleet, name, progress.say)


def _others_serve(view: View, name: str) -> bool:
    """Whether there is a primary, and each room's address is answered by another host."""
    return (
        view.leader is not None
        and view.leader.host != name
        and all(room.ready and room.holders and name not in room.holders for room in view.rooms)
    )
