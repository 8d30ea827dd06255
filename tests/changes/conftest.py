"""What the tests of whole changes share: commands run as people run them, and a lab of the versions that they begin with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from siasops import remote
from siasops.change import state as states
from siasops.cluster import instance
from siasops.cluster.view import look
from siasops.errors import COULD_NOT_RUN, HELD, VERDICT_FAILED, UserError
from siasops.inventory import ROOT, Inventory
from siasops.migrate.procedure import FINDINGS
from siasops.remote import Fleet
from siasops.upgrade import hosts

BORNE = {
    ("dictionaries:index", "buffers"): "17 sorts a small table by its index: more pages of memory, and no slower",
    ("controle:alerts", "buffers"): "17 may look up the files that were read instead of reading a small table whole",
}
"""Findings of the plan gate on a lab that are borne: by endpoint and rule, with the reason."""
RUN_LIMIT = 1800.0
"""Seconds for one command."""


def sias(*words: str, code: int = HELD) -> Any:
    """Run a command as people do; its progress goes to the terminal."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "sias"), *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == code, f"sias {' '.join(words)}: exit code {done.returncode}\n{done.stdout[-6000:]}"
    return json.loads(done.stdout) if "--json" in words else done.stdout


def change(*words: str, may_stop: bool = False) -> Any:
    """Make a whole change; what users felt is judged by who calls, when everything has been tried.

    Returns:
        What it said; None when it stopped half-way and may.
    """
    command = [str(Path(sys.executable).parent / "sias"), *words, "--yes", "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if may_stop and done.returncode == COULD_NOT_RUN:
        return None
    assert done.returncode in {HELD, VERDICT_FAILED}, f"exit code {done.returncode}\n{done.stdout[-6000:]}"
    return json.loads(done.stdout)


class Begun:
    """A command as a process of its own, which may be stopped or killed.

    Args:
        folder: where it writes what it says.
        words: the command; it asks nothing.
    """

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = folder / f"{len(list(folder.glob('*.log')))}.log"
        command = [str(Path(sys.executable).parent / "sias"), *words, "--yes"]
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)

    def until(self, seen: Callable[[], bool]) -> bool:
        """Whether it was seen before the command ended."""
        end = time.monotonic() + RUN_LIMIT
        while not seen():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)
        return True

    def says(self, words: str) -> bool:
        """Whether it has said something so far: the title of a phase that it has come to."""
        return words in self.said()

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C does."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> int:
        """Wait for its end.

        Returns:
            Its exit code.
        """
        return self.process.wait(RUN_LIMIT)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def bear(inventory: Inventory) -> bool:
    """Accept what the plan gate found when it is known to be no harm.

    Returns:
        Whether it had found something.
    """
    state = states.unfinished(inventory)
    assert state is not None, "it could not begin"
    path = state.folder / FINDINGS
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for one in found:
        key = one["query"].split(" ")[0], one["rule"]
        assert key in BORNE, one
        sias("migrate", "postgres", "accept", one["query"], one["rule"], "--reason", BORNE[key])
    return bool(found)


def to_17(inventory: Inventory) -> Any:
    """Take PostgreSQL to 17 as somebody does who reads what the plan gate says, and bears what is known to be no harm."""
    migrated = change("migrate", "postgres", "run", may_stop=True)
    if migrated is not None:
        return migrated
    assert bear(inventory), "the plan gate was not what stopped it"
    return change("migrate", "postgres", "run")


def debians(inventory: Inventory, fleet: Fleet) -> set[str]:
    """Which Debians run."""
    return {found.debian if found else "silent" for found in hosts.states(fleet, inventory.hosts).values()}


def majors(inventory: Inventory, fleet: Fleet) -> set[str]:
    """Which major versions of PostgreSQL serve."""
    return {member.version.split(".")[0] for member in look(inventory, fleet).members}


def _amiss(inventory: Inventory, debian: str, postgresql: str) -> str:
    """What keeps this from being a lab of these versions, with nothing beside and no change half-way; empty when nothing does."""
    try:
        if (half := states.unfinished(inventory)) is not None:
            return f"{half.id} stands half-way"
        with remote.connect(inventory) as fleet:
            fleet.rebuilt(inventory.hosts)  # since this process last looked
            if (found := debians(inventory, fleet)) != {debian}:
                return f"Debian {found}"
            if (beside := instance.learn(inventory, fleet).beside) is not None:
                return f"{beside} stands beside"
            if (found := majors(inventory, fleet)) != {postgresql}:
                return f"PostgreSQL {found}"
    except UserError as error:
        return str(error)
    return ""


@pytest.fixture
def lab_of(inventory: Inventory) -> Iterator[Callable[[str, str], Fleet]]:
    """Makes a lab of a Debian and a PostgreSQL, from nothing where another one stands; its repositories are proven to restore."""
    assert inventory.is_lab, "only in a lab"
    opened: list[Fleet] = []

    def make(debian: str, postgresql: str) -> Fleet:
        if _amiss(inventory, debian, postgresql):
            sias("lab", "destroy", "--yes")
        sias("lab", "up", "--debian", debian, "--postgresql", postgresql)
        if persons := os.environ.get("PERSONS"):
            sias("data", "load", "--persons", persons, "--replace")
        amiss = _amiss(inventory, debian, postgresql)
        assert not amiss, amiss
        for letter in inventory.rooms:
            host = inventory.group("databases", room=letter)[0].name
            sias("backup", "restore", "--room", letter, "--to-latest", "--on", host)
        opened.append(Fleet(inventory))
        return opened[0]

    yield make
    for fleet in opened:
        fleet.close()


def told(inventory: Inventory, what: str, outcome: dict[str, Any], part: Callable[[str], str]) -> str:
    """Describe a change in lines: what its parts took, a phase belonging to what `part` makes of its key, and what users felt."""
    state = next(s for s in states.every(inventory) if s.id == outcome["change"])
    totals: dict[str, float] = {}
    for key in state.done:  # `seconds` also knows the phases of a way that was turned back from
        totals[part(key)] = totals.get(part(key), 0.0) + state.seconds[key]
    shares = ", ".join(f"{name} {took:.0f} s" for name, took in totals.items())
    lines = [f"\n{what}: {sum(totals.values()):.0f} s in all; {shares}"]
    journal = [json.loads(line) for line in (state.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()]
    lines += [f"  cutover: {line['seconds']} s; {line['steps']}" for line in journal if line.get("event") == "cutover"]
    for promise in outcome["felt"]["promises"] if outcome["felt"] else []:
        lines.append(f"  {'held    ' if promise['held'] else 'not held'}  {promise['what']}: {promise['found']}")
    return "\n".join(lines)
