"""Run a playbook with progress that people can follow: plays and elapsed time here, every word in a log."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ansible_mitogen

from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory

# Mitogen keeps one Python per host instead of starting one per task: 17 tasks on five hosts took 16 s instead of 59 on
# two busy cores. Without these variables (ansible-playbook by hand) the same playbooks run with Ansible's own strategy.
# ansible-core 2.19 announces the end of foreign strategies at every run, which is noise here: both are pinned.
FAST = {
    "ANSIBLE_STRATEGY": "mitogen_linear",
    "ANSIBLE_STRATEGY_PLUGINS": str(Path(ansible_mitogen.__file__).parent / "plugins" / "strategy"),
    "ANSIBLE_DEPRECATION_WARNINGS": "false",
}

_RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)"
    r"\s+failed=(?P<failed>\d+)"
)
_NO_ANSWER = re.compile(r"ssh: connect to host (?P<address>\S+) port \d+: (?P<why>.+)")


@dataclass(frozen=True)
class Recap:
    """Tasks of one host: how many did something, how many failed."""

    host: str
    ok: int
    changed: int
    unreachable: int
    failed: int


def playbook(
    inventory: Inventory,
    name: str,
    *,
    say: Callable[[str], None],
    arguments: tuple[str, ...] = (),
    timeout: float = 3600,
) -> list[Recap]:
    """Run `playbooks/<name>.yml` on the environment.

    Args:
        inventory: the environment.
        name: the playbook, without folder and ending.
        say: told each play's name, and what failed.
        arguments: more of ansible-playbook's own arguments.
        timeout: seconds after which the run is ended.

    Returns:
        What ansible's own recap says of each host.

    Raises:
        UserError: when a task fails; carries the task, the host and what it said, and first of all who did not answer.
    """
    log = inventory.state / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["timeout", str(int(timeout)), str(Path(sys.executable).parent / "ansible-playbook"), "-i",
               str(inventory.path), f"playbooks/{name}.yml", *arguments]  # fmt: skip
    environment = os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "PYTHONUNBUFFERED": "1"} | FAST
    recaps: list[Recap] = []
    task = ""
    failure: deque[str] = deque(maxlen=40)
    failing = False
    silent: dict[str, str] = {}
    names = {host.address: host.name for host in inventory.hosts.values()}
    with (
        log.open("w", encoding="utf-8") as journal,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as run,
    ):
        assert run.stdout is not None  # noqa: S101 - asked for above
        for line in run.stdout:
            journal.write(line)
            journal.flush()
            if line.startswith("PLAY ["):
                say(line[6:].rstrip("* \n").rstrip("]"))
            elif line.startswith("TASK ["):
                task, failing = line[6:].rstrip("* \n").rstrip("]"), False
            elif line.startswith(("fatal:", "[ERROR]", "ERROR!")):
                failing = True
                failure.append(f"task “{task}”")
            elif line.startswith(("ok:", "changed:", "skipping:", "NO MORE HOSTS")):
                failing = False
            elif match := _RECAP.match(line):
                values = match.groupdict()
                recaps.append(
                    Recap(values["host"], *(int(values[k]) for k in ("ok", "changed", "unreachable", "failed")))
                )
            if failing:
                failure.append(line.rstrip())
            if match := _NO_ANSWER.search(line):
                silent[names.get(match["address"], match["address"])] = match["why"].strip()
        code = run.wait()
    if code != 0:
        told = "\n".join(failure) or "see the log"
        who = "; ".join(f"{host} did not answer ssh ({why})" for host, why in silent.items())
        raise UserError(
            f"playbooks/{name}.yml stopped (exit {code}){f': {who}' if who else ''}. It can be run again as it is."
            f" The whole log: {log}\n{told}"
        )
    return recaps
