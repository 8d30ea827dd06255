"""The workloads' processes as the drill sees them: started, followed while they write their logs, stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siasops.drill.history import Outcome
from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory

LEDGER_CLIENTS = 8
LEDGER_PERIOD = 0.4
"""Seconds between two inserts of a client: 8 clients make 20 writes a second, which tells a gap to 50 ms. A lab's hosts share
two cores: as those fill, everything takes half as long again (runbooks/records/20261129-busy-machine.md), so a load that
keeps them nearly full before the fault is one that they do not come back from."""
READ_PERIOD = 0.2
DOCUMENT_PERIOD = 2.0
HTTP_RATES = {"read": 2.0, "write": 1.0}
"""Requests per second, offered whatever happens."""
FINAL_DEADLINE = 30.0
"""Seconds for acknowledged documents to read back after convergence."""
STOP_LIMIT = 60.0
STEADY = 2.0
"""Seconds without an interruption after which a way counts as working again, and without a slow answer, as calm."""
CALM_LIMIT = 30.0
"""Seconds to wait for that before anything is touched: the workloads' own start is what a small machine feels most."""
PATIENCE = {"write": 1.0, "read": 1.0, "HTTP read": 2.5, "HTTP write": 5.0, "document": 6.0}
"""Seconds between two successes from which a way counts as interrupted; each is offered several times as often."""


@dataclass
class Way:
    """One way in which users reach the platform: its last success, and since when they have come without a break."""

    last: float
    since: float

    def success(self, at: float, patience: float) -> None:
        """Note a success."""
        if at - self.last > patience:
            self.since = at
        self.last = max(self.last, at)


@dataclass
class Tail:
    """Counts what a log gained since the last look."""

    path: Path
    offset: int = 0
    acknowledged: int = 0
    failed: int = 0
    last: float | None = None
    slow: float = 1.0
    """Seconds from a request's intended start from which its answer counts as slow."""
    slow_at: float = float("-inf")
    """When a request was last answered slowly, or not well."""
    ways: dict[tuple[str, str], Way] = field(default_factory=dict)
    """By kind (as in PATIENCE) and the room whose users they are."""

    def follow(self) -> None:
        """Read what is new; a line that is still being written waits for the next look."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self.offset += whole
        for line in data[:whole].splitlines():
            record = json.loads(line)
            match record["e"]:
                case "outcome":
                    good = record["outcome"] == Outcome.OK
                case "request":
                    good = record["ok"]
                    slow = not good or record["t"] - record["intended"] > self.slow
                    self.slow_at = record["t"] if slow else self.slow_at
                case "died":
                    raise UserError(f"The workload {self.path.stem} ended by itself: {record['why']}")
                case "read" if "database" in record:
                    if record["outcome"] == Outcome.OK:
                        self._way("read", f"{record['home']} {record['database']}", record["t"])
                    continue
                case _:
                    continue
            if not good:
                self.failed += 1
                continue
            self.acknowledged += 1
            self.last = record["t"]
            match self.path.stem:
                case "ledger":
                    self._way("write", record["home"], record["t"])
                case "http":
                    self._way(f"HTTP {record['kind']}", record["room"], record["t"])
                case "documents":
                    self._way("document", "", record["t"])

    def _way(self, kind: str, who: str, at: float) -> None:
        self.ways.setdefault((kind, who), Way(at, at)).success(at, PATIENCE[kind])


@dataclass
class Worker:
    """One workload: its process, its log, and what it said on standard error."""

    name: str
    process: subprocess.Popen[str]
    tail: Tail
    errors: Path
    stopping: bool = field(default=False)

    def complain_if_dead(self) -> None:
        """Raise when the process ended by itself.

        Raises:
            UserError: with the last line that it said.
        """
        if self.process.poll() is not None and not self.stopping:
            said = self.errors.read_text(encoding="utf-8").strip().splitlines()
            raise UserError(f"The workload {self.name} ended by itself: {said[-1] if said else 'it said nothing'}")


def descriptions(inventory: Inventory, run: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Describe every workload: module name to what it is told (secrets included: hand over by standard input only)."""
    secrets = inventory.secrets()
    ca = str(inventory.pki / "ca.crt")
    common = {"run": run, "folder": str(folder), "ca": ca}
    doors = {
        room: [{"host": h.name, "address": h.address} for h in inventory.group("applications", room=room)]
        for room in inventory.rooms
    }
    web = {
        "rooms": {room.letter: room.address for room in inventory.rooms.values()},
        "account": "sonde",
        "account_password": secrets["app_probe_password"],
    }
    database = {
        "rooms": doors,
        "port": inventory.ports["pgbouncer"],
        "user": "sias_drill",
        "password": secrets["postgres_drill"],
        "sslmode": "verify-full",
        "database": "sias",
        "replica_database": "sias_ro",
    }
    ssh = ["-F", str(inventory.state / "ssh_config")] if inventory.is_lab else []
    return {
        "ledger": {
            **common,
            **database,
            "clients": LEDGER_CLIENTS,
            "period": LEDGER_PERIOD,
            "read_period": READ_PERIOD,
        },
        "documents": {**common, **web, "period": DOCUMENT_PERIOD, "final_deadline": FINAL_DEADLINE},
        "prober": {**common, **web, "rates": HTTP_RATES},
        "invariants": {**common, **database},
        "nodes": {
            **common,
            "ssh": ssh,
            "nodes": [h.name for h in inventory.group("databases")],
            "database": inventory.cluster,
        },
    }


