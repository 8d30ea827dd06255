"""The workloads' processes as the drill sees them: started, followed while they write their logs, stopped."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siasops.drill.history import Outcome
from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory

LEDGER_CLIENTS = 8
LEDGER_PERIOD = 0.08
"""Seconds between two inserts of a client: 8 clients make about 100 writes a second, which leaves two cores air."""
READ_PERIOD = 0.1
DOCUMENT_PERIOD = 1.5
HTTP_RATES = {"read": 10.0, "write": 2.0}
"""Requests per second, offered whatever happens."""
FINAL_DEADLINE = 30.0
"""Seconds for acknowledged documents to read back after convergence."""
STOP_LIMIT = 60.0


@dataclass
class Tail:
    """Counts what a log gained since the last look."""

    path: Path
    offset: int = 0
    acknowledged: int = 0
    failed: int = 0
    last: float | None = None

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
            event = record["e"]
            if event == "outcome":
                good = record["outcome"] == Outcome.OK
            elif event == "request":
                good = record["ok"]
            elif event == "died":
                raise UserError(f"The workload {self.path.stem} ended by itself: {record['why']}")
            else:
                continue
            if good:
                self.acknowledged += 1
                self.last = record["t"]
            else:
                self.failed += 1


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
    return {
        "ledger": {
            **common,
            "rooms": doors,
            "port": inventory.ports["pgbouncer"],
            "user": "sias_drill",
            "password": secrets["postgres_drill"],
            "sslmode": "verify-full",
            "database": "sias",
            "replica_database": "sias_ro",
            "clients": LEDGER_CLIENTS,
            "period": LEDGER_PERIOD,
            "read_period": READ_PERIOD,
        },
        "documents": {**common, **web, "period": DOCUMENT_PERIOD, "final_deadline": FINAL_DEADLINE},
        "prober": {**common, **web, "rates": HTTP_RATES},
    }


LOGS = {"ledger": "ledger", "documents": "documents", "prober": "http"}
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
            self.workers[name] = Worker(name, process, Tail(self.folder / f"{LOGS[name]}.jsonl"), errors)
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
