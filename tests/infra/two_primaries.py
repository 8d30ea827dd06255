"""The backend pg_primary of this host's HAProxy, with two databases that say whatever a test wants; prints what it did.

    python3 -c "$(cat two_primaries.py)"      (as root on an application host; standard library only)

A second HAProxy on loopback: the host's own primary.lua and its own limits of checks, but for TLS.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ANSWERS = {
    "primary": b'HTTP/1.0 200 OK\r\n\r\n{"role": "primary"}',
    "replica": b'HTTP/1.0 503 Service Unavailable\r\n\r\n{"role": "replica"}',
}
PATIENCE = 15.0


class Database:
    """Says its name to whoever connects and echoes; answers checks as `role`, or not at all (silent)."""

    def __init__(self, name: str, role: str) -> None:
        self.name, self.role = name, role
        self.sessions, self.checks = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
        for server, talk in ((self.sessions, self._echo), (self.checks, self._check)):
            threading.Thread(target=self._accept, args=(server, talk), daemon=True).start()

    def _accept(self, server: socket.socket, talk: Callable[[socket.socket], None]) -> None:
        while True:
            threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()

    def _echo(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            link.sendall(self.name.encode())
            while part := link.recv(100):
                link.sendall(part)

    def _check(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            link.recv(4096)
            if self.role == "silent":
                time.sleep(PATIENCE)
            else:
                link.sendall(ANSWERS[self.role])


class Session:
    """A session through HAProxy; `database` is the name that its server said, empty when there was none."""

    def __init__(self, port: int) -> None:
        self.link = socket.create_connection(("127.0.0.1", port), timeout=2)
        self.database = ""
        with contextlib.suppress(OSError):
            self.database = self.link.recv(100).decode()

    def lives(self) -> bool:
        with contextlib.suppress(OSError):
            self.link.sendall(b"x")
            return self.link.recv(100) == b"x"
        return False


def seconds_until(condition: Callable[[], bool]) -> float:
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > PATIENCE:
            return float("inf")
        time.sleep(0.02)
    return time.monotonic() - begin


def play(port: int, one: Database, two: Database) -> dict[str, object]:
    time.sleep(1.5)  # the first checks; until then both count as up
    found: dict[str, object] = {"first": seconds_until(lambda: Session(port).database == "one")}
    session = Session(port)
    one.role = "silent"
    time.sleep(2.0)
    found["kept through silence"] = session.lives()
    one.role = "primary"
    time.sleep(1.5)
    # Both say that they lead: the one that came last does.
    two.role = "primary"
    found["ended for its successor"] = seconds_until(lambda: not session.lives())
    found["taken by the successor"] = sorted({Session(port).database for _ in range(20) if not time.sleep(0.1)})
    one.role = "replica"
    time.sleep(1.5)
    session = Session(port)
    one.role, two.role = "primary", "silent"
    found["back"] = seconds_until(lambda: not session.lives() and Session(port).database == "one")
    session = Session(port)
    one.role = "silent"
    found["left without a successor"] = seconds_until(lambda: not session.lives())
    return found


def main() -> None:
    one, two = Database("one", "primary"), Database("two", "replica")
    own = Path("/etc/haproxy/haproxy.cfg").read_text(encoding="utf-8").partition("backend pg_primary ")[2]
    limits = re.search(r"default-server (inter .* shutdown-sessions)", own)
    if limits is None:
        raise SystemExit("/etc/haproxy/haproxy.cfg: backend pg_primary has no default-server as expected")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    servers = "\n".join(
        f"  server {d.name} 127.0.0.1:{d.sessions.getsockname()[1]} check port {d.checks.getsockname()[1]}"
        for d in (one, two)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "haproxy.cfg"
        path.write_text(
            f"global\n  lua-load /etc/haproxy/primary.lua\n"
            f"defaults\n  mode tcp\n  timeout connect 1s\n  timeout check 1s\n  timeout client 1h\n  timeout server 1h\n"
            f"frontend writes\n  bind 127.0.0.1:{port}\n  default_backend pg_primary\n"
            f"backend pg_primary\n  option httpchk GET /primary\n  http-check expect status 200\n"
            f"  default-server {limits[1]}\n{servers}\n",
            encoding="utf-8",
        )
        proxy = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-q", "-f", str(path)], stderr=subprocess.DEVNULL)
        try:
            seconds_until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
            print(json.dumps(play(port, one, two)))
        finally:
            proxy.kill()


main()
