"""Hold writers back on one application host until its HAProxy sees the new primary, then let them through.

    python3 - PORT DATABASE NEW PAUSE_SECONDS HOLD_SECONDS < hold.py      (as root; standard library only)

Says `paused`, `routed` and `resumed`, one word a line, as it happens. It lets clients through whatever happens, also when
whoever started it is gone: nobody is left waiting for longer than the two limits together. Exit 1 when the new primary
was not seen in time.
"""

from __future__ import annotations

import contextlib
import glob
import socket
import subprocess
import sys
import time

ADMIN = "/run/haproxy/admin.sock"
RUNNING = "2"
"""srv_op_state of a server that takes traffic (HAProxy management guide, `show servers state`)."""
LOOK_EVERY = 0.02
PSQL = max(glob.glob("/usr/lib/postgresql/*/bin/psql"), default="psql")  # noqa: PTH207 - one pattern, no path to build on
"""Debian's own is a script that looks for clusters first: 12 to 74 ms, for which clients would wait."""


def haproxy(command: str) -> str:
    """Ask HAProxy's runtime interface."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(1.0)
        link.connect(ADMIN)
        link.sendall(f"{command}\n".encode())
        parts = []
        while part := link.recv(65536):
            parts.append(part)
    return b"".join(parts).decode()


def running(backend: str) -> set[str]:
    """Servers of a backend that HAProxy sends traffic to; those of a cluster that does not serve have no weight."""
    rows = [line.split() for line in haproxy(f"show servers state {backend}").splitlines()]
    return {row[3] for row in rows if len(row) > 7 and row[1] == backend and row[5] == RUNNING and row[7] != "0"}  # noqa: PLR2004


def say(word: str) -> None:
    """Tell whoever started this, at once; nobody may be there any more."""
    with contextlib.suppress(OSError):
        print(word, flush=True)


def main() -> int:
    """Command line: see above."""
    port, database, new, pause_limit, hold_limit = sys.argv[1:]
    user = subprocess.run(
        ["systemctl", "show", "-P", "User", "pgbouncer"], capture_output=True, text=True, check=True, timeout=5
    ).stdout.strip()

    def console(command: str, limit: float) -> None:
        # By the socket and as its own user, so that no password is needed.
        subprocess.run(
            ["runuser", "-u", user, "--", PSQL, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "/run/pgbouncer", "-p", port,
             "-U", "pgbouncer", "-d", "pgbouncer", "-c", f"{command} {database};"],
            check=True, timeout=limit,
        )  # fmt: skip

    seen = False
    try:
        console("PAUSE", float(pause_limit))
        say("paused")
        end = time.monotonic() + float(hold_limit)
        while not seen and time.monotonic() < end:
            seen = running("pg_primary") == {new}
            if not seen:
                time.sleep(LOOK_EVERY)
        say("routed" if seen else "late")
    except subprocess.TimeoutExpired:
        say("busy")
    finally:
        console("RESUME", 10.0)
        say("resumed")
    return 0 if seen else 1


if __name__ == "__main__":
    sys.exit(main())
