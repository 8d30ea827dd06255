#!/usr/bin/env python3
"""Read this host's copies of the documents again, a few minutes at a time, and compare each with the SHA-256 in its name.

A disk that rots is found while another room still has the document. Runs from sias-scrub.timer with Python's standard library
only, on the brick itself: through the mount, a good copy elsewhere would hide a bad one here. Where it stopped, it goes on;
what it found is told to the node exporter.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

CHUNK = 1024 * 1024
CONFIRM = 1800.0
"""Seconds for which a copy must stay wrong: one that Gluster is healing is incomplete for a while."""
FOLDER = re.compile(r"[0-9a-f]{2}")
NAME = re.compile(r"[0-9a-f]{64}")

HELP = {
    "sias_scrub_mismatches": "Copies on this host that are not what their name says, or cannot be read.",
    "sias_scrub_suspects": "Copies that were wrong when last read, and may be being healed.",
    "sias_scrub_checked": "Copies read in the pass that goes on.",
    "sias_scrub_documents": "Copies read in the last complete pass.",
    "sias_scrub_bytes": "Bytes read in the last complete pass.",
    "sias_scrub_watched_since_seconds": "When this host first read its copies again, seconds since 1970.",
    "sias_scrub_pass_started_seconds": "When the pass that goes on began, seconds since 1970.",
    "sias_scrub_pass_completed_seconds": "When the last complete pass ended, seconds since 1970; 0 never.",
}


@dataclass
class State:
    """Where the scrub stands; on disk between two runs."""

    watched_since: float
    pass_started: float
    cursor: str = ""
    """Last copy read in this pass."""
    checked: int = 0
    read: int = 0
    """Bytes read in this pass."""
    completed: float = 0.0
    documents: int = 0
    size: int = 0
    suspects: dict[str, float] = field(default_factory=dict)
    """Copies that are wrong, with the time when that was first seen."""

    def mismatches(self, now: float) -> list[str]:
        """Copies that have been wrong for longer than a heal takes."""
        return sorted(name for name, since in self.suspects.items() if now - since >= CONFIRM)


def load(path: Path, now: float) -> State:
    """Read the state, or begin: a file that is damaged costs a pass and no more."""
    try:
        return State(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return State(now, now)


def write(path: Path, text: str) -> None:
    """Replace a file at once."""
    draft = path.with_name(f".{path.name}.new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.chmod(0o644)
    draft.replace(path)


def copies(root: Path, after: str) -> Iterator[str]:
    """Yield the addresses `ab/cd/<sha256>` of all copies that come after this one, in order."""
    for first in _names(root, FOLDER):
        if first < after[:2]:
            continue
        for second in _names(root / first, FOLDER):
            if f"{first}/{second}" < after[:5]:
                continue
            for name in _names(root / first / second, NAME):
                address = f"{first}/{second}/{name}"
                if address > after:
                    yield address


def _names(folder: Path, form: re.Pattern[str]) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if form.fullmatch(entry.name))


def whole(path: Path) -> tuple[bool | None, int]:
    """Say whether a copy is what its name says (None: it is gone), and how many bytes were read."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            # From the disk, not from memory, and out of memory again: others need it.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except FileNotFoundError:
        return None, size
    except OSError:
        return False, size  # a disk that cannot read it has lost it
    return digest.hexdigest() == path.name, size


def judge(root: Path, address: str, state: State, now: float) -> int:
    """Read one copy and note what it is; return how many bytes were read."""
    sound, size = whole(root / address)
    if sound is False:
        state.suspects.setdefault(address, now)
    else:
        state.suspects.pop(address, None)
    return size


def scrub(root: Path, state: State, seconds: float) -> None:
    """Look at what was wrong again, then go on with the pass for so long, or to its end.

    Raises:
        OSError: the brick cannot be listed; nothing is called complete.
    """
    end = time.monotonic() + seconds
    for address in sorted(state.suspects):
        judge(root, address, state, time.time())
    for address in copies(root, state.cursor):
        state.read += judge(root, address, state, time.time())
        state.checked += 1
        state.cursor = address
        if time.monotonic() >= end:
            return
    now = time.time()
    state.completed, state.documents, state.size = now, state.checked, state.read
    state.pass_started, state.cursor, state.checked, state.read = now, "", 0, 0


def render(state: State, now: float) -> str:
    """Return the figures in the exposition format."""
    values = {
        "sias_scrub_mismatches": len(state.mismatches(now)),
        "sias_scrub_suspects": len(state.suspects),
        "sias_scrub_checked": state.checked,
        "sias_scrub_documents": state.documents,
        "sias_scrub_bytes": state.size,
        "sias_scrub_watched_since_seconds": state.watched_since,
        "sias_scrub_pass_started_seconds": state.pass_started,
        "sias_scrub_pass_completed_seconds": state.completed,
    }
    return "".join(f"# HELP {n} {HELP[n]}\n# TYPE {n} gauge\n{n} {v:.16g}\n" for n, v in values.items())


def main(arguments: list[str]) -> int:
    """Scrub for a while; exit code 1 when the brick cannot be listed."""
    parser = argparse.ArgumentParser(prog="sias-scrub", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--brick", type=Path, required=True, help="folder that holds the copies")
    parser.add_argument("--state", type=Path, required=True, help="file that keeps where it stands")
    parser.add_argument("--output", type=Path, required=True, help="file that the node exporter reads")
    parser.add_argument("--seconds", type=float, required=True, help="how long to read at most")
    options = parser.parse_args(arguments)
    state = load(options.state, time.time())
    failure = None
    try:
        scrub(options.brick, state, options.seconds)
    except OSError as error:
        failure = error
    now = time.time()
    write(options.state, json.dumps(asdict(state)))
    write(options.output, render(state, now))
    for address in state.mismatches(now):
        print(f"sias-scrub: {options.brick / address} is not what its name says", file=sys.stderr)
    if failure is not None:
        print(f"sias-scrub: {failure}", file=sys.stderr)
    return int(failure is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
