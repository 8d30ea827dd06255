#!/usr/bin/python
"""Bring several systemd units to run, to start at boot, and to run on the files that stand there now.

A task costs about a second on a busy two-core machine; a loop over units costs it for each. And a handler is lost when
a play is interrupted between the file and the handler: the next run sees nothing to change, and the service goes on
with what it read before. This module asks the machine instead: a unit that was started or reloaded before one of its
files was written is brought to read it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: sias_units
short_description: Bring several systemd units to run on the files that stand there now
description:
  - Each unit is enabled and started when it is not, and brought to read its files when one of them is newer than its
    last start or reload. Check mode is supported.
options:
  units:
    description: The units, in the order in which they start.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name with its suffix., type: str, required: true}
      restart_on: {description: Files that a restart is needed for; the unit's own file is one of them., type: list,
                   elements: path, default: []}
      reload_on: {description: Files that the unit reads again when reloaded., type: list, elements: path, default: []}
author: SIAS
"""

EXAMPLES = r"""
- name: Run the thing on its configuration
  sias_units:
    units:
      - {name: thing.service, restart_on: [/etc/systemd/system/thing.service], reload_on: [/etc/thing.conf]}
"""

RETURN = r"""
did:
  description: What was done, such as "restart thing.service".
  type: list
  returned: always
"""

STAMPS = Path("/run/sias-units")
"""A file per unit whose time is that of the last reload; a reboot forgets it, and starts the unit later than that."""

PROPERTIES = ("Id", "LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "ActiveEnterTimestampMonotonic")


def parse(text: str) -> dict[str, dict[str, str]]:
    """Read the output of `systemctl show`: blocks of key=value, one per unit."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def newest(paths: list[str]) -> float:
    """When the youngest of these files was written (seconds since 1970), 0 when none exists."""
    return max((Path(path).stat().st_mtime for path in paths if Path(path).exists()), default=0.0)


def started_at(state: dict[str, str], *, wall: float, monotonic: float) -> float:
    """When a unit entered its present state, seconds since 1970."""
    return wall - (monotonic - int(state["ActiveEnterTimestampMonotonic"]) / 1e6)


def needed(unit: dict[str, Any], state: dict[str, str], *, since: float, read: float) -> list[str]:
    """The verbs of systemctl that a unit needs; `since` it runs, and it has `read` its files last at that time."""
    verbs = [] if state["UnitFileState"] in {"enabled", "static", "generated", "alias"} else ["enable"]
    # One that is activating may be waiting to be restarted after a crash: it reads its files when it starts.
    if state["ActiveState"] not in {"active", "reloading"}:
        return [*verbs, "start"]
    if newest(unit["restart_on"]) > since:
        return [*verbs, "restart"]
    if newest(unit["reload_on"]) > max(since, read):
        return [*verbs, "reload"]
    return verbs


def main() -> None:
    """Look at all units at once, then do what each needs."""
    options = {
        "name": {"type": "str", "required": True},
        "restart_on": {"type": "list", "elements": "path", "default": []},
        "reload_on": {"type": "list", "elements": "path", "default": []},
    }
    module = AnsibleModule(
        argument_spec={"units": {"type": "list", "elements": "dict", "required": True, "options": options}},
        supports_check_mode=True,
    )

    def systemctl(*words: str) -> str:
        code, out, err = module.run_command(["systemctl", *words])
        if code != 0:
            module.fail_json(msg=f"systemctl {' '.join(words)}: {(err or out).strip()}")
        return str(out)

    units: list[dict[str, Any]] = module.params["units"]
    names = [unit["name"] for unit in units]
    show = ("show", "--property", ",".join(PROPERTIES), *names)
    states = parse(systemctl(*show))
    did: list[str] = []
    if any(state["NeedDaemonReload"] == "yes" for state in states.values()) and not module.check_mode:
        systemctl("daemon-reload")
        states = parse(systemctl(*show))
    for unit in units:
        name = unit["name"]
        state = states.get(name)
        if state is None or state["LoadState"] != "loaded":
            if module.check_mode:
                did.append(f"start {name}")
            else:
                module.fail_json(msg=f"{name}: there is no such unit on this host")
            continue
        stamp = STAMPS / name
        since = started_at(state, wall=time.time(), monotonic=time.clock_gettime(time.CLOCK_MONOTONIC))
        for verb in needed(unit, state, since=since, read=newest([str(stamp)])):
            did.append(f"{verb} {name}")
            if not module.check_mode:
                if verb == "reload":
                    # Before the reload: a file that is written while the unit reads counts as unread.
                    STAMPS.mkdir(exist_ok=True)
                    stamp.touch()
                systemctl(verb, name)
    module.exit_json(changed=bool(did), did=did)


if __name__ == "__main__":
    main()
