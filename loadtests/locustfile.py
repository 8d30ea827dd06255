"""Locust's side of a load test: each worker offers its share of the arrivals, on time, whatever was answered before.

Started by `sias load run`, which hands over the description (with the account's password) on standard input. Locust's own
users are a closed loop: one that waits for a slow answer sends nothing meanwhile, and so hides an outage. Here one Locust
user per worker is a dispatcher; people are greenlets that begin at their intended time, or fail when the pool is full.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Pool
from locust import User, events, task
from locust.exception import StopUser

from loadtests.journeys import JOURNEYS, Agents, RefusedError
from siasops.load.samples import COLUMNS
from siasops.load.schedule import Arrival, mine

POOL = 400
"""People under way at once in one worker; more means that they queue before the door."""
WAIT_FOR_BEGIN = 120.0
DRAIN = 15.0
"""Seconds for the last ones to be answered."""

PLAN: dict[str, Any] = json.loads(sys.stdin.readline())


class Log:
    """One line per request, on the disk as soon as it is known."""

    def __init__(self, worker: int) -> None:
        self._file = (Path(PLAN["folder"]) / f"samples-{worker}.csv").open(
            "w", encoding="utf-8", newline="", buffering=1
        )
        self._rows = csv.writer(self._file)
        self._rows.writerow(COLUMNS)

    def note(self, row: tuple[object, ...]) -> None:
        """Write a line."""
        self._rows.writerow(row)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Dispatcher(User):
    """The one Locust user of a worker."""

    fixed_count = 0

    @task
    def offer(self) -> None:
        """Sign in, wait for the common beginning, offer every arrival, drain, end."""
        runner = self.environment.runner
        worker = getattr(runner, "worker_index", 0) or 0
        log = Log(worker)
        agents = Agents(PLAN, log, self.environment.events.request)
        try:
            agents.prepare()
        except RuntimeError as error:
            sys.stderr.write(f"RuntimeError: {error}\n")
            runner.quit()
            raise StopUser from error
        (Path(PLAN["folder"]) / f"ready-{worker}").touch()
        agents.zero = self._begin()
        pool = Pool(POOL)
        for arrival in mine(PLAN, worker, PLAN["workers"]):
            gevent.sleep(max(0.0, agents.zero + arrival.at - time.time()))
            if pool.full():
                agents.refuse(arrival, "the pool is full")
            else:
                pool.spawn(self._come, agents, arrival)
        pool.join(timeout=DRAIN)
        pool.kill()
        log.close()
        (Path(PLAN["folder"]) / f"done-{worker}").touch()
        raise StopUser

    @staticmethod
    def _begin() -> float:
        path, end = Path(PLAN["folder"]) / "begin", time.time() + WAIT_FOR_BEGIN
        while not path.exists():
            if time.time() > end:
                raise TimeoutError(f"nobody said when to begin within {WAIT_FOR_BEGIN:.0f} s")
            gevent.sleep(0.05)
        return float(path.read_text(encoding="utf-8"))

    @staticmethod
    def _come(agents: Agents, arrival: Arrival) -> None:
        agent = agents.of(arrival)
        try:
            JOURNEYS[arrival.kind](agent)
        except RefusedError:
            return  # logged where it happened
        except gevent.GreenletExit:
            agent.note_open("not answered when the run ended")


@events.init.add_listener
def _one_dispatcher_each(**_: object) -> None:
    # Gevent's loop must see arrivals on time: standard error of the workers tells when it cannot.
    gevent.get_hub().exception_stream = sys.stderr
