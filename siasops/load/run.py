"""A load test from preflight to report: Locust as processes, the platform's resources beside them, the verdict."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from siasops import remote
from siasops.console import Progress
from siasops.data import population
from siasops.drill import registry
from siasops.errors import USAGE, UserError
from siasops.inventory import ROOT, Inventory
from siasops.load import report
from siasops.load.resources import Sampler
from siasops.load.samples import read
from siasops.load.scenario import Scenario, sites
from siasops.load.schedule import arrivals
from siasops.load.verdict import Fault, Verdict, judge

READY_LIMIT = 90.0
"""Seconds for every worker to sign in and to get to know people."""
LEAD = 2.0
"""Seconds between the last worker's readiness and the first arrival."""
END_LIMIT = 40.0
"""Seconds after the schedule for the last answers and for Locust to end."""
DRILL_LIMIT = 600.0
SAY_EVERY = 10.0


@dataclass
class Result:
    """A run."""

    run: str
    scenario: str
    environment: str
    question: str
    target: dict[str, str]
    rate: float
    not_offered: dict[str, float]
    """Kinds without a journey, and their share of the mix in percent."""
    verdict: Verdict
    fault: Fault | None = None
    seconds: float = 0.0
    parameters: dict[str, Any] = field(default_factory=dict)
    persons: int | None = None
    """In the database when it began; None when another instance than the environment's was the target."""

    def as_json(self) -> dict[str, Any]:
        """Plain data: the verdict's keys beside the run's."""
        return {**asdict(self), **self.verdict.as_json()}


def run(
    inventory: Inventory,
    scenario: Scenario,
    *,
    workers: int = 1,
    url: str | None = None,
    drill: str | None = None,
    scale: float = 1.0,
    progress: Progress,
) -> Result:
    """Run a scenario.

    Args:
        inventory: the environment; its rooms' addresses are the target, unless `url` is given.
        scenario: what to offer.
        workers: processes of Locust that offer it.
        url: one instance of the application instead (development); its password is in SIAS_LOAD_PASSWORD, the key of an
            API partner (or none) in SIAS_LOAD_API_KEY.
        drill: the drill to run meanwhile, where the scenario wants `any`.
        scale: factor on every rate.
        progress: told every step.

    Raises:
        UserError: it could not run; says why. Nothing is left running.
    """
    wanted = _drill(scenario, drill)
    if not url and not inventory.drills_allowed:
        raise UserError(
            f"Load is offered to labs only; {inventory.environment} says sias_drills_allowed: false.", USAGE
        )
    persons = None if url else population.stats(inventory).persons
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{scenario.name}"
    folder = inventory.var / "load" / name
    folder.mkdir(parents=True)
    begun = time.monotonic()
    plan, missing = _plan(inventory, scenario, folder, workers=workers, url=url, scale=scale)
    planned = list(arrivals(plan))
    sampler = Sampler()
    progress.say(f"{scenario.question}")
    with _locust(folder, plan, workers) as alive:
        with progress.step(f"Sign in, {workers} worker(s)"):
            _wait(alive, lambda: _count(folder, "ready-*") == workers, READY_LIMIT, f"{workers} workers ready", folder)
        sampler.zero = time.time() + LEAD
        _publish(folder / "begin", f"{sampler.zero}")
        sampler.start()
        try:
            with progress.step(f"Offer {len(planned)} arrivals in {scenario.seconds:.0f} s"):
                exit_code = _offer(
                    inventory, scenario, wanted, folder=folder, zero=sampler.zero, alive=alive, progress=progress
                )
                _wait(alive, lambda: _count(folder, "done-*") == workers, END_LIMIT, "every worker done", folder)
        finally:
            sampler.stop()
    with progress.step("Judge"):
        fault = _fault(inventory, wanted, sampler.zero, scenario.seconds, exit_code) if wanted else None
        samples = read(folder)
        verdict = judge(
            planned, samples, sampler.usages, phases=plan["phases"], objectives=inventory.facts["sias_load"],
            knee=scenario.knee, fault=fault,
        )  # fmt: skip
        if missing:
            verdict.remarks.append(
                f"not offered, because no journey exists for it yet: {', '.join(missing)} "
                f"({sum(missing.values()):g} % of the mix); the other shares were scaled up"
            )
        rate = max(p["rate"] for p in plan["phases"])
        result = Result(
            name, scenario.name, inventory.environment, scenario.question, plan["rooms"], rate, missing, verdict, fault,
            time.monotonic() - begun, {"workers": workers, "scale": scale, "seed": scenario.seed}, persons,
        )  # fmt: skip
        (folder / "usage.json").write_text(json.dumps([asdict(u) for u in sampler.usages]), encoding="utf-8")
        report.write(
            folder,
            result,
            samples,
            sampler.usages,
            figures_of_prometheus(inventory, sampler.zero, scenario.seconds, url),
        )
    return result


