#!/usr/bin/env python3
"""Build the application's wheel on the controller, once per content.

The version of a release is the project's version and the digest of what goes in, such as 0.1.0+g1f3a9c0b2d4e: the same
source is the same release, whoever builds it.

Prints one JSON object: `version`, `wheel` (path) and `changed`; with `--version-only`, nothing is built and the object holds
`version` alone. Exit 1 with one sentence when it cannot.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

BUILD_TIME_LIMIT = 600
"""Seconds for one build; it may have to fetch the build's own requirements."""
LEFT_OUT = {"__pycache__", "tests", "build", "dist", "staticfiles", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
"""Folders of the project that a build neither needs nor may depend on."""
STAMP = "src/sias/release.txt"
"""Where a release finds its own version."""
EPOCH = "1704067200"
"""One date for every file in the wheel, so that the same content gives the same wheel."""


class BuildError(Exception):
    """What went wrong, in a sentence for the operator."""


def sources(project: Path) -> Iterator[Path]:
    """Files that go into a release, in a stable order."""
    for path in sorted(project.rglob("*")):
        inside = path.relative_to(project)
        if (
            path.is_file()
            and str(inside) != STAMP
            and not LEFT_OUT.intersection(inside.parts)
            and ".egg-info" not in str(inside)
        ):
            yield path


def release_version(project: Path) -> str:
    """Version of the release: the project's own and 12 hexadecimal digits of its content."""
    if not (project / "pyproject.toml").is_file():
        raise BuildError(f"{project} holds no pyproject.toml")
    total = hashlib.sha256()
    for path in sources(project):
        total.update(f"{path.relative_to(project)}\n{path.stat().st_size}\n".encode())
        total.update(path.read_bytes())
    declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return f"{declared}+g{total.hexdigest()[:12]}"


def build(project: Path, root: Path) -> dict[str, object]:
    """Make `<root>/<version>/<wheel>` unless it is there. An interrupted build leaves nothing by that name."""
    version = release_version(project)
    folder = root / version
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=root, prefix=".build-") as scratch:
                _wheel(project, version, Path(scratch), Path(scratch) / "out")
                (Path(scratch) / "out").rename(folder)
            changed = True
        else:
            changed = False
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise BuildError(f"{folder} holds {len(wheels)} wheels and should hold one: remove it and run again")
    return {"version": version, "wheel": str(wheels[0]), "changed": changed}


def _wheel(project: Path, version: str, scratch: Path, out: Path) -> None:
    copy = scratch / "project"
    for path in sources(project):
        target = copy / path.relative_to(project)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (copy / STAMP).write_text(f"{version}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel", "--no-deps"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(out), str(copy)],
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_TIME_LIMIT,
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "LC_ALL": "C.UTF-8"},
    )
    if done.returncode != 0:
        raise BuildError(f"the wheel could not be built: {' '.join(done.stderr.splitlines()[-6:])}")


def main() -> int:
    """Command line, called by the role."""
    parser = argparse.ArgumentParser(description="Build the application's wheel, once per content.")
    parser.add_argument("--project", type=Path, required=True, help="folder of the application")
    parser.add_argument("--root", type=Path, help="folder that keeps the wheels")
    parser.add_argument("--version-only", action="store_true", help="only say which version it would be")
    given = parser.parse_args()
    if given.root is None and not given.version_only:
        parser.error("--root is needed to build")
    try:
        if given.version_only:
            result: dict[str, object] = {"version": release_version(given.project)}
        else:
            result = build(given.project, given.root)
    except (BuildError, OSError, subprocess.TimeoutExpired) as error:
        print(f"{given.project}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
