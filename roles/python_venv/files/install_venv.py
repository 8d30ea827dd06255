#!/usr/bin/env python3
"""Make a virtual environment from shipped wheels, on the host, without a network.

The environment is made as `<path>-<digest>-py<version>`, stamped when complete, and only then does the link `<path>`
point to it: whoever runs from the link never sees half an environment, and a former one stays for the way back. It
runs the interpreter by its version (`/usr/bin/python3.11`), so that an upgrade of Debian, which moves
`/usr/bin/python3`, does not break it before the next one is made.

Uses the standard library only. Exit 1 with one sentence on standard error when it cannot.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

STAMP = ".complete"
TIME_LIMIT = 600
"""Seconds for one step; a host that swaps is slow, not stuck."""


class InstallError(Exception):
    """What went wrong, in a sentence for the operator."""


def pip_wheel() -> Path:
    """Find the pip that came with the interpreter: Debian keeps it apart, Python inside ensurepip."""
    bundled = Path(sysconfig.get_paths()["stdlib"]) / "ensurepip" / "_bundled"
    for folder in (Path("/usr/share/python-wheels"), bundled):
        found = sorted(folder.glob("pip-*.whl"))
        if found:
            return found[-1]
    raise InstallError("no pip wheel beside the interpreter: install python3-venv (Debian: python3-pip-whl)")


def run(command: list[str]) -> None:
    """Run a step; say its last lines when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIME_LIMIT)
    if done.returncode != 0:
        raise InstallError(f"{Path(command[0]).name} failed: {' '.join(done.stderr.splitlines()[-4:])}")


def install(archive: Path, target: Path, digest: str, interpreter: Path, python: str) -> Path:
    """Build the environment, stamp it, point the link to it.

    Returns:
        The folder that the link now points to.
    """
    home = target.with_name(f"{target.name}-{digest}-py{python}")
    if not (home / STAMP).exists():
        shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        run([str(interpreter), "-m", "venv", "--without-pip", str(home)])
        with tarfile.open(archive) as tar:
            # Debian 12's Python 3.11.2 does not know the filter yet.
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(home, **safely)  # noqa: S202 - made by wheelhouse.py on the controller
        wheels = home / "wheels"
        # pip runs from its own wheel and is not installed: nothing on a host installs packages by hand.
        pip = [str(home / "bin" / "python"), str(pip_wheel() / "pip"), "--disable-pip-version-check", "--no-cache-dir"]
        offline = ["--quiet", "--no-index", "--no-deps", "--require-hashes", "--find-links", str(wheels)]
        run([*pip, "install", *offline, "--requirement", str(wheels / "requirements.txt")])
        shutil.rmtree(wheels)
        (home / STAMP).write_text(f"{digest}\n", encoding="utf-8")
    point(target, home)
    archive.unlink(missing_ok=True)
    return home


def point(link: Path, home: Path) -> None:
    """Make `link` lead to `home` in one step."""
    if link.is_dir() and not link.is_symlink():
        raise InstallError(f"{link} is a folder and should be a link to an environment: move it away")
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(home.name)
    fresh.replace(link)


def main() -> int:
    """Command line, called by the role."""
    parser = argparse.ArgumentParser(description="Make a virtual environment from shipped wheels.")
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--path", type=Path, required=True, help="the link that users of the environment know")
    parser.add_argument("--digest", required=True)
    parser.add_argument("--python", required=True, help="version of the interpreter, such as 3.11")
    parser.add_argument("--interpreter", type=Path, required=True)
    given = parser.parse_args()
    try:
        home = install(given.archive, given.path, given.digest, given.interpreter, given.python)
    except (InstallError, OSError, tarfile.TarError, subprocess.TimeoutExpired) as error:
        print(f"{given.path}: {error}", file=sys.stderr)
        return 1
    print(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
