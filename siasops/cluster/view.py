"""One look at everything: who leads, what follows, which host serves which room.

`look` asks every host at once; what does not answer is recorded as such. The result is plain data: `check` judges it,
`cli` shows it, drills wait on it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from siasops.cluster import instance
from siasops.cluster.client import Asker
from siasops.inventory import Inventory
from siasops.remote import Fleet

APPLICATION_UNITS = ("haproxy", "pgbouncer", "keepalived", "sias-web", "sias-worker")
LEADER_ROLES = ("primary", "master", "leader", "standby_leader")


@dataclass(frozen=True)
class Standby:
    """A standby as its primary's walsender sees it."""

    host: str
    state: str
    sync_state: str


@dataclass(frozen=True)
class Member:
    """A database host as its own Patroni describes it. `lag_bytes` None = not known."""

    host: str
    room: str
    answers: bool
    role: str = "unknown"
    state: str = "unknown"
    timeline: int | None = None
    position: int | None = None
    system_id: str | None = None
    lag_bytes: int | None = None
    paused: bool = False
    version: str = ""
    standbys: tuple[Standby, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether this is a running primary."""
        return self.answers and self.role in LEADER_ROLES and self.state == "running"


@dataclass(frozen=True)
class Voter:
    """An etcd member."""

    host: str
    room: str
    healthy: bool
    leads: bool = False
    version: str = ""


@dataclass(frozen=True)
class Front:
    """An application host: its services, what its HAProxy believes, and who answers behind it.

    `answered_by`: the host whose application answered, which is another one when its own is down.
    """

    host: str
    room: str
    ready: bool
    answered_by: str | None = None
    units: dict[str, str] = field(default_factory=dict)
    primary: tuple[str, ...] = ()
    replicas: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Brick:
    """A document brick. `pending` = files that it holds and another brick misses; None = not known."""

    host: str
    room: str
    serves: bool
    pending: int | None = None


@dataclass(frozen=True)
class RoomAddress:
    """The address that users of a room open: who holds it, and whether the application answers there."""

    room: str
    address: str
    holders: tuple[str, ...]
    ready: bool
    answered_by: str | None = None


@dataclass(frozen=True)
class View:
    """Everything, at one moment."""

    environment: str
    members: tuple[Member, ...]
    voters: tuple[Voter, ...]
    fronts: tuple[Front, ...]
    bricks: tuple[Brick, ...]
    rooms: tuple[RoomAddress, ...]
    silent: dict[str, str]
    """Hosts that do not answer ssh, with the reason."""
    expected_sync: int
    scheduled: str | None = None
    seconds: float = 0.0

    @property
    def leader(self) -> Member | None:
        """The primary; None when there is none, or more than one."""
        leading = [m for m in self.members if m.leads]
        return leading[0] if len(leading) == 1 else None

    def as_json(self) -> dict[str, Any]:
        """Plain data, for `--json`."""
        return {**asdict(self), "leader": self.leader.host if self.leader else None}


def look(inventory: Inventory, fleet: Fleet, *, ask: Asker | None = None) -> View:
    """Ask every host at once. Takes as long as the slowest answer, 8 s at most.

    Hosts tell which cluster of PostgreSQL serves while they are asked: when that is news, they are asked again.

    Raises:
        UserError: hosts do not agree on it.
    """
    begin = time.monotonic()
    asker = ask or Asker(inventory)
    try:
        serving = instance.of(inventory).serving
        with ThreadPoolExecutor(max_workers=24) as pool:
            run: Callable[..., Any] = pool.submit
            databases = inventory.group("databases")
            patroni = {h.name: run(asker.json, h.address, serving.patroni, "/patroni") for h in databases}
            etcd = {
                h.name: run(asker.json, h.address, inventory.ports["etcd_client"], "/v3/maintenance/status", post={})
                for h in inventory.group("etcd")
            }
            health = {
                h.name: run(asker.json, h.address, inventory.ports["etcd_client"], "/health")
                for h in inventory.group("etcd")
            }
            applications = inventory.group("applications")
            https = inventory.ports["https"]
            ready = {h.name: run(asker.get, h.address, https, "/healthz/ready") for h in applications}
            at_room = {r.letter: run(asker.get, r.address, https, "/healthz/ready") for r in inventory.rooms.values()}
            metrics = {
                h.name: run(asker.get, h.address, inventory.ports["haproxy_metrics"], "/metrics") for h in applications
            }
            shell = fleet.run_each(_commands(inventory), timeout=8.0)
            members = members_of(inventory, {name: f.result() for name, f in patroni.items()})
            voters = voters_of(
                inventory, {n: f.result() for n, f in etcd.items()}, {n: f.result() for n, f in health.items()}
            )
            said = {name: (result.stdout if result.reached else "") for name, result in shell.items()}
            told = ((h.name, sections(said[h.name]).get("postgresql", "")) for h in databases)
            if instance.know(inventory, instance.agreed(inventory, told)):
                return look(inventory, fleet, ask=asker)
            fronts = tuple(
                _front(
                    inventory,
                    h.name,
                    ready[h.name].result(),
                    metrics[h.name].result().text if metrics[h.name].result() is not None else "",
                    said[h.name],
                )
                for h in applications
            )
            rooms = tuple(_room(inventory, letter, at_room[letter].result(), fronts) for letter in inventory.rooms)
        return View(
            environment=inventory.environment,
            members=members,
            voters=voters,
            fronts=fronts,
            bricks=bricks_of(inventory, said),
            rooms=rooms,
            silent={name: result.stderr for name, result in shell.items() if not result.reached},
            expected_sync=inventory.synchronous_count,
            seconds=time.monotonic() - begin,
        )
    finally:
        if ask is None:
            asker.__exit__()


def ask_patroni(inventory: Inventory, ask: Asker, port: int) -> dict[str, Any]:
    """Every database host's `/patroni`, asked at once; None from a host that gives none. `members_of` reads it."""
    hosts = inventory.group("databases")
    with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
        found = pool.map(lambda h: ask.json(h.address, port, "/patroni"), hosts)
        return dict(zip((h.name for h in hosts), found, strict=True))


def look_at_database(inventory: Inventory, ask: Asker) -> View:
    """Ask the database hosts' Patroni alone; the rest of the view is empty.

    For waits that look again and again while users are served: a whole look starts some fifty processes on the hosts.
    """
    begin = time.monotonic()
    answers = ask_patroni(inventory, ask, instance.of(inventory).serving.patroni)
    return View(
        environment=inventory.environment,
        members=members_of(inventory, answers),
        voters=(),
        fronts=(),
        bricks=(),
        rooms=(),
        silent={},
        expected_sync=inventory.synchronous_count,
        seconds=time.monotonic() - begin,
    )


SEPARATOR = "=== "


def _commands(inventory: Inventory) -> dict[str, str | list[str]]:
    """One line of shell per host, each answer under a heading, so that a host is asked once."""
    commands: dict[str, str | list[str]] = {}
    for host in inventory.hosts.values():
        parts = [f"echo '{SEPARATOR}addresses'; ip -4 -json address show"]
        if "applications" in host.groups:
            parts.append(
                f"echo '{SEPARATOR}units'; for u in {' '.join(APPLICATION_UNITS)}; do"
                ' echo "$u $(systemctl is-active $u)"; done'
            )
        if "databases" in host.groups:
            parts.append(f"echo '{SEPARATOR}postgresql'; cat {instance.FACT} 2>/dev/null")
        if "bricks" in host.groups:
            # Whether the brick serves, and how many files it holds that another has missed: its index of them, which is
            # what `gluster volume heal info` counts, without that command's minute of waiting for a brick that is away.
            brick = f"/srv/brick/{inventory.cluster}/.glusterfs/indices/xattrop"
            parts.append(
                f"echo '{SEPARATOR}brick'; pgrep -fc '[g]lusterfsd .*volfile-id {inventory.cluster}[.]';"
                f" if [ -d {brick} ]; then ls -1 {brick} | grep -vc '^xattrop-'; else echo unknown; fi"
            )
        commands[host.name] = "; ".join(parts)
    return commands


def sections(text: str) -> dict[str, str]:
    """Split an answer of `_commands` by its headings."""
    found: dict[str, str] = {}
    for part in re.split(rf"^{SEPARATOR}", text, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        found[name.strip()] = body
    return found


def members_of(inventory: Inventory, answers: dict[str, Any]) -> tuple[Member, ...]:
    """Turn Patroni's `/patroni` answers into members; lag is the distance to the primary's position."""
    members = []
    for host in inventory.group("databases"):
        answer = answers.get(host.name)
        if not isinstance(answer, dict):
            members.append(Member(host.name, host.room, answers=False))
            continue
        position = answer.get("xlog") or {}
        version = answer.get("server_version")
        members.append(
            Member(
                host=host.name,
                room=host.room,
                answers=True,
                role=str(answer.get("role", "unknown")),
                state=str(answer.get("replication_state") or answer.get("state", "unknown")),
                timeline=answer.get("timeline"),
                position=position.get("location") or position.get("replayed_location"),
                system_id=answer.get("database_system_identifier"),
                paused=bool(answer.get("pause", False)),
                version=f"{version // 10000}.{version % 10000}" if isinstance(version, int) else "",
                standbys=tuple(
                    Standby(
                        str(s.get("application_name")), str(s.get("state", "unknown")), str(s.get("sync_state", ""))
                    )
                    for s in answer.get("replication") or []
                    if s.get("application_name") in inventory.hosts
                ),
            )
        )
    top = next((m.position for m in members if m.leads), None)
    return tuple(
        Member(**{**_shallow(m), "lag_bytes": max(0, top - m.position)})
        if top is not None and m.position is not None and not m.leads
        else m
        for m in members
    )


def _shallow(member: Member) -> dict[str, Any]:
    return {name: getattr(member, name) for name in Member.__dataclass_fields__}


def voters_of(inventory: Inventory, status: dict[str, Any], health: dict[str, Any]) -> tuple[Voter, ...]:
    """Turn etcd's answers into voters."""
    voters = []
    for host in inventory.group("etcd"):
        answer, healthy = status.get(host.name), health.get(host.name)
        if not isinstance(answer, dict) or "header" not in answer:
            voters.append(Voter(host.name, host.room, healthy=False))
            continue
        voters.append(
            Voter(
                host.name,
                host.room,
                healthy=isinstance(healthy, dict) and str(healthy.get("health")).lower() == "true",
                leads=answer.get("leader") not in {None, "0"} and answer["leader"] == answer["header"].get("member_id"),
                version=str(answer.get("version", "")),
            )
        )
    return tuple(voters)


STATUS_LINE = re.compile(r'^haproxy_server_status\{proxy="([^"]+)",server="([^"]+)",state="UP"\} 1\b', re.MULTILINE)


def haproxy_up(metrics: str, backend: str) -> tuple[str, ...]:
    """Servers of a backend that HAProxy holds for up, from its own metrics; one without weight is among them."""
    return tuple(sorted(server for proxy, server in STATUS_LINE.findall(metrics) if proxy == backend))


def _databases_up(inventory: Inventory, metrics: str, backend: str) -> tuple[str, ...]:
    """Hosts whose member of the serving cluster HAProxy holds for up."""
    serving, up = instance.of(inventory).serving, haproxy_up(metrics, backend)
    return tuple(sorted(h.name for h in inventory.group("databases") if serving.server(h.name) in up))


def _front(inventory: Inventory, name: str, answer: Any, metrics: str, shell: str) -> Front:
    parts = sections(shell)
    units = dict(line.split(None, 1) for line in parts.get("units", "").splitlines() if len(line.split(None, 1)) > 1)
    return Front(
        host=name,
        room=inventory.hosts[name].room,
        ready=answer is not None and answer.status_code == 200,  # noqa: PLR2004 - HTTP
        answered_by=answer.headers.get("X-SIAS-Host") if answer is not None else None,
        units=units,
        primary=_databases_up(inventory, metrics, "pg_primary"),
        replicas=_databases_up(inventory, metrics, "pg_replicas"),
        addresses=_addresses(parts.get("addresses", "")),
    )


def _addresses(text: str) -> tuple[str, ...]:
    try:
        links = json.loads(text or "[]")
    except ValueError:
        return ()
    return tuple(a["local"] for link in links for a in link.get("addr_info", []) if a.get("family") == "inet")


def _room(inventory: Inventory, letter: str, answer: Any, fronts: tuple[Front, ...]) -> RoomAddress:
    address = inventory.rooms[letter].address
    return RoomAddress(
        room=letter,
        address=address,
        holders=tuple(f.host for f in fronts if address in f.addresses),
        ready=answer is not None and answer.status_code == 200,  # noqa: PLR2004 - HTTP
        answered_by=answer.headers.get("X-SIAS-Host") if answer is not None else None,
    )


def bricks_of(inventory: Inventory, said: dict[str, str]) -> tuple[Brick, ...]:
    """Read each brick host's own count of what other bricks have missed."""
    bricks = []
    for host in inventory.group("bricks"):
        words = sections(said.get(host.name, "")).get("brick", "").split()
        serves = len(words) > 1 and words[0] != "0"
        pending = int(words[1]) if len(words) > 1 and words[1].isdigit() else None
        bricks.append(Brick(host.name, host.room, serves, pending))
    return tuple(bricks)
