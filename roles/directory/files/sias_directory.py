#!/usr/bin/env python3
"""Make slapd what its files say, fill and dump the directory. For root on a server; Python's standard library only.

configure   makes cn=config anew from config.ldif when that changed, and restarts a running server
fill        adds what is missing of tree.ldif, and corrects the passwords of its accounts
empty       ends with 0 while the directory holds no agent
load        adds the entries of an LDIF on the standard input
dump        writes a compressed copy of the database, and forgets the oldest
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

HOME = Path("/etc/sias/directory")
DATA = Path("/var/lib/sias-directory")
DUMPS = Path("/var/lib/sias-directory-dumps")
URI = "ldapi://%2Frun%2Fsias-directory-server%2Fldapi"
UNIT = "sias-directory.service"
OWNER = "openldap"
WAIT = 30  # s for a server to answer
INVALID_CREDENTIALS, NO_SUCH_OBJECT = 49, 32


class DirectoryError(Exception):
    """A command did not do what it had to; the message holds what it said, never a password."""


def run(*command: str, text: str | None = None, accepted: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    """Run a command of OpenLDAP.

    Raises:
        DirectoryError: it ends with a code that is not accepted.
    """
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode not in accepted:
        raise DirectoryError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done


def as_root(
    *command: str, text: str | None = None, accepted: tuple[int, ...] = (0,)
) -> subprocess.CompletedProcess[str]:
    """Run an LDAP command as root over the server's own socket."""
    return run(command[0], "-H", URI, "-Y", "EXTERNAL", "-Q", *command[1:], text=text, accepted=accepted)


def until_it_answers() -> None:
    """Wait for the server.

    Raises:
        DirectoryError: it does not answer in time.
    """
    deadline = time.monotonic() + WAIT
    while True:
        try:
            as_root("ldapwhoami")
        except DirectoryError as error:
            if time.monotonic() > deadline:
                raise DirectoryError(f"the server gives no answer in {WAIT} s: {error}") from error
            time.sleep(0.2)  # between questions inside a deadline
        else:
            return


def active() -> bool:
    """Tell whether the server runs."""
    return subprocess.run(["systemctl", "is-active", "--quiet", UNIT], check=False).returncode == 0


def configure() -> str:
    """Make cn=config from config.ldif, when it is not made of it already. Nothing else ever changes it."""
    text = (HOME / "config.ldif").read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    made, note = HOME / "slapd.d", HOME / "made-of"
    DATA.mkdir(mode=0o700, exist_ok=True)  # also when somebody moved it aside, to have it filled from the other server
    shutil.chown(DATA, OWNER, OWNER)
    if made.is_dir() and note.exists() and note.read_text(encoding="utf-8") == digest:
        return "unchanged"
    fresh, former = HOME / "slapd.d.new", HOME / "slapd.d.old"
    for folder in (fresh, former):
        shutil.rmtree(folder, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    run("/usr/sbin/slapadd", "-n", "0", "-F", str(fresh), "-l", str(HOME / "config.ldif"))
    for path in (fresh, *fresh.rglob("*")):
        shutil.chown(path, OWNER, OWNER)
    note.unlink(missing_ok=True)
    if made.exists():
        made.rename(former)
    fresh.rename(made)
    shutil.rmtree(former, ignore_errors=True)
    if active():
        run("systemctl", "restart", UNIT)
        until_it_answers()
    note.write_text(digest, encoding="utf-8")
    return "configured"


def entries(text: str) -> list[tuple[str, str]]:
    """Return (name, LDIF) of each entry of a file."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    blocks = [block.strip() for block in re.split(r"\n\s*\n", lines)]
    return [(match[1], f"{block}\n") for block in blocks if (match := re.match(r"dn: (.+)", block))]


def fill() -> str:
    """Add what is missing, and give the accounts the passwords that their files say."""
    until_it_answers()
    changed = False
    for name, text in entries((HOME / "tree.ldif").read_text(encoding="utf-8")):
        there = as_root(
            "ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-s", "base", "-b", name, "dn", accepted=(0, NO_SUCH_OBJECT)
        )
        if there.returncode == NO_SUCH_OBJECT:
            as_root("ldapadd", text=text)
            changed = True
        secret = HOME / f"{name.split(',', 1)[0].removeprefix('cn=')}.password"
        if ",ou=accounts," in name and secret.exists():
            changed = _password(name, secret) or changed
    return "filled" if changed else "unchanged"


def _password(name: str, secret: Path) -> bool:
    """Make sure of an account's password; tell whether it had another."""
    right = run(*("ldapwhoami", "-H", URI, "-x", "-D", name, "-y", str(secret)), accepted=(0, INVALID_CREDENTIALS))
    if right.returncode == 0:
        return False
    # Read by the tool from the file: a password is never an argument.
    as_root("ldappasswd", "-T", str(secret), name)
    return True


def empty(base: str) -> bool:
    """Tell whether the directory holds no agent."""
    found = as_root("ldapsearch", "-LLL", "-z", "1", "-s", "one", "-b", f"ou=agents,{base}", "dn", accepted=(0, 4))
    return not found.stdout.strip()


def load(text: str) -> str:
    """Add entries."""
    as_root("ldapadd", text=text)
    return f"loaded {len(entries(text))} entries"


def dump(keep: int) -> str:
    """Write the database, as it is at one moment, and keep the newest dumps."""
    DUMPS.mkdir(mode=0o700, exist_ok=True)
    path = DUMPS / f"directory-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.ldif.gz"
    fresh = path.with_suffix(".new")
    text = run("/usr/sbin/slapcat", "-n", "1", "-F", str(HOME / "slapd.d")).stdout
    if not text.strip():
        raise DirectoryError("the directory is empty: no dump replaces those that are there")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as raw:
        with gzip.GzipFile(fileobj=raw, mode="wb") as file:
            file.write(text.encode())
        raw.flush()
        os.fsync(raw.fileno())
    fresh.rename(path)
    for old in sorted(DUMPS.glob("directory-*.ldif.gz"))[:-keep]:
        old.unlink()
    return str(path)


def base_of_tree() -> str:
    """Return the name of the first entry of the tree."""
    return entries((HOME / "tree.ldif").read_text(encoding="utf-8"))[0][0]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("configure", "fill", "empty", "load"):
        commands.add_parser(name)
    commands.add_parser("dump").add_argument("--keep", type=int, default=14, help="dumps to keep (14)")
    given = parser.parse_args()
    try:
        if given.command == "empty":
            return 0 if empty(base_of_tree()) else 1
        told = {
            "configure": configure,
            "fill": fill,
            "load": lambda: load(sys.stdin.read()),
            "dump": lambda: dump(given.keep),
        }[given.command]()
    except (DirectoryError, OSError, subprocess.TimeoutExpired) as error:
        print(f"sias-directory: {error}", file=sys.stderr)
        return 2
    print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