def figures_of_prometheus(inventory: Inventory, begin: float, seconds: float, url: str | None) -> dict[str, Any]:
    """Ask the platform's own monitoring what it saw; an empty answer when it is not asked or does not answer."""
    if url:
        return {}
    from siasops.load import platform  # noqa: PLC0415 - needs the platform's certificates

    return platform.ranges(inventory, begin, seconds)


def _drill(scenario: Scenario, drill: str | None) -> str | None:
    if scenario.drill is None:
        if drill:
            raise UserError(f"{scenario.name} runs without a drill; use plateau-drill.", USAGE)
        return None
    if scenario.drill == "any" and not drill:
        raise UserError(f"{scenario.name} needs --drill NAME: {', '.join(registry.DRILLS)}.", USAGE)
    return registry.find(drill or scenario.drill).name


def _plan(
    inventory: Inventory, scenario: Scenario, folder: Path, *, workers: int, url: str | None, scale: float
) -> tuple[dict[str, Any], dict[str, float]]:
    """Describe the run for the workers; and the kinds that have no journey."""
    mix = inventory.facts["sias_load"]["mix"]
    listed = subprocess.run(
        [sys.executable, "-m", "loadtests.journeys"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        raise UserError(f"The journeys cannot be listed: {listed.stderr.strip().splitlines()[-1]}")
    journeys = json.loads(listed.stdout)
    password = os.environ.get("SIAS_LOAD_PASSWORD", "") if url else inventory.secrets()["app_demo_password"]
    if not password:
        raise UserError("--url needs the password of the accounts demo-… in SIAS_LOAD_PASSWORD.", USAGE)
    key = os.environ.get("SIAS_LOAD_API_KEY", "") if url else _partner_key(inventory)
    if not key:
        journeys.pop("partner_api", None)
    peak = inventory.facts["sias_load"]["rate"]
    rooms = {r.letter: url or f"https://{r.address}" for r in inventory.rooms.values()}
    plan = {
        "run": folder.name,
        "folder": str(folder),
        "seed": scenario.seed,
        "workers": workers,
        "password": password,
        "api_key": key,
        "ca": None if url else str(inventory.pki / "ca.crt"),
        "rooms": rooms,
        "phases": [{**p.model_dump(), "rate": p.rate * peak * scale} for p in scenario.phases],
        "shares": {kind: m["share"] for kind, m in mix.items() if kind in journeys},
        "sites": [asdict(s) for s in sites(inventory)],
    }
    return plan, {kind: m["share"] for kind, m in mix.items() if kind not in journeys}


def _partner_key(inventory: Inventory) -> str:
    """Have the application issue a key for the partner `charge`; former ones are revoked.

    Raises:
        UserError: it was refused; says why.
    """
    command = [
        "sias-manage",
        "create_partner",
        "charge",
        "--scopes",
        "persons:read",
        "--per-minute",
        "6000",
        "--revoke",
    ]
    with remote.connect(inventory) as fleet:
        said = fleet.run(inventory.group("applications")[0].name, command, timeout=60.0, check=True)
    return said.stdout.strip().splitlines()[-1]


@contextmanager
def _locust(folder: Path, plan: dict[str, Any], workers: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Run Locust's master and workers for the block; whatever happens, none is left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--skip-log-setup"]
    master = [
        *command, "--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--headless",
        "--expect-workers", str(workers), "-u", str(workers), "-r", str(workers), "--csv", str(folder / "locust"),
        "--exit-code-on-error", "0", "--stop-timeout", "5", "--only-summary",
    ]  # fmt: skip
    worker = [*command, "--worker", "--master-host", "127.0.0.1", "--master-port", port]
    started: list[subprocess.Popen[str]] = []
    try:
        for number, words in enumerate([master, *[worker] * workers]):
            label = f"worker-{number - 1}" if number else "master"
            with (folder / f"{label}.stderr").open("w", encoding="utf-8") as said:
                process = subprocess.Popen(
                    words, stdin=subprocess.PIPE, stdout=said, stderr=said, text=True, cwd=ROOT, start_new_session=True,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                )  # fmt: skip
            started.append(process)
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            process.stdin.write(json.dumps(plan) + "\n")
            process.stdin.flush()
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + END_LIMIT
        for process in started:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()


def _offer(
    inventory: Inventory, scenario: Scenario, drill: str | None, *, folder: Path, zero: float,
    alive: list[subprocess.Popen[str]], progress: Progress,
) -> int:  # fmt: skip
    """Wait while the workers offer; start the drill on time. Returns the drill's exit code, 0 without one."""
    breaking: subprocess.Popen[bytes] | None = None
    spoken = time.monotonic()
    try:
        while (left := zero + scenario.seconds - time.time()) > 0:
            _complain_if_dead(alive, folder)
            if drill and breaking is None and time.time() >= zero + scenario.drill_at:
                progress.say(f"the drill {drill} begins")
                with (folder / "drill.log").open("wb") as said:
                    breaking = subprocess.Popen(
                        [sys.executable, "-m", "siasops.cli", "-i", str(inventory.path), "drill", "run", drill],
                        stdout=said, stderr=said, cwd=ROOT, start_new_session=True,
                    )  # fmt: skip
            if time.monotonic() - spoken >= SAY_EVERY:
                spoken = time.monotonic()
                progress.say(f"{sum(_lines(p) for p in folder.glob('samples-*.csv'))} answers, {left:.0f} s to go")
            time.sleep(min(0.5, left))
        return breaking.wait(DRILL_LIMIT) if breaking else 0
    finally:
        if breaking is not None and breaking.poll() is None:
            breaking.send_signal(signal.SIGINT)  # it heals, and waits until everything is as before
            breaking.wait(DRILL_LIMIT)


def _fault(inventory: Inventory, name: str, zero: float, seconds: float, exit_code: int) -> Fault:
    """Find in the drill's journal when its fault began and when everything was as before."""
    folders = sorted((inventory.var / "drills").glob(f"*-{name}/journal.jsonl"))
    moments: dict[str, float] = {}
    for line in folders[-1].read_text(encoding="utf-8").splitlines() if folders else []:
        entry = json.loads(line)
        if entry["event"] not in {"fault starts", "converged"}:
            continue  # what the drill's observer saw is told by another clock
        moments[entry["event"]] = datetime.fromisoformat(entry["at"]).timestamp() - zero
    begin = moments.get("fault starts", -1.0)
    if not 0 <= begin <= seconds:
        raise UserError(f"The drill {name} broke nothing while load was offered; see drill.log of this run.")
    key = name.replace("-", "_")
    promised = inventory.objectives["drills"][key]
    # Where no write may be acknowledged while the fault lasts, the promise is about its healing: see the drill's own verdict.
    write_gap = promised.get("write_gap", float("inf"))
    end = min(moments.get("converged", seconds), seconds)
    return Fault(name, begin, end, write_gap, promised["read_gap"], exit_code)


def _wait(alive: list[subprocess.Popen[str]], holds: Any, limit: float, what: str, folder: Path) -> None:
    end = time.monotonic() + limit
    while not holds():
        _complain_if_dead(alive, folder)
        if time.monotonic() > end:
            raise UserError(f"Not within {limit:.0f} s: {what}. {_last_words(folder)}")
        time.sleep(0.1)


def _complain_if_dead(alive: list[subprocess.Popen[str]], folder: Path) -> None:
    if any(p.poll() is not None for p in alive) and _count(folder, "done-*") == 0:
        raise UserError(f"A process of Locust ended by itself. {_last_words(folder)}")


def _last_words(folder: Path) -> str:
    said = []
    for path in sorted(folder.glob("*.stderr")):
        lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if "Error" in line]
        said += [f"{path.stem}: {lines[-1].strip()}"] if lines else []
    return "; ".join(said) or f"See {folder}."


def _publish(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _count(folder: Path, pattern: str) -> int:
    return len(list(folder.glob(pattern)))


def _lines(path: Path) -> int:
    return max(0, path.read_bytes().count(b"\n") - 1)
