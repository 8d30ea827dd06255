"""The protocol of a drill.

preflight, baseline, inject, hold, heal, converge, final read on every node, check, report. Whatever happens after the
fault has started, it is healed; a fresh process heals with `sias drill heal` when this one dies.
"""

from __future__ import annotations

import csv
import io
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from siasops import remote
from siasops.cluster.check import Line, check, healthy
from siasops.cluster.view import View, look
from siasops.console import Progress
from siasops.drill import active, registry, report
from siasops.drill.active import Active
from siasops.drill.faults import Fault, Plan, Stage
from siasops.drill.history import Final, History, LedgerRow, load
from siasops.drill.observer import Observer
from siasops.drill.verdict import Moments, Result, judge
from siasops.drill.workers import HTTP_RATES, Workers
from siasops.errors import UserError
from siasops.inventory import Inventory

BASELINE = 3.0
"""Seconds of undisturbed load before the fault, once every way works."""
READY_LIMIT = 30.0
CONVERGE_LIMIT = 180.0
"""Seconds, after healing, for everything to be as before."""
LOOK_EVERY = 2.0
"""Seconds between two looks at everything meanwhile: a look starts some fifty processes on the hosts, which a lab feels."""
AFTERMATH = 2.0
"""Seconds of load after convergence: the platform must also go on."""
CATCH_UP_LIMIT = 30.0
LOOK_AGAIN = 2.0
"""Seconds after the fault from which the observer's looks count: Patroni takes a moment to know that it is wounded."""
SAY_EVERY = 5.0
PHASES = 8

FINAL = (
    "SELECT 'ledger', row_number, client, sequence, attempt, previous, hash FROM drill.ledger WHERE run = '{run}'"
    " ORDER BY client, sequence, row_number",
    "SELECT 'account', id, balance FROM drill.account",
    "SELECT 'transfer', id FROM drill.transfer WHERE run = '{run}'",
    "SELECT 'claim', key, client, number FROM drill.claim WHERE run = '{run}'",
    "SELECT 'probe', node, number FROM drill.probe WHERE run = '{run}'",
)
"""What is read back from every database host; the first word says which table a line is of."""


