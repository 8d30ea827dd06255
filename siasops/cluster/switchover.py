"""Move the primary to a room, guarded: assertions in prose, hold clients back, switch, let them through, verify.

Whatever happens after PAUSE, RESUME follows: clients that wait are never left waiting.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from siasops import remote
from siasops.cluster.check import Line, check
from siasops.cluster.client import Asker
from siasops.cluster.view import Member, View, haproxy_up, look
from siasops.console import Progress
from siasops.errors import USAGE, UserError
from siasops.inventory import Inventory
from siasops.remote import Fleet

REPLAY_LIMIT = 1024 * 1024
"""Bytes that the target may still have to replay when clients are asked to wait."""
PAUSE_LIMIT = 10.0
"""Seconds for the running transactions to end; then RESUME, and nothing has happened."""
SWITCH_LIMIT = 30.0
"""Seconds for Patroni to have the new primary take writes."""
CHECKPOINT = ["runuser", "-u", "postgres", "--", "psql", "-X", "-q", "-d", "postgres", "-c", "CHECKPOINT"]
FOLLOWING = ("Exactly one database host leads", "Every other database host follows", "Commits wait for the other room")
"""Checks that end a switchover."""
PGBOUNCER_CONSOLE = (
    "psql -X -q -v ON_ERROR_STOP=1 -h /run/pgbouncer -p {port} -U pgbouncer -d pgbouncer -c '{command};'"
)


@dataclass(frozen=True)
class Stage:
    """Where the switchover takes place."""

    inventory: Inventory
    fleet: Fleet


@dataclass(frozen=True)
class Moment:
    """Something that happened, `at` seconds after the switchover began."""

    at: float
    what: str


@dataclass
class Switch:
    """What a switchover found and did. `held`: the primary stands in the room, or a dry run found nothing against it."""

    room: str
    dry: bool
    assertions: list[Line]
    before: str | None = None
    after: str | None = None
    held: bool = False
    timeline: list[Moment] = field(default_factory=list)
    sentence: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data, for `--json`."""
        return asdict(self)


def assertions(view: View, room: str) -> tuple[list[Line], Member | None]:
    """Check four things that must hold before a switchover, and find the member to promote."""
    failed = [line for line in check(view) if not line.ok]
    lines = [
        Line(
            not failed,
            "The cluster is healthy",
            "every check of `sias cluster check` holds"
            if not failed
            else "; ".join(f"{x.what}: {x.found}" for x in failed),
            "" if not failed else "Mend that first: a planned change never starts from a wounded cluster.",
        )
    ]
    leader = view.leader
    sync = {s.host for s in leader.standbys if s.sync_state in {"sync", "quorum"}} if leader else set()
    candidates = sorted(
        (m for m in view.members if m.room == room and m.host in sync),
        key=lambda m: (m.lag_bytes if m.lag_bytes is not None else 1 << 62, m.host),
    )
    target = candidates[0] if candidates else None
    lines.append(
        Line(
            target is not None,
            f"Room {room} has a synchronous standby",
            f"{target.host}" if target else f"synchronous are: {', '.join(sorted(sync)) or 'none'}",
            "" if target else "Only a standby that confirmed every commit may be promoted without loss: wait for one.",
        )
    )
    close = target is not None and target.lag_bytes is not None and target.lag_bytes <= REPLAY_LIMIT
    lines.append(
        Line(
            close,
            "It has replayed nearly everything",
            f"{target.lag_bytes if target else 'unknown'} bytes behind, {REPLAY_LIMIT} allowed",
            "" if close else "Wait for it to catch up: clients would wait for the replay.",
        )
    )
    lines.append(
        Line(
            view.scheduled is None,
            "Nobody else is changing the cluster",
            view.scheduled or "no switchover is scheduled, Patroni is not paused",
            "" if view.scheduled is None else "`patronictl flush sias switchover` removes it.",
        )
    )
    return lines, target


def run(inventory: Inventory, room: str, *, dry: bool, progress: Progress) -> Switch:
    """Switch over to a room, or only say what would happen.

    Raises:
        UserError: no such room; or it could not be done, with what was found.
    """
    if room not in inventory.rooms:
        raise UserError(f"There is no room “{room}”; rooms are {', '.join(inventory.rooms)}.", USAGE)
    with remote.connect(inventory) as fleet:
        view = _look(inventory, fleet)
        leader = view.leader
        if leader is not None and leader.room == room:
            return Switch(
                room,
                dry,
                [],
                leader.host,
                leader.host,
                held=True,
                sentence=f"{leader.host} of room {room} leads already.",
            )
        lines, target = assertions(view, room)
        result = Switch(room, dry, lines, leader.host if leader else None)
        if leader is None or target is None or not all(line.ok for line in lines):
            result.sentence = "Nothing was done: an assertion does not hold."
            return result
        if dry:
            result.held = True
            result.sentence = (
                f"Would make {target.host} primary instead of {leader.host}. Nothing was done; `--yes` does it."
            )
            return result
        _act(Stage(inventory, fleet), leader, target, result, progress)
        return result


def _look(inventory: Inventory, fleet: Fleet) -> View:
    view = look(inventory, fleet)
    with Asker(inventory) as asker:
        for member in view.members:
            answer = asker.json(inventory.hosts[member.host].address, inventory.ports["patroni"], "/cluster")
            if isinstance(answer, dict):
                scheduled = answer.get("scheduled_switchover")
                return View(
                    **{
                        **{name: getattr(view, name) for name in View.__dataclass_fields__},
                        "scheduled": f"a switchover is scheduled: {json.dumps(scheduled)}" if scheduled else None,
                    }
                )
    return view


