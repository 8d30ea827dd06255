"""Move the primary to a room, guarded: assertions in prose, hold clients back, switch, let them through, verify.

Whatever happens after PAUSE, RESUME follows, by the application hosts themselves (`hold.py`): clients that wait are
never left waiting.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from siasops import remote
from siasops.calendar import records
from siasops.cluster import instance
from siasops.cluster.check import Line, check
from siasops.cluster.client import Asker
from siasops.cluster.view import Member, View, look, look_at_database
from siasops.console import Progress
from siasops.errors import USAGE, UserError
from siasops.guard.decision import Cluster
from siasops.guard.etcd import Etcd, encode
from siasops.guard.wire import Identity
from siasops.guard.witness import read_cluster
from siasops.inventory import Inventory
from siasops.remote import Fleet

REPLAY_LIMIT = 1024 * 1024
"""Bytes that the target may still have to replay when clients are asked to wait."""
PAUSE_LIMIT = 5.0
"""Seconds for the running transactions to end; then RESUME, and nothing has happened."""
HOLD_LIMIT = 10.0
"""Seconds for HAProxy to see the new primary; then clients are let through all the same."""
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
    clients_held: float | None = None
    """Longest time that an application host held its clients back, in seconds."""

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
            ""
            if view.scheduled is None
            else "`patronictl flush CLUSTER switchover` removes it; `patronictl list` names the cluster.",
        )
    )
    return lines, target


def _alone(now: instance.Serving) -> Line:
    """A copy that the next major version is made of follows this very primary, and no other."""
    copy = now.successor
    return Line(
        copy is None,
        "No migration is under way",
        f"PostgreSQL {copy.major} follows the primary, and would have to be made anew" if copy else "none",
        "`sias migrate postgres run` comes to its end, `sias migrate postgres rollback` removes it." if copy else "",
    )


def run(inventory: Inventory, room: str, *, dry: bool, progress: Progress, recorded: bool = True) -> Switch:
    """Switch over to a room, or only say what would happen.

    Args:
        inventory: the environment.
        room: where the primary shall stand.
        dry: only say.
        progress: told every step.
        recorded: make a record of its own; false within a larger change, which is the one that is recorded.

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
        lines.append(_alone(instance.of(inventory)))
        result = Switch(room, dry, lines, leader.host if leader else None)
        if leader is None or target is None or not all(line.ok for line in lines):
            wrong = "; ".join(f"{line.what}: {line.found}" for line in lines if not line.ok)
            result.sentence = f"Nothing was done, because this does not hold: {wrong}."
            return result
        if dry:
            result.held = True
            result.sentence = (
                f"Would make {target.host} primary instead of {leader.host}. Nothing was done; `--yes` does it."
            )
            return result
        what = f"primary moved from {leader.host} to {target.host}"
        record = (
            records.recording(inventory, kind="switchover", what=what) if recorded else nullcontext(records.Entry())
        )
        with record as entry:
            _act(Stage(inventory, fleet), leader, target, result, progress)
            entry.felt = records.Felt(writes_held=result.clients_held)
            entry.outcome, entry.why = ("done", "") if result.held else ("failed", result.sentence)
        return result