class Journal:
    """What the drill did, one JSON line each, on the disk before it goes on."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def note(self, event: str, **fields: Any) -> float:
        """Write a line; returns the monotonic clock."""
        now = time.monotonic()
        record = {"t": now, "at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        self._file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
        self._file.flush()
        return now

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def session(inventory: Inventory) -> Iterator[Stage]:
    """Be the only one who drills here for the block, connected to every host; SIGTERM heals like Ctrl-C.

    Raises:
        UserError: drills are refused here, or another one runs.
    """
    if not inventory.drills_allowed:
        raise UserError(
            f"Drills are refused in {inventory.environment}: they break things on purpose. "
            "Its inventory says sias_drills_allowed: false; use a lab."
        )
    with active.only_one(inventory), interruptible(), remote.connect(inventory) as fleet:
        yield Stage(inventory, fleet)


def run(inventory: Inventory, name: str, *, progress: Progress | None = None) -> Result:
    """Run a drill from preflight to report, in a session of its own; see `once`."""
    fault = registry.find(name)
    with session(inventory) as stage:
        return once(stage, fault, progress or Progress())


def once(stage: Stage, fault: Fault, progress: Progress) -> Result:
    """Run a drill from preflight to report.

    Args:
        stage: an open session.
        fault: what breaks.
        progress: told every phase, on standard error.

    Returns:
        The verdict and its figures; the report stands under var/drills/<run>/.

    Raises:
        UserError: the drill could not run (not able here, cluster not healthy, workload died); everything is healed.
    """
    inventory = stage.inventory
    progress.total, progress.done = PHASES, 0
    begin = time.monotonic()
    with progress.step(f"Preflight: {fault.name}, {fault.title}"):
        plan = _preflight(stage, fault)
        progress.say(fault.describe(plan))
    run_name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{fault.name}"
    folder = active.folder(inventory) / run_name
    folder.mkdir()
    journal = Journal(folder / "journal.jsonl")
    journal.note("planned", name=fault.name, environment=inventory.environment, plan=plan, story=fault.describe(plan))
    act = Run(stage, fault, plan, folder=folder, journal=journal, progress=progress)
    try:
        result = act.execute()
        result.seconds = time.monotonic() - begin
        journal.note("verdict", **_summary(result))
        report.write(folder, result, act.history(), act.observer.sights)
    except BaseException as error:
        journal.note("ended without a verdict", why=f"{type(error).__name__}: {error}")
        if isinstance(error, KeyboardInterrupt):
            progress.say("interrupted: the fault is healed; waiting until everything is as before")
            converge(stage, progress)
        raise
    finally:
        journal.close()
    return result


def heal(inventory: Inventory, progress: Progress) -> str:
    """Heal what an interrupted drill left behind, and wait until the cluster is healthy; see `heal_on`."""
    with active.only_one(inventory), remote.connect(inventory) as fleet:
        return heal_on(Stage(inventory, fleet), progress)


def heal_on(stage: Stage, progress: Progress) -> str:
    """Heal what an interrupted drill left behind, and wait until the cluster is healthy.

    Returns:
        A sentence: what was healed.

    Raises:
        UserError: it does not converge, or a drill runs right now.
    """
    inventory = stage.inventory
    left = active.read(inventory)
    if left is not None:
        if left.environment != inventory.environment:
            raise UserError(
                f"The fault in force is in {left.environment}, not in {inventory.environment}: "
                f"`sias -i {left.environment} drill heal`."
            )
        fault = registry.find(left.name)
        with progress.step(f"Heal: {fault.describe(left.plan)}"):
            fault.heal(stage, left.plan)
    with progress.step("Wait until everything is as before"):
        converge(stage, progress)
    active.clear(inventory)
    return f"Healed: {left.name} of {left.run}." if left else "No fault was in force; the cluster is healthy."


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C for the block, so that both heal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C for the block: a second one must not stop the healing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _preflight(stage: Stage, fault: Fault) -> Plan:
    left = active.read(stage.inventory)
    if left is not None:
        raise UserError(f"A fault is still in force ({left.name} of {left.run}): run `sias drill heal` first.")
    unable = fault.unable(stage)
    if unable:
        raise UserError(f"{fault.name} cannot be done here: {unable}.")
    view = look(stage.inventory, stage.fleet)
    wrong = [line for line in check(view) if not line.ok]
    if wrong:
        raise UserError(
            "The cluster is not healthy, so a drill would prove nothing: "
            + "; ".join(f"{line.what}: {line.found}" for line in wrong)
            + ". See `sias cluster check`."
        )
    return fault.plan(stage, view)


class Run:
    """One drill under way."""

    def __init__(
        self, stage: Stage, fault: Fault, plan: Plan, *, folder: Path, journal: Journal, progress: Progress
    ) -> None:
        self.stage = stage
        self.fault = fault
        self.plan = plan
        self.folder = folder
        self.journal = journal
        self.progress = progress
        self.story = fault.describe(plan)
        self.workers = Workers(stage.inventory, folder.name, folder)
        self.observer = Observer(stage.inventory)
        self.at: dict[str, float] = {}

    def execute(self) -> Result:
        """Go through the phases.

        Raises:
            UserError: the drill could not be carried through; the fault is healed.
        """
        try:
            with self._healed():
                self.fault.prepare(self.stage, self.plan)
                self._baseline()
                self._inject()
                self._hold()
            documents_back = self._converge()
        finally:
            with undisturbed():
                self.observer.stop()
                killed = self.workers.stop()
        if killed:
            raise UserError(
                f"The workload {', '.join(killed)} did not end when asked; its log may lack its last lines."
            )
        with self.progress.step("Read every node back"):
            ledgers, finals = read_nodes(self.stage, self.folder.name, self.progress)
        with self.progress.step("Check"):
            return self._judge(ledgers, finals, documents_back)

    def history(self) -> History:
        """Return what the workloads logged, nodes by name."""
        names = {h.address: h.name for h in self.stage.inventory.hosts.values()}
        return load(self.folder, names)

    def _baseline(self) -> None:
        with self.progress.step(f"Baseline: {BASELINE:.0f} s of load from outside both rooms"):
            self.workers.start()
            self.workers.wait_ready(READY_LIMIT)
            calm = self.workers.wait_calm(self.progress.say)
            self.at["baseline"] = self.journal.note("baseline", calm=calm)
            self._load_for(BASELINE)

    @contextmanager
    def _healed(self) -> Iterator[None]:
        """Heal after the block whatever happens; the fault is known on disk before anything is touched."""
        inventory = self.stage.inventory
        active.record(inventory, Active(inventory.environment, self.fault.name, self.plan, self.folder.name))
        try:
            yield
        finally:
            with undisturbed(), self.progress.step("Heal"):
                self.at["healed"] = self.journal.note("heal starts")
                self.fault.heal(self.stage, self.plan)
                self.journal.note("healed")
                active.clear(inventory)

    def _inject(self) -> None:
        with self.progress.step(f"Inject: {self.story}"):
            self.at["fault"] = self.journal.note("fault starts", plan=self.plan)
            self.fault.start(self.stage, self.plan)
            self.at["started"] = self.journal.note("fault started")

    def _hold(self) -> None:
        """Hold until every user is served again, a few seconds more, and long enough for anything to notice."""
        fault, begin = self.fault, self.at["fault"]
        until = "nobody may write" if fault.stops_writes else "users are served again"
        with self.progress.step(f"Hold until {until}, {fault.least:.0f} to {fault.most:.0f} s"):
            spoken = time.monotonic()
            while True:
                said = self.workers.look()
                waiting = [] if fault.stops_writes else self.workers.waiting(begin)
                lasted = time.monotonic() - begin
                if (lasted >= fault.least and not waiting) or lasted >= fault.most:
                    break
                if time.monotonic() - spoken >= SAY_EVERY:
                    spoken = time.monotonic()
                    self.progress.say(f"{said}{'; waiting: ' + ', '.join(waiting) if waiting else ''}")
                time.sleep(0.25)
            self.journal.note("held", seconds=lasted, waiting=waiting)

    def _converge(self) -> float:
        with self.progress.step("Converge: every copy back, every service in its room"):
            documents_back = converge(self.stage, self.progress, lambda: self.progress.say(self.workers.look()))
            self.at["converged"] = self.journal.note("converged")
            self._load_for(AFTERMATH)
            self.at["end"] = self.journal.note("load ends")
        return documents_back

    def _judge(self, ledgers: dict[str, list[LedgerRow]], finals: dict[str, Final], documents_back: float) -> Result:
        for sight in self.observer.sights:
            self.journal.note("sight", **asdict(sight))
        inventory = self.stage.inventory
        return judge(
            Result(
                self.fault.name,
                self.folder.name,
                inventory.environment,
                self.plan,
                self.story,
                Moments(
                    **self.at,
                    copies_back=self.observer.redundant_since(self.at["fault"] + LOOK_AGAIN),
                    documents_back=documents_back if self.fault.takes_copies else None,
                ),
            ),
            self.history(),
            ledgers,
            finals,
            fault=self.fault,
            expected_nodes=[h.name for h in inventory.group("databases")],
            rooms=list(inventory.rooms),
            rates=HTTP_RATES,
            objectives=inventory.objectives,
            limits=inventory.objectives["drills"][self.fault.name.replace("-", "_")],
        )

    def _load_for(self, seconds: float) -> None:
        """Let the load run; say every few seconds how it fares."""
        end = time.monotonic() + seconds
        spoken = time.monotonic()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(0.5, left))
            if time.monotonic() - spoken >= SAY_EVERY:
                spoken = time.monotonic()
                self.progress.say(self.workers.look())


def converge(stage: Stage, progress: Progress, tell: Callable[[], None] = lambda: None) -> float:
    """Wait until every check holds; returns when documents were seen complete.

    Raises:
        UserError: not within the limit; says what is still wrong.
    """
    end = time.monotonic() + CONVERGE_LIMIT
    said: set[str] = set()
    spoken = 0.0
    documents: float | None = None
    while True:
        view = look(stage.inventory, stage.fleet)
        lines = check(view)
        documents = _documents_complete(view, documents)
        if healthy(lines) and documents is not None:
            return documents
        wrong = [line for line in lines if not line.ok]
        now = {line.what for line in wrong}
        if now != said or time.monotonic() - spoken > 2 * SAY_EVERY:
            said, spoken = now, time.monotonic()
            progress.say(_sentence(wrong))
            tell()
        if time.monotonic() > end:
            raise UserError(
                f"Not as before within {CONVERGE_LIMIT:.0f} s of healing: {_sentence(wrong)}. See `sias cluster check`."
            )
        time.sleep(LOOK_EVERY)


def _documents_complete(view: View, since: float | None) -> float | None:
    complete = all(b.serves and b.pending == 0 for b in view.bricks)
    return (since if since is not None else time.monotonic()) if complete else None


def _sentence(wrong: list[Line]) -> str:
    shown = "; ".join(f"{line.what}: {line.found}" for line in wrong[:3])
    return f"not yet: {shown}" + (f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else "")  # noqa: PLR2004 - a line


def _psql(*statements: str, sequential: bool = False) -> list[str]:
    # By the heap and not by an index: an index that lost its way would hide a duplicate.
    options = "-c enable_indexscan=off -c enable_bitmapscan=off -c enable_indexonlyscan=off" if sequential else ""
    return [
        "runuser", "-u", "postgres", "--", "env", f"PGOPTIONS={options}",
        "psql", "-X", "-A", "-t", "-q", "-F", ",", "-v", "ON_ERROR_STOP=1", "-d", "sias",
        *(word for sql in statements for word in ("-c", sql)),
    ]  # fmt: skip


def read_nodes(
    stage: Stage, run_name: str, progress: Progress | None = None
) -> tuple[dict[str, list[LedgerRow]], dict[str, Final]]:
    """Read what a run's workloads wrote on every database host, once each has replayed what the primary has written.

    A node that cannot be read is left out; the checker says so.

    Raises:
        UserError: there is no primary to compare with.
    """
    hosts = [h.name for h in stage.inventory.group("databases")]
    recovering = stage.fleet.run_all(_psql("SELECT pg_is_in_recovery()"), hosts=hosts)
    primaries = [name for name, r in recovering.items() if r.ok and r.stdout.strip() == "f"]
    if len(primaries) != 1:
        raise UserError(f"{len(primaries)} primaries answer after the run ({', '.join(primaries)}); there must be one.")
    position = stage.fleet.run(primaries[0], _psql("SELECT pg_current_wal_lsn()"), check=True).stdout.strip()
    for name in (h for h in hosts if h != primaries[0]):
        question = _psql(f"SELECT pg_last_wal_replay_lsn() >= '{position}'")
        remote.wait_until(
            lambda name=name, question=question: stage.fleet.run(name, question).stdout.strip() == "t",  # type: ignore[misc]
            f"{name} replays up to {position}",
            deadline=CATCH_UP_LIMIT,
        )
    questions = [sql.format(run=run_name) for sql in FINAL]
    answers = stage.fleet.run_all(_psql(*questions, sequential=True), hosts=hosts, timeout=60.0)
    lines = {name: list(csv.reader(io.StringIO(answer.stdout))) for name, answer in answers.items() if answer.ok}
    ledgers = {name: parse_rows(said) for name, said in lines.items()}
    if progress:
        progress.say(", ".join(f"{name}: {len(rows)} rows" for name, rows in ledgers.items()))
    return ledgers, {name: parse_final(said) for name, said in lines.items()}


def parse_rows(lines: list[list[str]]) -> list[LedgerRow]:
    """Take the ledger's rows from the answers to the final queries."""
    return [
        LedgerRow(int(row), int(client), int(sequence), int(attempt), previous, digest)
        for _, row, client, sequence, attempt, previous, digest in (x for x in lines if x[0] == "ledger")
    ]


def parse_final(lines: list[list[str]]) -> Final:
    """Take what the other workloads wrote."""
    of: dict[str, list[list[str]]] = {table: [] for table in ("ledger", "account", "transfer", "claim", "probe")}
    for table, *values in lines:
        of[table].append(values)
    return Final(
        balances={int(account): int(balance) for account, balance in of["account"]},
        transfers=frozenset(name for (name,) in of["transfer"]),
        claims={key: (int(client), int(number)) for key, client, number in of["claim"]},
        probes=frozenset((node, int(number)) for node, number in of["probe"]),
    )


def _summary(result: Result) -> dict[str, Any]:
    return {
        "verdict": result.verdict,
        "promises": [asdict(p) for p in result.promises],
        "findings": [asdict(f) for f in result.findings],
        "figures": result.figures,
    }