def _act(stage: Stage, leader: Member, target: Member, result: Switch, progress: Progress) -> None:
    """Hold clients back, switch, let them through, verify."""
    inventory, fleet = stage.inventory, stage.fleet
    begin = time.monotonic()

    def mark(what: str) -> None:
        result.timeline.append(Moment(time.monotonic() - begin, what))
        progress.say(what)

    hosts = [h.name for h in inventory.group("applications")]
    with progress.step(f"Switch over from {leader.host} to {target.host}"):
        # Less to write at the shutdown of the old primary, while clients wait.
        fleet.run(leader.host, CHECKPOINT, timeout=60.0, check=True)
        mark(f"checkpoint on {leader.host}")
        with Asker(inventory) as asker, held_back(inventory, fleet, hosts, mark):
            order = _Order(fleet, target.host, leader.host, inventory.cluster)
            # The order comes back half a second after the new primary takes writes: clients need not wait for it.
            remote.wait_until(
                lambda: order.refused() or _leads(asker, inventory, target.host),
                f"{target.host} takes writes",
                deadline=SWITCH_LIMIT,
                every=0.1,
            )
            mark(f"{target.host} leads")
            remote.wait_until(
                lambda: _routed(inventory, asker, target.host),
                f"every HAProxy sees the primary on {target.host}",
                deadline=SWITCH_LIMIT,
                every=0.1,
            )
            mark("every HAProxy sees it")
    with progress.step("Wait until every standby follows"):
        remote.wait_until(
            lambda: all(line.ok for line in check(look(inventory, fleet)) if line.what in FOLLOWING),
            "every database host follows the new primary",
            deadline=120.0,
            every=1.0,
        )
        mark("every standby follows, commits wait for the other room")
    result.after = target.host
    result.held = True
    result.sentence = f"{target.host} leads; clients were held back for {_held_for(result.timeline):.1f} s."


class _Order:
    """Patroni's switchover, ordered in a thread of its own.

    It is given on the member itself, whose own configuration holds the password of Patroni's REST interface.
    """

    def __init__(self, fleet: Fleet, target: str, leader: str, cluster: str) -> None:
        command = ["patronictl", "switchover", cluster, "--force", "--leader", leader, "--candidate", target]
        self._results: list[remote.Result] = []
        threading.Thread(
            target=lambda: self._results.append(fleet.run(target, command, timeout=SWITCH_LIMIT)), daemon=True
        ).start()

    def refused(self) -> bool:
        """Raise when Patroni said no; otherwise False.

        Raises:
            RemoteError: with what Patroni said.
        """
        for result in self._results:
            if not result.ok:
                said = (result.stderr or result.stdout).strip().splitlines()
                raise remote.RemoteError(
                    f"Patroni did not switch over ({result.host}): {said[-1] if said else 'no answer'}. "
                    "Clients were let through again; see `sias cluster check`."
                )
        return False


@contextmanager
def held_back(inventory: Inventory, fleet: Fleet, hosts: list[str], mark: Callable[[str], None]) -> Iterator[None]:
    """PAUSE writers in every PgBouncer for the block; RESUME whatever happens. Reads of replicas go on.

    Raises:
        RemoteError: a PgBouncer could not be paused within its limit; everything has been resumed.
    """
    port = inventory.ports["pgbouncer"]
    paused = _console(port, f"PAUSE {inventory.cluster}")
    try:
        answers = fleet.run_all(paused, hosts=hosts, timeout=PAUSE_LIMIT)
        refused = [f"{name}: {(a.stderr or 'out of time').strip()}" for name, a in answers.items() if not a.ok]
        if refused:
            raise remote.RemoteError(
                f"PgBouncer could not hold clients back ({'; '.join(refused)}). Nothing was switched; look for long "
                "transactions there and try again."
            )
        mark(f"PgBouncer holds clients back on {', '.join(hosts)}")
        yield
    finally:
        resume = _console(port, f"RESUME {inventory.cluster}")
        answers = fleet.run_all(resume, hosts=hosts, timeout=10.0)
        # Not paused is what RESUME complains about after a failed PAUSE: that is what is wanted.
        stuck = [n for n, a in answers.items() if not a.ok and "not paused" not in a.stderr]
        mark("PgBouncer lets clients through" + (f", except on {', '.join(stuck)}" if stuck else ""))
        if stuck:
            raise remote.RemoteError(f"PgBouncer on {', '.join(stuck)} could not be resumed: run `{resume}` there now.")


def _console(port: int, command: str) -> str:
    """Shell line for PgBouncer's console: by its socket and as its own user, so that no password is needed."""
    return "runuser -u $(systemctl show -P User pgbouncer) -- " + PGBOUNCER_CONSOLE.format(port=port, command=command)


def _leads(asker: Asker, inventory: Inventory, host: str) -> bool:
    answer = asker.get(inventory.hosts[host].address, inventory.ports["patroni"], "/primary")
    return answer is not None and answer.status_code == 200  # noqa: PLR2004 - HTTP


def _routed(inventory: Inventory, asker: Asker, host: str) -> bool:
    for front in inventory.group("applications"):
        answer = asker.get(front.address, inventory.ports["haproxy_metrics"], "/metrics")
        if answer is None or haproxy_up(answer.text, "pg_primary") != (host,):
            return False
    return True


def _held_for(timeline: list[Moment]) -> float:
    held = [m.at for m in timeline if "holds clients back" in m.what]
    free = [m.at for m in timeline if "lets clients through" in m.what]
    return free[0] - held[0] if held and free else 0.0