def _look(inventory: Inventory, fleet: Fleet) -> View:
    view = look(inventory, fleet)
    with Asker(inventory) as asker:
        for member in view.members:
            answer = asker.json(
                inventory.hosts[member.host].address, instance.of(inventory).serving.patroni, "/cluster"
            )
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
    """Hold clients back, hand the primary's key over, let them through, verify."""
    inventory, fleet = stage.inventory, stage.fleet
    begin = time.monotonic()

    def mark(what: str) -> None:
        result.timeline.append(Moment(time.monotonic() - begin, what))
        progress.say(what)

    with progress.step(f"Switch over from {leader.host} to {target.host}"):
        # Less for the former primary to recover from, and for the new one to replay.
        fleet.run(leader.host, CHECKPOINT, timeout=60.0, check=True)
        mark(f"checkpoint on {leader.host}")
        with Handover(inventory, leader.host, target.host) as handover:
            hold = _Hold(stage, target.host, mark)
            hold.wait_paused()
            try:
                handover.act()
                mark(f"the primary's key is {target.host}'s")
            finally:
                # Every application host lets its clients through by itself, whatever becomes of this process.
                hold.wait_resumed()
    with progress.step("Wait until every standby follows"), Asker(inventory) as ask:
        remote.wait_until(
            lambda: all(line.ok for line in check(look_at_database(inventory, ask)) if line.what in FOLLOWING),
            "every database host follows the new primary",
            deadline=120.0,
            every=1.0,
        )
        mark("every standby follows, commits wait for the other room")
    result.after = target.host
    result.held = True
    result.clients_held = hold.longest
    result.sentence = f"{target.host} leads; clients were held back for {hold.longest:.2f} s."


class _Hold:
    """`hold.py` on every application host: says when all hold their clients back, and when all let them through."""

    def __init__(self, stage: Stage, new: str, mark: Callable[[str], None]) -> None:
        inventory = stage.inventory
        self._hosts = [h.name for h in inventory.group("applications")]
        self._mark = mark
        self._said: dict[str, dict[str, float]] = {name: {} for name in self._hosts}
        self._heard = threading.Condition()
        port = str(inventory.ports["pgbouncer"])
        serving = instance.of(inventory).serving
        command = ["python3", "-", port, inventory.cluster, serving.server(new), str(PAUSE_LIMIT), str(HOLD_LIMIT)]
        script = (Path(__file__).parent / "hold.py").read_text(encoding="utf-8")
        self._results: dict[str, remote.Result] = {}

        def work() -> None:
            self._results = stage.fleet.run_each(
                dict.fromkeys(self._hosts, command),
                stdin=script,
                timeout=PAUSE_LIMIT + HOLD_LIMIT + 15,
                tell=self._hear,
            )
            with self._heard:
                self._heard.notify_all()

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def _hear(self, host: str, word: str) -> None:
        with self._heard:
            self._said[host][word] = time.monotonic()
            self._heard.notify_all()

    def wait_paused(self) -> None:
        """Wait until every application host holds its clients back.

        Raises:
            RemoteError: one does not; nothing has been switched, and all let their clients through by themselves.
        """
        with self._heard:
            self._heard.wait_for(
                lambda: (
                    all({"paused", "busy", "resumed"} & said.keys() for said in self._said.values())
                    or bool(self._results)
                ),
                timeout=PAUSE_LIMIT + 5,
            )
            free = [name for name, said in self._said.items() if "paused" not in said]
        if free:
            self._thread.join()
            why = "; ".join(
                f"{n}: {(self._results[n].stderr or 'transactions did not end').strip()[-200:]}" for n in free
            )
            raise remote.RemoteError(
                f"PgBouncer could not hold clients back within {PAUSE_LIMIT:.0f} s ({why}). Nothing was switched; look for "
                "long transactions there and try again."
            )
        self._mark(f"PgBouncer holds clients back on {', '.join(self._hosts)}")

    def wait_resumed(self) -> None:
        """Wait until every application host lets its clients through.

        Raises:
            RemoteError: one did not see the new primary in time, or could not resume.
        """
        self._thread.join()
        stuck = [name for name, said in self._said.items() if "resumed" not in said]
        late = [name for name, said in self._said.items() if "routed" not in said]
        self._mark("PgBouncer lets clients through" + (f", except on {', '.join(stuck)}" if stuck else ""))
        if stuck:
            why = "; ".join(f"{name}: {self._results[name].stderr.strip()[-200:]}" for name in stuck)
            raise remote.RemoteError(
                f"PgBouncer could not be resumed ({why}): on that host, `systemctl restart pgbouncer`."
            )
        if late:
            raise remote.RemoteError(
                f"{', '.join(late)} did not see the new primary within {HOLD_LIMIT:.0f} s and let clients through all the "
                "same. See `sias cluster check`."
            )

    @property
    def longest(self) -> float:
        """Seconds for which clients were held back, on the host where it lasted longest."""
        return max((said["resumed"] - said["paused"] for said in self._said.values()), default=0.0)


