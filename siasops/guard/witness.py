"""The guard itself, on the witness site: `python3 -m siasops.guard.witness CONFIG.json`.

Five times a second: read Patroni's keys from etcd, ask the primary's Patroni, let `decide` judge, do what it says.
Every decision that is more than "nothing" goes to the journal, with what was seen.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, MetricsHandler

from siasops.guard.decision import Action, Cluster, Do, Memory, Opinion, Rules, Sight, decide
from siasops.guard.etcd import Etcd, Key, encode
from siasops.guard.wire import Answer, Client, Identity, Server

MAINTENANCE = "/sias/guard/maintenance"
TOKEN = "/sias/guard/token"  # noqa: S105 - the name of a key of etcd
TOKEN_SECONDS = 5
"""A release whose token has ended is refused by etcd: a guard that slept between fence and release wakes too late."""
FENCE_WAIT = 0.5
"""Seconds to wait for fences that were asked for, after the look that runs beside them."""
OPINION_TIMEOUT = 2.0
"""Seconds for an agent: two probes of 0.3 s, half a second until it has heard nothing for long enough, its own Patroni, and a
busy machine."""


@dataclass
class Journal:
    """Decisions with their evidence, one JSON line each, on the disk before anything is done."""

    path: Path | None
    _last: str = field(default="", init=False)

    def note(self, event: str, **fields: Any) -> None:
        """Write a line; the same event and reason in a row is written once."""
        signature = f"{event} {fields.get('why')}"
        if signature == self._last:
            return
        self._last = signature
        line = json.dumps(
            {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}, default=str
        )
        print(line, flush=True)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())


def read_cluster(keys: dict[str, Key], prefix: str, maintenance: Key | None) -> Cluster:
    """Turn Patroni's keys into what `decide` wants to know.

    Args:
        keys: everything under `prefix`.
        prefix: /service/<cluster>/
        maintenance: the guard's own key, when somebody has set it.
    """
    leader, sync, status = (keys.get(prefix + name) for name in ("leader", "sync", "status"))
    if leader is None:
        return Cluster(leader=None)
    state = _document(sync)
    settings = _document(keys.get(f"{prefix}config"))
    standbys = tuple(name.strip() for name in str(state.get("sync_standby") or "").split(",") if name.strip())
    hindrance = ""
    if maintenance is not None:
        hindrance = f"maintenance: {maintenance.value}"
    elif settings.get("pause"):
        hindrance = "Patroni is paused"
    elif any(_document(keys.get(f"{prefix}failover")).values()):  # Patroni empties the key instead of deleting it
        hindrance = "a switchover is under way"
    elif settings.get("synchronous_mode") is not True or state.get("quorum"):
        hindrance = "Patroni's synchronous_mode is not “true”: no single standby is known to hold every write"
    elif state.get("leader") != leader.value:
        hindrance = f"/sync names {state.get('leader')} and not the leader {leader.value}"
    elif not standbys:
        hindrance = f"no synchronous standby: {leader.value} writes alone"
    return Cluster(
        leader=leader.value,
        leader_revision=leader.revision,
        lease=leader.lease,
        sync_revision=sync.revision if sync else 0,
        status_revision=status.revision if status else 0,
        standbys=standbys,
        hindrance=hindrance,
    )


def _document(key: Key | None) -> dict[str, Any]:
    try:
        found = json.loads(key.value) if key else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def release_transaction(
    prefix: str, cluster: Cluster, candidate: str, *, sync_value: str, failover_revision: int, token: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write the one transaction that ends a primary's lease; see ARGUMENT.md, step 4.

    It compares the leader's key, the synchronous standbys' key, that no switchover was asked for meanwhile, and the
    guard's token. It deletes the leader's key, writes the standbys' key again *with the same value* (its revision
    moves, so that a Patroni that still believes to lead can no longer change it), and names the candidate.
    """
    leader, sync, failover = (encode(prefix + name) for name in ("leader", "sync", "failover"))
    compare = [
        {"key": leader, "target": "MOD", "result": "EQUAL", "mod_revision": str(cluster.leader_revision)},
        {"key": leader, "target": "VALUE", "result": "EQUAL", "value": encode(cluster.leader or "")},
        {"key": sync, "target": "MOD", "result": "EQUAL", "mod_revision": str(cluster.sync_revision)},
        {"key": failover, "target": "MOD", "result": "EQUAL", "mod_revision": str(failover_revision)},
        {"key": encode(TOKEN), "target": "MOD", "result": "EQUAL", "mod_revision": str(token)},
    ]
    wish = json.dumps({"leader": cluster.leader, "member": candidate}, separators=(",", ":"))
    success: list[dict[str, Any]] = [
        {"request_delete_range": {"key": leader}},
        {"request_put": {"key": sync, "value": encode(sync_value)}},
        {"request_put": {"key": failover, "value": encode(wish)}},
    ]
    return compare, success


