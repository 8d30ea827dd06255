"""The guard's second pair of eyes, and its hand, on each database host: `python3 -m siasops.guard.agent CONFIG.json`.

    GET  /opinion?about=HOST    what this host sees of that primary
    POST /fence?about=HOST      look again; if it is silent here too, cut it off and confirm
    POST /lift                  let everything through again
    GET  /metrics               for Prometheus

Only certificates of the internal authority are let in, and only the witnesses' may fence or lift.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from siasops.guard import wire
from siasops.guard.fence import Fence, FenceError, heard_ago
from siasops.guard.wire import Answer, Client, Identity

HEARS_WITHIN = 1.0
"""Seconds: a connection over which something came that recently is heard. A primary writes far more often under load."""
HEARS_PATIENCE = 0.5
"""Seconds that an opinion waits until it can say that nothing came for `HEARS_WITHIN`: the guard's next question would be
answered nearly a second later."""
PROBES = 2
"""Questions to the primary for one opinion; a single lost packet is nothing."""
SIGHT_EVERY = 0.25
SIGHT_TIMEOUT = 0.3
ALONE_AFTER = 3
"""Looks without anybody outside the room, a quarter of a second apart: sooner than a standby can be writing."""
DOOR_SECONDS = 2
"""The door opens by itself when it is not kept closed."""
LARGEST = 4096
"""Bytes of a request's body."""


@dataclass(frozen=True)
class Eyes:
    """What this host sees of a primary."""

    host: str
    about: str
    leader: Answer
    hears: bool
    fit: bool
    heard_ago: float | None
    state: str
    fenced: bool = False
    why: str = ""


class Agent:
    """Looks, fences, lifts. One fence at a time."""

    def __init__(self, config: dict[str, Any], *, client: Client | None = None, fence: Fence | None = None) -> None:
        self.config = config
        self.name: str = config["self"]
        self.client = client or Client(Identity(**config["identity"]))
        ports = config["ports"]
        self.fence = fence or Fence(
            postgres=ports["postgres"], patroni=ports["patroni"], seconds=config["fence_seconds"]
        )
        self._lock = threading.Lock()
        self.registry = CollectorRegistry()
        self.fenced = Counter("sias_guard_fences", "Fences raised by this host.", registry=self.registry)
        self.refused = Counter("sias_guard_fences_refused", "Fences refused by this host.", registry=self.registry)
        standing = Gauge("sias_guard_fence_standing", "Primaries that this host cuts off now.", registry=self.registry)
        standing.set_function(lambda: float(len(self.fence.standing())))
        self.alone = Gauge(
            "sias_guard_alone", "1 while this primary reaches nobody outside its room.", registry=self.registry
        )

    def look(self, about: str, probes: int = PROBES, patience: float = HEARS_PATIENCE) -> Eyes:
        """Look at a primary, and at this host's own PostgreSQL.

        Of a primary that gives no answer and was heard less than `HEARS_WITHIN` ago, but will not have been in `patience`
        seconds unless something comes, it says what it hears then.

        Raises:
            KeyError: there is no such database host.
        """
        address = self.config["hosts"][about]["address"]
        ports = self.config["ports"]
        leader = Answer.SILENT
        for _ in range(probes):
            leader = self.client.probe(address, ports["patroni"], "/primary", timeout=self.config["probe_timeout"])
            if leader is not Answer.SILENT:
                break
        ago = heard_ago(address, ports["postgres"])
        if leader is Answer.SILENT and ago is not None and HEARS_WITHIN - patience <= ago < HEARS_WITHIN:
            time.sleep(HEARS_WITHIN - ago + 0.01)  # told in milliseconds, by a command that takes a few
            ago = heard_ago(address, ports["postgres"])
        fit, state = self._own_state()
        return Eyes(self.name, about, leader, ago is not None and ago < HEARS_WITHIN, fit, ago, state)

    def _own_state(self) -> tuple[bool, str]:
        own = self.config["hosts"][self.name]["address"]
        try:
            status = self.client.json(own, self.config["ports"]["patroni"], "/patroni", timeout=1.0)
        except OSError as error:
            return False, f"its own Patroni does not answer: {error}"
        role, state = str(status.get("role")), str(status.get("state"))
        return role == "replica" and state == "running", f"{role}, {state}"

    def cut_off(self, about: str) -> Eyes:
        """Look once more, and cut the primary off if nothing speaks against it.

        What speaks against it: it answers here, or this host could not take over. A primary that is heard although it
        does not answer (its Patroni hangs) is cut off all the same: the witness has waited longer for that.
        """
        with self._lock:
            seen = self.look(about, probes=1, patience=0)
            refusal = (
                f"{about} {seen.leader}"
                if seen.leader is not Answer.SILENT
                else ""
                if seen.fit
                else f"unfit: {seen.state}"
            )
            if refusal:
                self.refused.inc()
                return Eyes(**{**asdict(seen), "why": refusal})
            try:
                self.fence.raise_against(self.config["hosts"][about]["address"])
            except FenceError as error:
                self.refused.inc()
                return Eyes(**{**asdict(seen), "why": str(error)})
            self.fenced.inc()
            return Eyes(**{**asdict(seen), "fenced": True})

    def watch_sight(self, reach: Callable[[str, int], bool] | None = None) -> None:
        """Look for ever whether this host reaches anybody outside its room; see `step_sight`."""
        misses = 0
        while True:
            began = time.monotonic()
            try:
                misses = self.step_sight(misses, reach or reaches)
            except (OSError, FenceError) as error:
                print(f"sight: {error}", flush=True)
            time.sleep(max(0.0, SIGHT_EVERY - (time.monotonic() - began)))

    def step_sight(self, misses: int, reach: Callable[[str, int], bool]) -> int:
        """Close the door of a primary that has been alone for `ALONE_AFTER` looks.

        Outside its room stand a majority of the voters and a synchronous standby: alone, it can neither acknowledge a
        write nor know whether somebody else leads by now. What it answers to readers may be old.

        Returns:
            Looks in a row without anybody.
        """
        with ThreadPoolExecutor(max_workers=len(self.config["sight"]) or 1) as pool:
            seen = any(pool.map(lambda door: reach(door["address"], door["port"]), self.config["sight"]))
        misses = 0 if seen or not self.config["sight"] else misses + 1
        alone = misses >= ALONE_AFTER and not self._follows()
        if alone:
            self.fence.close_door(self.config["hosts"][self.name]["address"], DOOR_SECONDS)
            if misses == ALONE_AFTER:
                print("nobody outside this room is reached: the door is closed until somebody is", flush=True)
        self.alone.set(float(alone))
        return misses

    def _follows(self) -> bool:
        fit, state = self._own_state()
        return fit or state.startswith("replica")


