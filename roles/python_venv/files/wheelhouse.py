#!/usr/bin/env python3
"""Resolve a lock into wheels for another Python, on the controller, once.

Every download is checked against the lock's hashes. What is shipped gets a requirements file of its own with the hash
of each wheel that really lies there, so that the host checks again (a wheel built here from a source archive has
another hash than its source has in the lock).

Prints one JSON object: `digest` (of the lock, the Python and the extra wheels; names the result), `archive` (path of
the tar to ship) and `changed`. Exit 1 with one sentence on standard error when it cannot.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")
"""Every Debian since 12 has glibc 2.36 or later."""

PIP_TIME_LIMIT = 900
"""Seconds for one pip run; a slow mirror is not a reason to hang for ever."""

FORMAT = 1
"""Raise it when what is shipped changes shape, so that nothing old is taken for new."""


class WheelhouseError(Exception):
    """What went wrong, in a sentence for the operator."""


def digest_of(lock: Path, python: str, wheels: Sequence[Path]) -> str:
    """Name of a result: 16 hexadecimal digits that change when anything that goes in changes."""
    total = hashlib.sha256(f"{FORMAT}\n{python}\n".encode())
    total.update(lock.read_bytes())
    for wheel in sorted(wheels, key=lambda path: path.name):
        total.update(wheel.name.encode() + b"\n" + hashlib.sha256(wheel.read_bytes()).digest())
    return total.hexdigest()[:16]


def pip(arguments: Sequence[str]) -> None:
    """Run pip of this interpreter; say its last error when it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PIP_TIME_LIMIT)
    if done.returncode != 0:
        said = done.stderr.splitlines()
        errors = [line for line in said if line.startswith("ERROR")] or said[-3:]
        raise WheelhouseError(f"pip {arguments[0]} failed: {' '.join(errors)}")


def download(lock: Path, python: str, sources: Sequence[str], into: Path) -> None:
    """Fetch every wheel of the lock for that Python, and build the few that exist only as pure Python sources."""
    options = ["--no-deps", "--require-hashes", "--implementation", "cp", "--python-version", python]
    options += ["--only-binary=:all:", *(f"--no-binary={name}" for name in sources)]
    for platform in PLATFORMS:
        options += ["--platform", platform]
    pip(["download", *options, "--requirement", str(lock), "--dest", str(into)])
    for archive in sorted([*into.glob("*.tar.gz"), *into.glob("*.zip")]):
        before = set(into.glob("*.whl"))
        pip(["wheel", "--no-deps", "--wheel-dir", str(into), str(archive)])
        for wheel in set(into.glob("*.whl")) - before:
            if not wheel.name.endswith("-none-any.whl"):
                raise WheelhouseError(f"{wheel.name} is compiled for the controller: only pure Python is built here")
        archive.unlink()


def requirements(wheels: Sequence[Path]) -> str:
    """Write requirements with the hash of each wheel that is shipped."""
    lines = []
    for wheel in sorted(wheels, key=lambda path: path.name.lower()):
        match = re.match(r"(?P<name>[^-]+)-(?P<version>[^-]+)-", wheel.name)
        if match is None:
            raise WheelhouseError(f"{wheel.name} is not named like a wheel")
        sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{match['name'].replace('_', '-')}=={match['version']} --hash=sha256:{sha256}\n")
    return "".join(lines)


def build(
    root: Path, name: str, *, lock: Path, python: str, wheels: Sequence[Path] = (), sources: Sequence[str] = ()
) -> dict[str, object]:
    """Make `<root>/<name>-<digest>-py<python>.tar` unless it is there.

    An interrupted build leaves nothing by that name. What the lock alone asks for is an archive of its own: a release that
    changes nothing but this project's wheel downloads nothing.
    """
    for path in (lock, *wheels):
        if not path.is_file():
            raise WheelhouseError(f"{path} does not exist on the controller")
    digest = digest_of(lock, python, wheels)
    archive = root / f"{name}-{digest}-py{python}.tar"
    root.mkdir(parents=True, exist_ok=True)
    base = None
    if wheels and not archive.exists():
        base = str(build(root, name, lock=lock, python=python, sources=sources)["archive"])
    # Several hosts ask at once: one builds, the others wait and find it.
    with (root / f".{name}-{python}.lock").open("w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if archive.exists():
            return {"changed": False, "digest": digest, "archive": str(archive)}
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}-") as scratch_name:
            scratch = Path(scratch_name)
            house = scratch / "wheels"
            house.mkdir()
            if base is None:
                download(lock, python, sources, house)
            else:
                with tarfile.open(base) as tar:
                    # Debian 12's Python 3.11.2 does not know the filter yet.
                    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                    tar.extractall(scratch, **safely)  # noqa: S202 - made below, in this folder
            for wheel in wheels:
                shutil.copy2(wheel, house)
            (house / "requirements.txt").write_text(requirements(list(house.glob("*.whl"))), encoding="utf-8")
            partial = scratch / "archive.tar"
            with tarfile.open(partial, "w") as tar:
                tar.add(house, arcname="wheels", filter=_plain)
            partial.rename(archive)
    return {"changed": True, "digest": digest, "archive": str(archive)}


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Readable by everyone and owned by root on the host, whoever built it."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def main() -> int:
    """Command line, called by the role."""
    parser = argparse.ArgumentParser(description="Resolve a lock into wheels for another Python.")
    parser.add_argument("--root", type=Path, required=True, help="folder that keeps the archives")
    parser.add_argument("--name", required=True)
    parser.add_argument("--lock", type=Path, required=True, help="requirements with hashes")
    parser.add_argument("--python", required=True, help="the host's Python, such as 3.11")
    parser.add_argument("--wheel", type=Path, action="append", default=[], help="a local wheel to ship as well")
    parser.add_argument("--source", action="append", default=[], help="pure Python project that has no wheel")
    given = parser.parse_args()
    try:
        result = build(
            given.root, given.name, lock=given.lock, python=given.python, wheels=given.wheel, sources=given.source
        )
    except (WheelhouseError, OSError, subprocess.TimeoutExpired) as error:
        print(f"{given.name}: wheels for Python {given.python}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
