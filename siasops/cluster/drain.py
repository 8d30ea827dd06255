"""Take a server out of HAProxy's turn, wait until what it works on has ended, and put it back.

    drain(fleet, WEB, "app-b1", hosts=["app-a1"], limit=20.0)     no new requests from app-a1's HAProxy to app-b1
    ready(fleet, WEB, "app-b1", hosts=["app-a1"])

By HAProxy's runtime interface on the hosts named: nothing is written to disk, and a reload of HAProxy forgets it, after
which its own checks decide again.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence

from siasops.remote import Fleet, RemoteError, Result, wait_until

WEB = ("web_ready", "web_live")
"""Backends in which an application host is a server."""
READS = ("pg_replicas",)
"""Backends in which a database host is a server for reads."""
LOOK_EVERY = 0.3
_LIMIT = 15.0
_ASK = """
import socket, sys
for command in sys.argv[1:]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(5)
        link.connect("/run/haproxy/admin.sock")
        link.sendall(command.encode() + b"\\n")
        while part := link.recv(65536):
            sys.stdout.buffer.write(part)
"""


def drain(fleet: Fleet, backends: Sequence[str], server: str, *, hosts: Iterable[str], limit: float) -> int:
    """Give a server no new work, and wait until it has none.

    Args:
        fleet: connections.
        backends: where it is a server: `WEB` or `READS`.
        server: its name.
        hosts: application hosts whose HAProxy is told.
        limit: seconds to wait for its work to end.

    Returns:
        Connections that were still there at the limit; 0 when all had ended.

    Raises:
        RemoteError: a HAProxy cannot be told; what others were told stands, `ready` undoes it.
    """
    chosen = list(hosts)
    _set(fleet, backends, server, "drain", chosen, strict=True)
    try:
        wait_until(
            lambda: busy(fleet, backends, server, hosts=chosen) == 0,
            f"{server} has no work left",
            deadline=limit,
            every=LOOK_EVERY,
        )
    except RemoteError:
        return busy(fleet, backends, server, hosts=chosen)
    return 0


def ready(fleet: Fleet, backends: Sequence[str], server: str, *, hosts: Iterable[str]) -> None:
    """Let a server have work again where its checks allow it. A HAProxy that does not run forgot the drain with its end.

    Raises:
        RemoteError: one that runs refuses.
    """
    _set(fleet, backends, server, "ready", list(hosts), strict=False)


def busy(fleet: Fleet, backends: Sequence[str], server: str, *, hosts: Iterable[str]) -> int:
    """Count the connections of these HAProxies to a server; one that does not run has none."""
    answers = _ask(fleet, ["show stat -1 4 -1"], hosts)
    return sum(connections(answer.stdout, backends, server) for answer in answers.values() if answer.ok)


def connections(statistics: str, backends: Sequence[str], server: str) -> int:
    """Read HAProxy's `show stat`: a server's current sessions in these backends."""
    rows = csv.DictReader(statistics.removeprefix("# ").splitlines())
    return sum(int(row["scur"] or 0) for row in rows if row["pxname"] in backends and row["svname"] == server)


def _set(fleet: Fleet, backends: Sequence[str], server: str, state: str, hosts: list[str], *, strict: bool) -> None:
    answers = _ask(fleet, [f"set server {backend}/{server} state {state}" for backend in backends], hosts)
    for answer in answers.values():
        # HAProxy says nothing when it agrees.
        refused = answer.stdout.strip() if answer.ok else ""
        if refused or (strict and not answer.ok):
            said = refused or answer.stderr.strip()[-300:]
            raise RemoteError(f"{answer.host}: HAProxy could not set {server} to {state}: {said}")


def _ask(fleet: Fleet, commands: list[str], hosts: Iterable[str]) -> dict[str, Result]:
    return fleet.run_all(["python3", "-c", _ASK, *commands], hosts=hosts, timeout=_LIMIT)
