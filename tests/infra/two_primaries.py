"""How this host's HAProxy finds the primary, with two databases that say whatever a test wants; prints what it did.

    python3 -c "$(cat two_primaries.py)"      (as root on an application host; standard library only)

A second HAProxy on loopback: the host's own primary.lua, its own question and limits of checks, but for TLS.
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

PATIENCE = 15.0


class Database:
    """Says its name to whoever connects and echoes; answers checks as `role` on a timeline, or not at all (silent)."""

    def __init__(self, name: str, role: str) -> None:
        self.name, self.role, self.timeline = name, role, 1
        self.sessions, self.checks = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
        self.port = self.checks.getsockname()[1]
        for server, talk in ((self.sessions, self._echo), (self.checks, self._check)):
            threading.Thread(target=self._accept, args=(server, talk), daemon=True).start()

    def _accept(self, server: socket.socket, talk: Callable[[socket.socket], None]) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()

    def refuse_checks(self) -> None:
        """As the kernel does for a Patroni that was killed."""
        self.checks.shutdown(socket.SHUT_RDWR)  # ends the accept that waits
        self.checks.close()

    def take_checks(self) -> None:
        """As a Patroni that was started again."""
        self.checks = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.checks, self._check), daemon=True).start()

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
                status = b"200 OK" if self.role == "primary" else b"503 Service Unavailable"
                said = json.dumps({"role": self.role, "timeline": self.timeline}).encode()
                link.sendall(b"HTTP/1.0 %b\r\n\r\n%b" % (status, said))


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
    def served() -> list[str]:
        return sorted({Session(port).database for _ in range(30) if not time.sleep(0.1)})

    time.sleep(1.5)  # the first checks; until then both count as up
    found: dict[str, object] = {"first": seconds_until(lambda: Session(port).database == "one")}
    session = Session(port)
    one.role = "silent"
    time.sleep(2.0)
    found["kept through silence"] = session.lives()
    one.role = "primary"
    time.sleep(1.5)
    # Patroni is killed, and when it is back it does not hold its lease again at once.
    one.refuse_checks()
    time.sleep(2.5)
    one.role = "starting"
    one.take_checks()
    time.sleep(0.3)
    one.role = "primary"
    time.sleep(1.5)
    found["kept while Patroni was started again"] = session.lives()
    # Both say that they lead, and one was promoted later.
    two.role, two.timeline = "primary", 2
    found["ended for its successor"] = seconds_until(lambda: not session.lives())
    found["taken by the successor"] = served()
    # The former primary comes back from a cut and still says that it leads.
    session = Session(port)
    one.role = "silent"
    time.sleep(3.0)
    one.role = "primary"
    found["with the former one back"] = served()
    found["kept when the former one came back"] = session.lives()
    two.role = "replica"
    found["taken again when the successor says no"] = seconds_until(lambda: Session(port).database == "one")
    one.role, two.role, two.timeline = "replica", "primary", 3
    found["and left again"] = seconds_until(lambda: Session(port).database == "two")
    session = Session(port)
    two.role = "silent"
    found["left without a successor"] = seconds_until(lambda: not session.lives())
    two.role = "primary"
    seconds_until(lambda: Session(port).database == "two")
    session = Session(port)
    two.role = "replica"
    found["left when it says no"] = seconds_until(lambda: not session.lives())
    two.role = "primary"
    seconds_until(lambda: Session(port).database == "two")
    session = Session(port)
    two.refuse_checks()
    found["left when it goes on refusing"] = seconds_until(lambda: not session.lives())
    return found


def main() -> None:
    one, two = Database("one", "primary"), Database("two", "replica")
    own = Path("/etc/haproxy/haproxy.cfg").read_text(encoding="utf-8").partition("backend patroni_primary ")[2]
    question = "\n".join(
        re.findall(r"^ +(?:option httpchk|http-check) .*", own.partition("\nbackend ")[0], re.MULTILINE)
    )
    limits = re.search(r"default-server (inter .* rise \d+) ", own)
    followers = re.search(r"backend pg_primary .*\n +default-server (.*)", own)
    if not question or limits is None or followers is None:
        raise SystemExit("/etc/haproxy/haproxy.cfg: patroni_primary and pg_primary are not as expected")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    checked = "\n".join(f"  server {d.name} 127.0.0.1:9 check port {d.port}" for d in (one, two))
    following = "\n".join(
        f"  server {d.name} 127.0.0.1:{d.sessions.getsockname()[1]} track patroni_primary/{d.name}" for d in (one, two)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "haproxy.cfg"
        path.write_text(
            f"global\n  lua-load /etc/haproxy/primary.lua\n"
            f"defaults\n  mode tcp\n  timeout connect 1s\n  timeout check 1s\n  timeout client 1h\n  timeout server 1h\n"
            f"frontend writes\n  bind 127.0.0.1:{port}\n  default_backend pg_primary\n"
            f"backend patroni_primary\n  mode http\n{question}\n  default-server {limits[1]}\n{checked}\n"
            f"backend pg_primary\n  default-server {followers[1]}\n{following}\n",
            encoding="utf-8",
        )
        proxy = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-q", "-f", str(path)], stderr=subprocess.DEVNULL)
        try:
            seconds_until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
            print(json.dumps(play(port, one, two)))
        finally:
            proxy.kill()


main()
