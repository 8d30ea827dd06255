"""Signals to processes: SIGKILL ends them without a word, SIGSTOP makes them hold on to everything and answer nothing."""

from __future__ import annotations

import abc
from typing import ClassVar

from siasops.cluster import instance
from siasops.cluster.view import View
from siasops.drill.faults import Fault, Plan, Stage
from siasops.errors import UserError

POSTMASTER = "set -e; pid=$(head -n 1 {data}/postmaster.pid); grep -qx postgres /proc/$pid/comm; echo $pid"
"""Shell line that prints PostgreSQL's first process."""
EVERY_POSTGRES = POSTMASTER + "; pgrep -P $pid"
"""Shell line that prints every process of PostgreSQL."""
WALSENDERS = "pgrep -f '^postgres: .*walsender '"
BRICK = "pgrep -f '[g]lusterfsd .*volfile-id {cluster}[.]'"


def place(line: str, stage: Stage) -> str:
    """Fill in the serving cluster's `{data}` folder and Patroni's `{unit}`, and the platform's `{cluster}`.

    Hosts are asked which one serves: the process that heals may be another than the one that broke.
    """
    serving = instance.learn(stage.inventory, stage.fleet).serving
    filled = line.replace("{cluster}", stage.inventory.cluster).replace("{data}", serving.data)
    return filled.replace("{unit}", serving.unit)


def main_process(unit: str) -> str:
    """Shell line that prints a unit's main process."""
    return f"systemctl show -P MainPID {unit} | grep -vx 0"


def all_processes(unit: str) -> str:
    """Shell line that prints every process of a unit."""
    return (
        f"find /sys/fs/cgroup -path '*/system.slice/{unit}.service/cgroup.procs' -exec cat {{}} + | sort -nu | grep ."
    )


class SignalFault(Fault):
    """A signal to the processes that `find` prints, on each of the victims.

    They are found when it is planned, so that the fault itself is a single kill.
    """

    signal: ClassVar[str] = "KILL"
    find: ClassVar[str]
    """Shell line that prints process numbers; see `place` for what is known to it."""
    unit: ClassVar[str]
    """The unit that must run after healing."""

    @abc.abstractmethod
    def victims(self, stage: Stage, view: View) -> list[str]:
        """Name the hosts."""

    def plan(self, stage: Stage, view: View) -> Plan:
        """Find the processes now."""
        line = place(self.find, stage)
        found = stage.fleet.run_each(dict.fromkeys(self.victims(stage, view), line))
        pids = {host: [int(word) for word in answer.stdout.split()] for host, answer in found.items()}
        empty = [host for host, numbers in pids.items() if not numbers]
        if empty or not pids:
            raise UserError(f"No process to send SIG{self.signal} to on {', '.join(empty) or 'any host'} ({line}).")
        return {"pids": pids}

    def start(self, stage: Stage, plan: Plan) -> None:
        """Send the signal everywhere at once."""
        commands = {host: ["kill", f"-{self.signal}", *map(str, pids)] for host, pids in plan["pids"].items()}
        for answer in stage.fleet.run_each(commands).values():
            # Some of many may have ended by themselves since; none reached is an error.
            if answer.returncode not in {0, 1}:
                raise UserError(f"{answer.host}: the signal could not be sent: {answer.stderr.strip()}")

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Let stopped processes go on; see that the unit runs. What was killed must come back by itself."""
        go_on = "" if self.signal == "KILL" else "kill -CONT {pids} 2>/dev/null; "
        unit = place(self.unit, stage)
        commands: dict[str, str | list[str]] = {
            host: go_on.format(pids=" ".join(map(str, pids))) + f"systemctl start {unit}"
            for host, pids in plan["pids"].items()
        }
        for answer in stage.fleet.run_each(commands, timeout=60.0).values():
            if not answer.ok:
                raise UserError(f"{answer.host}: {unit} does not start: {answer.stderr.strip()}")

    def describe(self, plan: Plan) -> str:
        """See `Fault.describe`."""
        where = " and ".join(f"{host} (process {_some(pids)})" for host, pids in plan["pids"].items())
        return f"{self.title}: {where}"


def _some(pids: list[int]) -> str:
    return f"{pids[0]}" if len(pids) == 1 else f"{pids[0]} and {len(pids) - 1} more"
