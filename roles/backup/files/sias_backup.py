#!/usr/bin/env python3
"""Backups of this room's repository, as the system user postgres: on the repository host, `wal` on a database host too.

    sias-backup take --type full|diff|incr    one backup, from a standby; from the primary when no standby is left
    sias-backup stanza [--check]              the stanza, made where it is missing; tells how many backups there are
    sias-backup first                         check that archiving works, and take the first full backup
    sias-backup wal                           the segments that are missing since the newest full backup
        [--stanza NAME]                       of another cluster than the one that serves

Prints one JSON object. Exit 1 with one sentence on standard error when it cannot. Timers and the deployment call it; an
operator uses `sias backup` from the controller, which calls it too.
"""

from __future__ import annotations

import argparse
import configparser
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/pgbackrest.conf")
LOCKED = 50
"""pgBackRest's exit code when another of its commands holds the lock."""
NO_STANDBY = "unable to find standby"
BUSY = ("pgbackrest advisory lock", "is another pgBackRest process running")
OVERTAKEN = "before standby checkpoint lsn reached"
"""pgBackRest asks the standby for a checkpoint as soon as it has replayed past the backup's first record; where the record of
the primary's checkpoint comes a moment later, the standby takes its former one, and no other comes within a minute. Seen on a
new cluster under load. Nothing was copied yet: another try is another checkpoint."""
RETRY_EVERY = 5.0
"""Seconds between two tries while the other room's backup runs."""


class BackupError(Exception):
    """What went wrong, in a sentence for the operator."""


def stanza() -> str:
    """Name the first cluster that this host's configuration speaks of: the one that serves."""
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
    """Run pgBackRest; again while the other room's repository holds the cluster's lock, or a standby's checkpoint was too early.

    Raises:
        BackupError: it fails for another reason, or for one of these until the deadline.
    """
    end = time.monotonic() + deadline
    while True:
        done = pgbackrest(*arguments)
        if done.returncode == 0:
            return done
        said = complaint(done)
        busy = done.returncode == LOCKED or any(sign in said for sign in (*BUSY, OVERTAKEN))
        if not busy or time.monotonic() > end:
            raise BackupError(f"pgbackrest {arguments[-1]}: {said}")
        if OVERTAKEN in said:
            print(
                f"the standby's checkpoint was too early for the backup, which is tried again: {said}", file=sys.stderr
            )
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


def number(segment: str) -> int:
    """Count segments of 16 MiB from the beginning of the log, whatever the timeline: 256 to a log file."""
    return (int(segment[8:16], 16) << 8) + int(segment[16:24], 16)


def missing(segments: Iterable[str], since: str, upto: str | None = None) -> list[str]:
    """Name the segments that are not there between two that recovery needs.

    A number that any timeline from the first on has counts as there: after a failover the new timeline holds the segment
    in which it began, and the old one ends before it.

    Args:
        segments: names of those that are there.
        since: the first that is needed, as a backup names its start.
        upto: the last that is needed; by default the newest there is. Its timeline does not matter.
    """
    there = {number(name): name[:8] for name in sorted(segments) if name[:8] >= since[:8]}
    last = number(upto) if upto else max(there, default=number(since))
    timeline, found = since[:8], []
    for position in range(number(since), last + 1):
        timeline = there.get(position, timeline)
        if position not in there:
            found.append(f"{timeline}{position >> 8:08X}{position & 0xFF:08X}")
    return found


def wal(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Compare the segments that the repository holds with those that recovery from a backup on needs."""
    options = [f"--stanza={name}", "--log-level-file=off"]
    if given.repository:
        options.append(f"--repo={given.repository}")
        if given.config:
            options.append(f"--repo{given.repository}-host-config={given.config}")
    done = pgbackrest(*options, "--output=json", "info")
    if done.returncode != 0:
        raise BackupError(f"pgbackrest info: {complaint(done)}")
    state: dict[str, Any] = (json.loads(done.stdout) or [{}])[0]
    backups, archives = state.get("backup", []), state.get("archive", [])
    since, label = given.since, None
    if since is None:
        chosen = [entry for entry in backups if entry["type"] == "full"] or backups
        if not chosen or not archives:
            return {
                "changed": False,
                "since": None,
                "backup": None,
                "newest": None,
                "missing": 0,
                "first_missing": None,
            }
        newest = max(chosen, key=lambda entry: entry["timestamp"]["stop"])
        since, label = newest["archive"]["start"], newest["label"]
    listed = pgbackrest(*options, "--recurse", "--output=json", "repo-ls", f"archive/{name}/{archives[-1]['id']}")
    if listed.returncode != 0:
        raise BackupError(f"pgbackrest repo-ls: {complaint(listed)}")
    # <timeline and log>/<segment>-<sha1>.<compression>; histories and partial segments are something else.
    names = [
        match[1] for match in map(re.compile(r"[0-9A-F]{16}/([0-9A-F]{24})-").match, json.loads(listed.stdout)) if match
    ]
    gaps = missing(names, since, given.upto)
    return {
        "changed": False, "since": since, "backup": label, "newest": max(names, default=None),
        "missing": len(gaps), "first_missing": gaps[0] if gaps else None,
    }  # fmt: skip


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Backups of this room's repository.")
    commands = parser.add_subparsers(dest="command", required=True)
    taking = commands.add_parser("take", help="one backup")
    taking.add_argument("--type", choices=["full", "diff", "incr"], default="incr")
    making = commands.add_parser("stanza", help="make the stanza where it is missing")
    making.add_argument("--check", action="store_true", help="change nothing")
    beginning = commands.add_parser("first", help="check archiving, and take the first full backup")
    listing = commands.add_parser("wal", help="segments that are missing since the newest full backup")
    listing.add_argument("--repository", type=int, help="its number, where several are configured")
    listing.add_argument("--config", help="configuration on the repository's host, of a copy of the repository")
    listing.add_argument("--since", metavar="SEGMENT", help="the first that is needed")
    listing.add_argument("--upto", metavar="SEGMENT", help="the last that is needed")
    for command in (taking, making, beginning, listing):
        command.add_argument("--stanza", metavar="NAME", help="by default that of the cluster that serves")
    for command in (taking, making, beginning):
        command.add_argument(
            "--deadline", type=float, default=1800.0, help="seconds to wait for the other room's backup"
        )
    given = parser.parse_args()
    try:
        name = given.stanza or stanza()
        if given.command == "take":
            result = take(name, given.type, given.deadline)
        elif given.command == "stanza":
            result = stanza_create(name, given.deadline, check=given.check)
        elif given.command == "wal":
            result = wal(name, given)
        else:
            result = first(name, given.deadline)
    except (BackupError, OSError) as error:
        print(str(error), file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
