#!/usr/bin/env python3
"""Keep etcd's leader out of the rooms that hold data, on the witness site when it is healthy.

Why: when etcd loses its leader, the next one starts every lease anew. Were it to die together with the room of the
primary, Patroni would wait for a full ttl more before it fails over.

Every member runs this and looks at itself only. The one that leads, and should not, hands the leadership over to a
better member that is healthy and has followed the log; nobody else acts, so two never act at once. A placement is best
first: a site that is no server room, then a room without the primary, then the room of the primary. It acts when
several looks in a row agree, and says so only when it acts.

Standard library only. Runs until stopped; whatever fails is tried again at the next look.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REQUEST_TIMEOUT = 1.0
"""Seconds for one question to a member."""
LOG_LAG = 50
"""Entries that a candidate's log may be behind: less than a second of Patroni's writes."""
BACK_OFF = 30.0
"""Seconds of rest after a hand-over, whether it worked or not, so that two sites never play ball."""

WITNESS, OTHER_ROOM, PRIMARY_ROOM = 0, 1, 2


@dataclass(frozen=True)
class Member:
    """A member as the local one sees it. `applied` is None when it does not answer."""

    name: str
    member_id: str
    room: str
    applied: int | None


def rank(room: str, server_rooms: list[str], primary_room: str | None) -> int:
    """How good a place is for etcd's leader; smaller is better."""
    if room not in server_rooms:
        return WITNESS
    return PRIMARY_ROOM if room == primary_room else OTHER_ROOM


def better_member(
    own: Member, others: list[Member], server_rooms: list[str], primary_room: str | None
) -> Member | None:
    """Choose the member that should lead instead of `own`; None when `own` is as good as any healthy one."""
    candidates = [
        other
        for other in others
        if other.applied is not None and own.applied is not None and own.applied - other.applied <= LOG_LAG
    ]
    best = min(
        candidates, key=lambda member: (rank(member.room, server_rooms, primary_room), member.name), default=None
    )
    if best is None or rank(best.room, server_rooms, primary_room) >= rank(own.room, server_rooms, primary_room):
        return None
    return best


@dataclass
class Etcd:
    """Questions to members over mutual TLS, through etcd's JSON gateway."""

    config: dict[str, Any]
    connections: dict[str, http.client.HTTPSConnection] = field(default_factory=dict)

    def ask(self, endpoint: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post one question; keeps the connection for the next one.

        Raises:
            OSError: the member does not answer, or says no.
        """
        connection = self.connections.get(endpoint)
        try:
            if connection is None:
                connection = self._connect(endpoint)
                self.connections[endpoint] = connection
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connections.pop(endpoint, None)
            if connection is not None:
                connection.close()
            raise OSError(f"{endpoint}: {error!r}") from error
        if answer.status != http.client.OK:
            raise OSError(f"{endpoint}{path}: {answer.status} {text[:200]!r}")
        document: dict[str, Any] = json.loads(text)
        return document

    def _connect(self, endpoint: str) -> http.client.HTTPSConnection:
        # Read at each connection: a renewed certificate needs no restart.
        context = ssl.create_default_context(cafile=self.config["authority"])
        context.load_cert_chain(self.config["certificate"], self.config["key"])
        host, port = endpoint.rsplit(":", 1)
        return http.client.HTTPSConnection(host, int(port), timeout=REQUEST_TIMEOUT, context=context)

    def status(self, endpoint: str) -> dict[str, Any]:
        """Ask for a member's own view: its identity, its leader, how far its log is."""
        return self.ask(endpoint, "/v3/maintenance/status", {})

    def primary(self, endpoint: str) -> str | None:
        """Read which host Patroni's leader key names, None when there is none."""
        key = base64.b64encode(self.config["primary_key"].encode()).decode()
        found = self.ask(endpoint, "/v3/kv/range", {"key": key}).get("kvs") or []
        return base64.b64decode(found[0]["value"]).decode() if found else None

    def move_leader(self, endpoint: str, member_id: str) -> None:
        """Ask the leader at `endpoint` to hand over."""
        self.ask(endpoint, "/v3/maintenance/transfer-leadership", {"targetID": member_id})


def applied_index(status: dict[str, Any]) -> int:
    """How far a member's log is. 3.4 says raftIndex; raftAppliedIndex is not everywhere."""
    return int(status.get("raftIndex", 0))


def look(etcd: Etcd, config: dict[str, Any]) -> Member | None:
    """One look.

    Returns:
        The member to hand the leadership to, None when nothing is to be done.

    Raises:
        OSError: the local member does not answer.
    """
    endpoints: dict[str, str] = config["endpoints"]
    own_name: str = config["self"]
    own = etcd.status(endpoints[own_name])
    own_id = own["header"]["member_id"]
    if own.get("leader") != own_id:
        return None
    rooms: dict[str, str] = config["rooms"]
    if rooms[own_name] not in config["server_rooms"]:
        return None
    primary = etcd.primary(endpoints[own_name])
    others = []
    for name, endpoint in endpoints.items():
        if name == own_name:
            continue
        try:
            status = etcd.status(endpoint)
        except OSError:
            continue
        others.append(Member(name, status["header"]["member_id"], rooms[name], applied_index(status)))
    mine = Member(own_name, own_id, rooms[own_name], applied_index(own))
    return better_member(mine, others, config["server_rooms"], rooms.get(primary) if primary else None)


def run(config: dict[str, Any]) -> None:
    """Look for ever."""
    etcd = Etcd(config)
    agreed: str | None = None
    looks = 0
    while True:
        pause = float(config["interval"])
        try:
            target = look(etcd, config)
        except OSError:
            # etcd itself says in its journal why it does not answer.
            target = None
        name = target.name if target else None
        looks = looks + 1 if name is not None and name == agreed else 1
        agreed = name
        if target is not None and looks >= config["confirmations"]:
            pause = BACK_OFF
            agreed = None
            try:
                etcd.move_leader(config["endpoints"][config["self"]], target.member_id)
                print(
                    f"handed etcd's leadership from {config['self']} to {target.name} (site {target.room})", flush=True
                )
            except OSError as error:
                print(f"could not hand etcd's leadership to {target.name}: {error}", flush=True)
        time.sleep(pause)


def main() -> int:
    """Command line: the path of the configuration."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and one argument
        print("usage: etcd_leader_placement.py CONFIG.json", file=sys.stderr)
        return 2
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