class Guard:
    """The loop's state and its instruments."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.prefix = f"/service/{config['cluster']}/"
        self.endpoint: str = config["etcd"]
        self.etcd = Etcd(Identity(**config["identity"]))
        self.client = Client(Identity(**config["identity"]))
        self.rules = Rules(**config["rules"])
        self.rooms = {name: host["room"] for name, host in config["hosts"].items()}
        self.journal = Journal(Path(config["journal"]) if config.get("journal") else None)
        self.dry: bool = config["dry"]
        self.memory = Memory()
        self.opinions: dict[str, Opinion] = {}
        self.asked: dict[str, Future[None]] = {}
        self.pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="ask")
        self.fencing: list[Future[None]] = []
        self.cut: tuple[Cluster, tuple[str, ...]] | None = None
        self.token: int | None = None
        self.sync_value = ""
        self.failover_revision = 0
        self._lock = threading.Lock()
        self.registry = CollectorRegistry()
        self.looks = Counter("sias_guard_looks", "Looks at the cluster.", registry=self.registry)
        self.last_look = Gauge("sias_guard_last_look_seconds", "Time of the last look.", registry=self.registry)
        self.suspicions = Counter("sias_guard_suspicions", "Suspicions begun.", registry=self.registry)
        self.acts = Counter("sias_guard_acts", "Leases ended.", ["outcome"], registry=self.registry)
        self.phase = Gauge("sias_guard_phase", "1 for the phase that it is in.", ["phase"], registry=self.registry)
        self.hindered = Gauge(
            "sias_guard_hindered", "1 while something keeps it from acting.", ["why"], registry=self.registry
        )
        for outcome in ("released", "refused", "dry"):
            self.acts.labels(outcome)
        Gauge("sias_guard_dry", "1 when it only says what it would do.", registry=self.registry).set(float(self.dry))

    def look(self) -> Sight:
        """Read etcd and ask the primary."""
        try:
            keys = self.etcd.under(self.endpoint, self.prefix)
            maintenance = self.etcd.get(self.endpoint, MAINTENANCE)
        except OSError as error:
            self.journal.note("blind", why=str(error))
            return Sight(time.monotonic(), None)
        cluster = read_cluster(keys, self.prefix, maintenance)
        sync, failover = (keys.get(self.prefix + name) for name in ("sync", "failover"))
        self.sync_value = sync.value if sync else ""
        self.failover_revision = failover.revision if failover else 0  # 0: etcd's word for a key that is not there
        answer, left = Answer.ANSWERS, None
        if cluster.leader in self.config["hosts"] and not cluster.hindrance:
            answer = self.client.probe(
                self.config["hosts"][cluster.leader]["address"],
                self.config["ports"]["patroni"],
                "/primary",
                timeout=self.config["probe_timeout"],
            )
        if answer is Answer.SILENT:
            wait(self.fencing, timeout=FENCE_WAIT)
            self.fencing = []
            try:
                left = self.etcd.seconds_left(self.endpoint, cluster.lease)
            except OSError:
                left = None
        with self._lock:
            opinions = tuple(self.opinions.values())
        return Sight(time.monotonic(), cluster, answer, left, opinions)

    def step(self) -> Action:
        """One look, one judgement, one action."""
        sight = self.look()
        before = self.memory.phase
        self.memory, action = decide(self.memory, sight, self.rules, self.rooms)
        self.looks.inc()
        self.last_look.set_to_current_time()
        for phase in type(self.memory.phase):
            self.phase.labels(phase.value).set(float(phase is self.memory.phase))
        self.hindered.clear()
        if sight.cluster is None or sight.cluster.hindrance:
            why = sight.cluster.hindrance.split(":")[0] if sight.cluster else "etcd gives no answer"
            self.hindered.labels(why).set(1.0)
        else:
            self.hindered.labels("nothing").set(0.0)  # a figure that is absent is no zero
        if action.do is not Do.NOTHING or before is not self.memory.phase:
            self.journal.note(action.do, why=action.why, phase=self.memory.phase, sight=asdict(sight))
        self._do(action, sight)
        if self.cut and sight.cluster and sight.cluster.leader:
            former, hosts = self.cut
            if sight.cluster.leader_revision != former.leader_revision:  # somebody leads: the fence has done its work
                self.cut = None
                self._lift(hosts)
        return action

    def _do(self, action: Action, sight: Sight) -> None:
        about = sight.cluster.leader if sight.cluster else None
        if action.do is Do.ASK and about:
            if self.memory.misses == 1:
                self.suspicions.inc()
            self._ask(about, action.hosts, "opinion")
        elif action.do is Do.FENCE and about:
            if self.dry:
                self._rest("dry", f"dry: would fence {about} on {', '.join(action.hosts)} and end its lease")
                return
            self._take_token()
            self.fencing = self._ask(about, action.hosts, "fence")
        elif action.do is Do.RELEASE:
            self._release(action)
        elif action.do is Do.LIFT:
            self._lift(action.hosts)

    def _ask(self, about: str, hosts: tuple[str, ...], what: str) -> list[Future[None]]:
        """Ask agents, each in a thread of its own; one question per agent at a time."""
        made = []
        for host in hosts:
            if host not in self.config["hosts"]:
                continue
            under_way = self.asked.get(host)
            if what == "opinion" and under_way is not None and not under_way.done():
                continue
            self.asked[host] = self.pool.submit(self._ask_one, host, about, what)
            made.append(self.asked[host])
        return made

    def _ask_one(self, host: str, about: str, what: str) -> None:
        body: dict[str, Any] | None = {} if what == "fence" else None
        began = time.monotonic()
        try:
            said = self.client.json(
                self.config["hosts"][host]["address"],
                self.config["ports"]["guard"],
                f"/{what}?about={about}",
                body,
                timeout=OPINION_TIMEOUT,
            )
        except OSError as error:
            self.journal.note("no opinion", host=host, what=what, why=str(error))
            return
        opinion = Opinion(
            host=host,
            at=time.monotonic(),
            leader=Answer(said["leader"]),
            hears=bool(said["hears"]),
            fit=bool(said["fit"]),
            fenced=bool(said["fenced"]),
        )
        with self._lock:
            earlier = self.opinions.get(host)
            if earlier is None or earlier.at < began:  # an older question must not hide a newer answer
                self.opinions[host] = opinion

    def _take_token(self) -> None:
        """Write the token on a short lease: the release is only valid while it lives."""
        try:
            lease = self.etcd.grant(self.endpoint, TOKEN_SECONDS)
            self.token = self.etcd.put(self.endpoint, TOKEN, self.config["self"], lease)
        except OSError as error:
            self.token = None
            self.journal.note("no token", why=str(error))

    def _release(self, action: Action) -> None:
        assert action.cluster is not None  # noqa: S101 - always with a release
        assert action.candidate is not None  # noqa: S101 - always with a release
        done, why = False, "no token"
        if self.token is not None:
            compare, success = release_transaction(
                self.prefix,
                action.cluster,
                action.candidate,
                sync_value=self.sync_value,
                failover_revision=self.failover_revision,
                token=self.token,
            )
            try:
                done = self.etcd.transaction(self.endpoint, compare, success)
                why = "" if done else "etcd says something else by now"
            except OSError as error:
                why = str(
                    error
                )  # unknown: if it went through, the candidate is promoting, and the fence ends by itself
        self.acts.labels("released" if done else "refused").inc()
        self.journal.note(
            "released" if done else "not released", leader=action.cluster.leader, candidate=action.candidate, why=why
        )
        if done:
            self.cut = action.cluster, action.hosts
        else:
            self._lift(action.hosts)

    def _lift(self, hosts: tuple[str, ...]) -> None:
        for host in hosts:
            try:
                address = self.config["hosts"][host]["address"]
                self.client.json(address, self.config["ports"]["guard"], "/lift", {}, timeout=OPINION_TIMEOUT)
            except OSError as error:
                self.journal.note("not lifted", host=host, why=f"the kernel lifts it at its time: {error}")

    def _rest(self, outcome: str, why: str) -> None:
        self.acts.labels(outcome).inc()
        self.journal.note(outcome, why=why)
        self.memory = dataclasses.replace(Memory(), led_by=self.memory.led_by, led_since=time.monotonic())

    def run(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Look for ever. Whatever fails is said, and the next look begins with no suspicion."""
        self.journal.note("started", dry=self.dry, rules=asdict(self.rules))
        pace = float(self.config["interval"])
        while not stop():
            began = time.monotonic()
            try:
                action = self.step()
            except Exception as error:  # noqa: BLE001 - the guard must not die of a surprise; Patroni goes on without it
                self.journal.note("failed", why=repr(error))
                self.memory = Memory()
                action = Action(Do.NOTHING, "failed")
            if action.do is Do.FENCE:
                continue  # the release follows at once
            time.sleep(max(0.0, pace - (time.monotonic() - began)))


def main() -> int:
    """Command line: the path of the configuration."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and one argument
        print("usage: python3 -m siasops.guard.witness CONFIG.json", file=sys.stderr)
        return 2
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    guard = Guard(config)
    figures, identity = MetricsHandler.factory(guard.registry), Identity(**config["identity"])
    # On every address: an interface that is late must not keep the guard from its work.
    server = Server("", config["metrics_port"], figures, identity)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    guard.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