class Handover:
    """Gives the primary's key of etcd to a synchronous standby, in one transaction.

    Patroni's own switchover takes two seconds and more in which nobody may write: it stops PostgreSQL, looks once a
    second whether it has stopped, and only then lets go. Here the standby's Patroni is given the key, on its own lease:
    it wakes at once and promotes, and the former primary's finds that it has lost the key and steps down. No
    acknowledged write can be lost by that, for the reason and by the same rewrite of /sync as in
    siasops/guard/ARGUMENT.md: whoever /sync names has everything that was acknowledged.
    """

    def __init__(self, inventory: Inventory, former: str, new: str) -> None:
        self._former, self._new = former, new
        self._prefix = f"/service/{instance.of(inventory).serving.scope}/"
        self._endpoints = [f"{h.address}:{inventory.ports['etcd_client']}" for h in inventory.group("etcd")]
        paths = {name: str(inventory.pki / name) for name in ("controller.crt", "controller.key", "ca.crt")}
        self._etcd = Etcd(Identity(paths["controller.crt"], paths["controller.key"], paths["ca.crt"]))
        self._endpoint, self._before = self._read()  # connected, and refused early, while nobody waits yet

    def __enter__(self) -> Handover:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections to etcd."""
        self._etcd.__exit__()

    def _read(self) -> tuple[str, Cluster]:
        failure = ""
        for endpoint in self._endpoints:
            try:
                self._keys = self._etcd.under(endpoint, self._prefix)
            except OSError as error:
                failure = str(error)
                continue
            cluster = read_cluster(self._keys, self._prefix, None)
            if cluster.leader != self._former:
                raise remote.RemoteError(f"{cluster.leader or 'Nobody'} leads by now, not {self._former}: look again.")
            if cluster.hindrance or self._new not in cluster.standbys:
                why = cluster.hindrance or f"{self._new} is no synchronous standby"
                raise remote.RemoteError(f"Nothing was switched: {why}. See `sias cluster check`.")
            return endpoint, cluster
        raise remote.RemoteError(f"No voter of etcd answers ({failure}): nothing was switched.")

    def act(self) -> None:
        """Hand the key over.

        Raises:
            RemoteError: etcd refuses, or does not say whether it did; see `sias cluster status`.
        """
        _, cluster = self._read()
        member = self._keys.get(f"{self._prefix}members/{self._new}")
        if member is None or member.lease == "0":
            raise remote.RemoteError(f"Patroni on {self._new} holds no lease of its own: nothing was switched.")
        sync = self._keys[f"{self._prefix}sync"]
        leader_key, sync_key = encode(f"{self._prefix}leader"), encode(f"{self._prefix}sync")
        compare = [
            {"key": leader_key, "target": "MOD", "result": "EQUAL", "mod_revision": str(cluster.leader_revision)},
            {"key": sync_key, "target": "MOD", "result": "EQUAL", "mod_revision": str(cluster.sync_revision)},
        ]
        success: list[dict[str, Any]] = [
            {"request_put": {"key": leader_key, "value": encode(self._new), "lease": member.lease}},
            {"request_put": {"key": sync_key, "value": encode(sync.value)}},
        ]
        try:
            done = self._etcd.transaction(self._endpoint, compare, success)
        except OSError as error:
            raise remote.RemoteError(f"etcd did not say whether the key was handed over: {error}.") from error
        if not done:
            raise remote.RemoteError("The cluster changed at that moment; nothing was switched. Try again.")
