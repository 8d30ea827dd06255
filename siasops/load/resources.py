"""Who used the machine meanwhile: processor time by group of processes, sampled beside the load on one time axis."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("load generator", ("locust",)),
    ("application", ("gunicorn", "sias-web", "-m sias worker")),
    ("PostgreSQL", ("postgres",)),
    ("PgBouncer", ("pgbouncer",)),
    ("HAProxy", ("haproxy",)),
    ("Patroni", ("patroni",)),
    ("etcd", ("etcd",)),
    ("documents", ("gluster",)),
    ("backups", ("pgbackrest",)),
    ("monitoring", ("prometheus", "alertmanager", "blackbox")),
)
"""Group to the words by which its processes are known; in a lab on one machine all of them are seen from outside."""
OTHER = "other"
EVERY = 2.0
"""Seconds between two looks: reading every process costs some tens of milliseconds."""


@dataclass(frozen=True)
class Usage:
    """Processor use between two looks. `cores`: by group, 1.0 being one core; `busiest_worker`: of one generator process.

    `queued`: share of the time in which something that could run waited for a processor (Linux's pressure stall
    information, "some"; 0 where the kernel keeps none).
    """

    at: float
    cores: dict[str, float]
    busy: float
    """Share of all cores that was used, 0 to 1."""
    iowait: float
    memory: float
    """Share of memory in use."""
    busiest_worker: float = 0.0
    queued: float = 0.0


PRESSURE = Path("/proc/pressure/cpu")


def waited() -> float:
    """Return the seconds, since the machine started, in which something waited for a processor."""
    try:
        return int(PRESSURE.read_text(encoding="ascii").split("total=", 1)[1].split()[0]) / 1e6
    except OSError:
        return 0.0


def group_of(name: str, command: str) -> str:
    """Name the group of a process."""
    text = f"{name} {command}".lower()
    return next((group for group, words in GROUPS if any(word in text for word in words)), OTHER)


@dataclass
class Sampler:
    """Looks every two seconds in a thread of its own; `at` counts from `zero` on the wall clock."""

    zero: float = field(default_factory=time.time)
    usages: list[Usage] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for the last look."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        before, groups = self._look({})
        moment, queued = time.monotonic(), waited()
        psutil.cpu_times_percent()
        while not self._stop.wait(EVERY):
            now, groups = self._look(groups)
            span, moment = time.monotonic() - moment, time.monotonic()
            waiting, queued = waited() - queued, waited()
            cores: dict[str, float] = {}
            busiest = 0.0
            for pid, seconds in now.items():
                used = max(0.0, seconds - before.get(pid, seconds)) / span
                cores[groups[pid]] = cores.get(groups[pid], 0.0) + used
                if groups[pid] == "load generator":
                    busiest = max(busiest, used)
            whole = psutil.cpu_times_percent()
            self.usages.append(
                Usage(
                    time.time() - self.zero, cores, 1 - (whole.idle + whole.iowait) / 100, whole.iowait / 100,
                    psutil.virtual_memory().percent / 100, busiest, min(1.0, waiting / span),
                )
            )  # fmt: skip
            before = now

    @staticmethod
    def _look(known: dict[int, str]) -> tuple[dict[int, float], dict[int, str]]:
        seconds: dict[int, float] = {}
        groups: dict[int, str] = {}
        for process in psutil.process_iter():
            try:
                times = process.cpu_times()
                groups[process.pid] = known.get(process.pid) or group_of(process.name(), " ".join(process.cmdline()))
            except psutil.Error:
                continue
            seconds[process.pid] = times.user + times.system
        return seconds, groups