LOGS = {"ledger": "ledger", "documents": "documents", "prober": "http", "invariants": "invariants", "nodes": "nodes"}
"""Workload to the stem of its log."""


class Workers:
    """All workloads of a run."""

    def __init__(self, inventory: Inventory, run: str, folder: Path) -> None:
        self.inventory = inventory
        self.run = run
        self.folder = folder
        self.workers: dict[str, Worker] = {}

    def start(self, *names: str) -> None:
        """Start every workload, or only those named."""
        # A lab's hosts share this machine's disk: what earlier work left to be written is written before anybody is timed.
        os.sync()
        for name, description in descriptions(self.inventory, self.run, self.folder).items():
            if names and name not in names:
                continue
            errors = self.folder / f"{name}.stderr"
            with errors.open("w", encoding="utf-8") as file:
                process = subprocess.Popen(
                    [sys.executable, "-m", f"siasops.drill.workloads.{name}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=file,
                    text=True,
                    cwd=ROOT,
                    start_new_session=True,  # Ctrl-C is for the drill, which heals first
                )
            tail = Tail(self.folder / f"{LOGS[name]}.jsonl", slow=self.inventory.objectives["http_slow"])
            self.workers[name] = Worker(name, process, tail, errors)
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            process.stdin.write(json.dumps(description) + "\n")
            process.stdin.flush()

    def wait_ready(self, deadline: float) -> None:
        """Wait until every workload has had a success.

        Raises:
            UserError: one of them ended, or had none in time.
        """
        end = time.monotonic() + deadline
        while True:
            self.look()
            idle = [w.name for w in self.workers.values() if not w.tail.acknowledged]
            if not idle:
                return
            if time.monotonic() > end:
                raise UserError(
                    f"No success within {deadline:.0f} s by: {', '.join(idle)}. See {self.folder} and `sias cluster check`."
                )
            time.sleep(0.2)

    def wait_calm(self, say: Callable[[str], None]) -> bool:
        """Wait until every way works and no request was answered slowly for a while; say so when not within CALM_LIMIT.

        A platform that is busy before anything is touched shows what it does when it is busy, not what the event does to it.

        Raises:
            UserError: a workload ended by itself.
        """
        begin = time.monotonic()
        while True:
            self.look()
            now = time.monotonic()
            slow_at = max((w.tail.slow_at for w in self.workers.values()), default=begin)
            if not self.waiting(begin) and now - max(begin, slow_at) >= STEADY:
                return True
            if now - begin > CALM_LIMIT:
                say("users wait longer than they should before anything is touched: this machine is busy")
                return False
            time.sleep(0.2)

    def look(self) -> str:
        """Read the logs; say where things stand.

        Raises:
            UserError: a workload ended by itself.
        """
        now = time.monotonic()
        parts = []
        for worker in self.workers.values():
            worker.complain_if_dead()
            worker.tail.follow()
            tail = worker.tail
            ago = f", last {now - tail.last:.1f} s ago" if tail.last is not None else ""
            parts.append(f"{LOGS[worker.name]} {tail.acknowledged} ok {tail.failed} not{ago}")
        return "; ".join(parts)

    def waiting(self, since: float) -> list[str]:
        """Name the ways that users wait on: without a break for a while now, and used after `since`, are the others."""
        now = time.monotonic()
        return [
            f"{kind}s{f' of room {who}' if who else ''}"
            for worker in self.workers.values()
            for (kind, who), way in worker.tail.ways.items()
            if way.last < since or now - way.last > PATIENCE[kind] or now - way.since < STEADY
        ]

    def stop(self) -> list[str]:
        """Ask every workload to end, wait for it; name those that had to be killed."""
        killed = []
        for worker in self.workers.values():
            worker.stopping = True
            if worker.process.stdin is not None:
                try:
                    worker.process.stdin.close()
                except OSError:
                    continue  # it has ended already
        end = time.monotonic() + STOP_LIMIT
        for worker in self.workers.values():
            try:
                worker.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
                killed.append(worker.name)
        return killed
