"""Load the population through the application's own commands, on one of its hosts.

What a person looks like, how names are normalised and how they are found belong to the application; this only starts
its command where the database is near, shows its progress, and says what came of it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from siasops import remote
from siasops.cluster.view import look
from siasops.errors import UserError
from siasops.inventory import Host, Inventory

DEPARTMENT = 1_023_447
"""Inhabitants of the Moselle in the project's source documents."""
LOAD_DEADLINE_S = 1800.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stats:
    """What the application's database holds."""

    persons: int
    households: int
    documents: int


def _application_host(inventory: Inventory) -> Host:
    """An application host in the primary's room, where writing is nearest; any other when there is none."""
    with remote.connect(inventory) as fleet:
        view = look(inventory, fleet)
    hosts = [h for h in inventory.group("applications") if h.name not in view.silent]
    if not hosts:
        raise UserError("No application host answers; `sias cluster check` says more.")
    leader = view.leader
    room = inventory.host(leader.host).room if leader else ""
    return min(hosts, key=lambda h: h.room != room)


def stats(inventory: Inventory) -> Stats:
    """Count what is loaded.

    Raises:
        UserError: when the application cannot answer.
    """
    host = _application_host(inventory)
    with remote.connect(inventory, [host.name]) as fleet:
        answer = fleet.run(host.name, ["sias-manage", "stats", "--json"], timeout=60)
    if not answer.ok:
        raise UserError(
            f"{host.name}: the application could not count its data: {(answer.stderr or answer.stdout)[-400:]}"
        )
    counted = json.loads(answer.stdout.strip().splitlines()[-1])
    return Stats(counted["persons"], counted["households"], counted["documents"])


def ensure(inventory: Inventory, *, persons: int, seed: int, say: Say) -> Stats:
    """Load a population unless there is one already."""
    present = stats(inventory)
    if present.persons:
        say(f"{present.persons} persons in {present.households} households are there")
        return present
    return load(inventory, persons=persons, seed=seed, replace=False, say=say)


def load(inventory: Inventory, *, persons: int, seed: int, replace: bool, say: Say) -> Stats:
    """Make and load a population.

    Args:
        inventory: the environment.
        persons: how many; households follow from it.
        seed: the same seed gives the same persons.
        replace: first remove those that are there.
        say: told each step with how far it is.

    Raises:
        UserError: with the application's own sentence when it refuses or fails; what was there before stays.
    """
    host = _application_host(inventory)
    words = ["sias-manage", "load_population", "--persons", str(persons), "--seed", str(seed), "--progress", "json"]
    if replace:
        words.append("--replace")
    said = ""
    for line in _stream(inventory, host, words):
        try:
            step = json.loads(line)
        except ValueError:
            said = line or said
            continue
        if "error" in step:
            raise UserError(
                f"{host.name}: the population was not loaded: {said or 'no reason was given'} ({step['error']})"
            )
        if "phase" in step:
            say(f"{step['phase']}: {step['done']} of {step['total']} ({step['elapsed']:.0f} s)")
    return stats(inventory)


def _stream(inventory: Inventory, host: Host, words: list[str]) -> Iterator[str]:
    command = ["timeout", str(int(LOAD_DEADLINE_S)), "ssh", "-o", "BatchMode=yes"]
    if inventory.is_lab:
        command += ["-F", str(inventory.state / "ssh_config")]
    command += [host.name if inventory.is_lab else host.address, "sudo", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        assert run.stdout is not None  # noqa: S101 - asked for above
        for line in run.stdout:
            yield line.strip()
        code = run.wait()
    if code != 0:
        yield json.dumps({"error": f"{' '.join(words[:2])} ended with exit code {code}; it can be run again"})
