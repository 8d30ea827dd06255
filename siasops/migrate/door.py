"""The door of one application host, as root there; standard library only. Started by `doors.py`, which sends this text.

    python3 -c TEXT '{"port": 6432, "from": ["db-a1"], "to": ["db-a1-green"], "backends": ["pg_primary"]}'

Reads a word a line: `hold SECONDS`, `point from`, `point to`, `release`, `usable to`; answers each with `ok` or what is wrong,
and `MARK` on a line of its own. Whoever was held is let through SECONDS later whatever becomes of the other end, so that
nobody waits for a controller that is gone: whether a client may then write is decided by the databases (`decision.py`).
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import threading
import time
from typing import Any

ADMIN = "/run/haproxy/admin.sock"
RUNNING = "2"
"""srv_op_state of a server that takes traffic (HAProxy management guide, `show servers state`)."""
MARK = "-- sias: said --"
ANSWER = 3.0
"""Seconds for PgBouncer's console to answer what needs no waiting."""


class Console:
    """PgBouncer's console through one psql that stays, by the socket and as its own user, so that no password is needed."""

    def __init__(self, port: int) -> None:
        unit = ["systemctl", "show", "-P", "User", "pgbouncer"]
        user = subprocess.run(unit, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
        self._psql = subprocess.Popen(
            ["runuser", "-u", user, "--", "psql", "-X", "-q", "-A", "-t", "-h", "/run/pgbouncer", "-p", str(port), "-U",
             "pgbouncer", "-d", "pgbouncer"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
        )  # fmt: skip
        self.say("SHOW VERSION", ANSWER)  # connected before anybody waits

    def say(self, command: str, limit: float) -> str:
        """Run one command.

        Raises:
            TimeoutError: it does not end in time; this console is of no more use.
            OSError: psql is gone.
        """
        assert self._psql.stdin is not None
        assert self._psql.stdout is not None
        self._psql.stdin.write(f"{command};\n\\echo .said\n".encode())
        self._psql.stdin.flush()
        end, said = time.monotonic() + limit, b""
        while not said.endswith(b".said\n"):
            ready, _, _ = select.select([self._psql.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"PgBouncer's {command} takes longer than {limit:g} s")
            part = self._psql.stdout.read1(65536)  # type: ignore[attr-defined]
            if not part:
                raise OSError(f"PgBouncer's console ended: {said.decode(errors='replace').strip()[-200:]}")
            said += part
        return said.removesuffix(b".said\n").decode(errors="replace").strip()

    def close(self) -> None:
        """End the psql."""
        self._psql.kill()


def haproxy(command: str) -> str:
    """Ask HAProxy's runtime interface."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(ANSWER)
        link.connect(ADMIN)
        link.sendall(f"{command}\n".encode())
        parts = []
        while part := link.recv(65536):
            parts.append(part)
    return b"".join(parts).decode().strip()


class Door:
    """Holds, leads and lets through; for one word at a time."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self._console = Console(given["port"])
        self._held: threading.Timer | None = None
        self._lock = threading.Lock()

    def hold(self, seconds: str) -> None:
        """Make every client wait; a part of the time is for the transactions that run."""
        self._held = threading.Timer(float(seconds), self.release)
        self._held.start()
        try:
            said = self._console.say("PAUSE", float(seconds) / 2)
        except TimeoutError:
            self._console.close()  # it waits
            self._console = Console(self.given["port"])
            self.release()
            raise TimeoutError("transactions that run do not end") from None
        if "ERROR" in said and "already" not in said:
            self.release()
            raise OSError(said)

    def release(self) -> None:
        """Let clients through, by a console of its own where the other one is busy; harmless when they are."""
        with self._lock:
            if self._held is not None:
                self._held.cancel()
            try:
                said = self._console.say("RESUME", ANSWER)
            except OSError:  # TimeoutError is one
                self._console.close()
                self._console = Console(self.given["port"])
                said = self._console.say("RESUME", ANSWER)
        if "ERROR" in said and "not paused" not in said:
            raise OSError(said)

    def point(self, side: str) -> None:
        """Give the servers of a side weight and take it from the others, and cut what is left of those."""
        other = "from" if side == "to" else "to"
        weights = [(name, 1) for name in self.given[side]] + [(name, 0) for name in self.given[other]]
        said = [
            haproxy("; ".join(f"set server {backend}/{name} weight {weight}" for backend in self.given["backends"]
                              for name, weight in weights)),
            haproxy("; ".join(f"shutdown sessions server {backend}/{name}" for backend in self.given["backends"]
                              for name in self.given[other])),
        ]  # fmt: skip
        if any(said):
            raise OSError(f"HAProxy: {' '.join(said).strip()}")

    def usable(self, side: str) -> None:
        """See that HAProxy holds a primary of a side for up, with weight or without."""
        rows = [line.split() for line in haproxy("show servers state pg_primary").splitlines()]
        up = [row[3] for row in rows if len(row) > 5 and row[5] == RUNNING]  # noqa: PLR2004
        if not set(up) & set(self.given[side]):
            raise OSError(f"HAProxy sees no primary among {', '.join(self.given[side])}")


def main() -> int:
    """Command line: see above."""
    door = Door(json.loads(sys.argv[1]))
    for line in sys.stdin:
        word, *rest = line.split()
        try:
            getattr(door, word)(*rest)
            answer = "ok"
        except (OSError, AttributeError, TypeError, ValueError, subprocess.SubprocessError) as error:
            answer = str(error) or type(error).__name__
        with contextlib.suppress(OSError):
            print(f"{answer}\n{MARK}", flush=True)
    return 0  # the timer of who is held lives on, and lets them through


if __name__ == "__main__":
    sys.exit(main())