def reaches(address: str, port: int) -> bool:
    """Tell whether a machine answers at all, also by a refusal: the kernel does, however busy its programs are."""
    try:
        socket.create_connection((address, port), SIGHT_TIMEOUT).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    timeout = wire.SLOWEST

    def do_GET(self) -> None:
        """Answer /opinion and /metrics."""
        where = urlsplit(self.path)
        if where.path == "/metrics":
            self._send(200, generate_latest(self.server.agent.registry), "text/plain; version=0.0.4")
        elif where.path == "/opinion":
            self._about(where.query, self.server.agent.look)
        else:
            self._send(404, b"unknown")

    def do_POST(self) -> None:
        """Answer /fence and /lift."""
        where = urlsplit(self.path)
        # Read what came with it, else the connection is reset before the answer arrives.
        self.rfile.read(min(int(self.headers.get("Content-Length") or 0), LARGEST))
        if self._who() not in self.server.agent.config["witnesses"]:
            self._send(403, b"only a witness may do this")
        elif where.path == "/fence":
            self._about(where.query, self.server.agent.cut_off)
        elif where.path == "/lift":
            try:
                self.server.agent.fence.lift()
            except FenceError as error:
                self._send(500, str(error).encode())
            else:
                self._send(200, b"{}", "application/json")
        else:
            self._send(404, b"unknown")

    def _about(self, query: str, act: Any) -> None:
        about = parse_qs(query).get("about", [""])[0]
        if about not in self.server.agent.config["hosts"] or about == self.server.agent.name:
            self._send(400, f"“{about}” is no other database host".encode())
            return
        began = time.monotonic()
        eyes: Eyes = act(about)
        text = json.dumps(asdict(eyes))
        print(f"{self.command} {self.path} {time.monotonic() - began:.2f} s: {text}", flush=True)
        self._send(200, text.encode(), "application/json")

    def _who(self) -> str:
        """Return the common name of the client's certificate."""
        certificate: dict[str, Any] = self.connection.getpeercert() or {}
        pairs = [pair for part in certificate.get("subject", ()) for pair in part]
        return next((value for key, value in pairs if key == "commonName"), "")

    def _send(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing per request: what matters is said where it happens."""


class Server(wire.Server):
    """Serves an agent."""

    def __init__(self, agent: Agent, address: str, port: int) -> None:
        self.agent = agent
        super().__init__(address, port, Handler, Identity(**agent.config["identity"]))


def main() -> int:
    """Command line: the path of the configuration."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and one argument
        print("usage: python3 -m siasops.guard.agent CONFIG.json", file=sys.stderr)
        return 2
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    # A fence that a former life of this service left ends in the kernel; a new life knows of no suspicion.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    agent = Agent(config)
    threading.Thread(target=agent.watch_sight, daemon=True).start()
    with Server(agent, config["hosts"][config["self"]]["address"], config["ports"]["guard"]) as server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
