#!/usr/bin/env python3
"""Backups of this room's repository, on the repository host, as the system user postgres.

    sias-backup take --type full|diff|incr    one backup, from a standby; from the primary when no standby is left
    sias-backup stanza [--check]              the stanza, made where it is missing; tells how many backups there are
    sias-backup first                         check that archiving works, and take the first full backup

Prints one JSON object. Exit 1 with one sentence on standard error when it cannot. Timers and the deployment call it; an
operator uses `sias backup` from the controller, which calls it too.
"""

from __future__ import annotations

import argparse
import configparser
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/pgbackrest.conf")
LOCKED = 50
"""pgBackRest's exit code when another of its commands holds the lock."""
NO_STANDBY = "unable to find standby"
BUSY = ("pgbackrest advisory lock", "is another pgBackRest process running")
RETRY_EVERY = 5.0
"""Seconds between two tries while the other room's backup runs."""


class BackupError(Exception):
    """What went wrong, in a sentence for the operator."""


def stanza() -> str:
    """Name the cluster that this host's configuration speaks of."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(CONFIG, encoding="utf-8")
    for section in parser.sections():
        if not section.startswith("global"):
            return section
    raise BackupError(f"{CONFIG} names no stanza")


def pgbackrest(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pgBackRest once."""
    return subprocess.run(["pgbackrest", *arguments], capture_output=True, text=True, check=False)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Pick what pgBackRest said of its failure."""
    lines = (done.stdout + done.stderr).splitlines()
    errors = [line.strip() for line in lines if "ERROR" in line] or [line.strip() for line in lines[-3:]]
    return " ".join(errors) or f"exit code {done.returncode}"


def patiently(deadline: float, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pgBackRest, and wait while the other room's repository holds the cluster's lock.

    Raises:
        BackupError: it fails for another reason, or the lock is not given back in time.
    """
    end = time.monotonic() + deadline
    while True:
        done = pgbackrest(*arguments)
        if done.returncode == 0:
            return done
        said = complaint(done)
        busy = done.returncode == LOCKED or any(sign in said for sign in BUSY)
        if not busy or time.monotonic() > end:
            raise BackupError(f"pgbackrest {arguments[-1]}: {said}")
        time.sleep(RETRY_EVERY)


def info(name: str) -> dict[str, Any]:
    """Ask what the repository holds of the stanza."""
    done = pgbackrest(f"--stanza={name}", "--output=json", "info")
    if done.returncode != 0:
        raise BackupError(f"pgbackrest info: {complaint(done)}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found[0] if found else {"name": name, "backup": [], "status": {"code": 1, "message": "missing stanza path"}}


def take(name: str, kind: str, deadline: float) -> dict[str, Any]:
    """Take one backup, and tell about it."""
    started = time.monotonic()
    from_standby = True
    try:
        patiently(deadline, f"--stanza={name}", f"--type={kind}", "backup")
    except BackupError as error:
        if NO_STANDBY not in str(error):
            raise
        # A room is down: a backup of the primary is better than none.
        from_standby = False
        print("no standby can be read: the backup is taken from the primary", file=sys.stderr)
        patiently(deadline, f"--stanza={name}", f"--type={kind}", "--no-backup-standby", "backup")
    newest = info(name)["backup"][-1]
    return {
        "changed": True,
        "label": newest["label"],
        "type": newest["type"],
        "seconds": round(time.monotonic() - started, 1),
        "size": newest["info"]["size"],
        "repository_size": newest["info"]["repository"]["delta"],
        "from_standby": from_standby,
    }


def stanza_create(name: str, deadline: float, *, check: bool) -> dict[str, Any]:
    """Make the stanza where it is missing, and tell how many backups there are."""
    state = info(name)
    missing = not state.get("db")
    if missing and not check:
        patiently(deadline, f"--stanza={name}", "stanza-create")
    return {"changed": missing, "backups": len(state["backup"])}


def first(name: str, deadline: float) -> dict[str, Any]:
    """Take the first full backup; archiving must work before a backup is worth anything."""
    patiently(deadline, f"--stanza={name}", "check")
    return take(name, "full", deadline)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Backups of this room's repository.")
    commands = parser.add_subparsers(dest="command", required=True)
    taking = commands.add_parser("take", help="one backup")
    taking.add_argument("--type", choices=["full", "diff", "incr"], default="incr")
    making = commands.add_parser("stanza", help="make the stanza where it is missing")
    making.add_argument("--check", action="store_true", help="change nothing")
    beginning = commands.add_parser("first", help="check archiving, and take the first full backup")
    for command in (taking, making, beginning):
        command.add_argument(
            "--deadline", type=float, default=1800.0, help="seconds to wait for the other room's backup"
        )
    given = parser.parse_args()
    try:
        name = stanza()
        if given.command == "take":
            result = take(name, given.type, given.deadline)
        elif given.command == "stanza":
            result = stanza_create(name, given.deadline, check=given.check)
        else:
            result = first(name, given.deadline)
    except (BackupError, OSError) as error:
        print(str(error), file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
