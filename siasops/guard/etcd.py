"""Questions to etcd members over mutual TLS, through their JSON gateway. Standard library only: runs on hosts.

Keys are those of Patroni (namespace /service/<cluster>/), and one of the guard's own.
"""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass, field
from typing import Any

from siasops.guard.wire import Client, Identity, read_json

REQUEST_TIMEOUT = 1.0
"""Seconds for one question to a member."""


def encode(text: str) -> str:
    """Encode a key or a value as the gateway wants it."""
    return base64.b64encode(text.encode()).decode()


def decode(text: str) -> str:
    """Decode a key or a value of the gateway's."""
    return base64.b64decode(text).decode()


@dataclass(frozen=True)
class Key:
    """A key that is there: its value, the revision of its last change, and the lease that it hangs on ("0" for none)."""

    value: str
    revision: int
    lease: str = "0"


@dataclass
class Etcd:
    """Asks members; keeps the connection to each for the next question. For one thread."""

    identity: Identity
    timeout: float = REQUEST_TIMEOUT
    connections: dict[str, http.client.HTTPSConnection] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._client = Client(self.identity)

    def ask(self, endpoint: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post one question to `endpoint` (address:port).

        Raises:
            OSError: the member does not answer, or says no.
        """
        connection = self.connections.pop(endpoint, None)
        if connection is None:
            host, port = endpoint.rsplit(":", 1)
            connection = self._client.connect(host, int(port), self.timeout)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            document = read_json(connection, f"{endpoint}{path}")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise OSError(f"{endpoint}: {error!r}") from error
        self.connections[endpoint] = connection
        return document

    def __enter__(self) -> Etcd:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()

    def status(self, endpoint: str) -> dict[str, Any]:
        """Ask for a member's own view: its identity, its leader, how far its log is."""
        return self.ask(endpoint, "/v3/maintenance/status", {})

    def get(self, endpoint: str, key: str) -> Key | None:
        """Read one key, linearizably."""
        return self._keys(self.ask(endpoint, "/v3/kv/range", {"key": encode(key)})).get(key)

    def under(self, endpoint: str, prefix: str) -> dict[str, Key]:
        """Read every key under a prefix that ends with "/", linearizably."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return self._keys(self.ask(endpoint, "/v3/kv/range", {"key": encode(prefix), "range_end": encode(end)}))

    @staticmethod
    def _keys(answer: dict[str, Any]) -> dict[str, Key]:
        return {
            decode(kv["key"]): Key(decode(kv.get("value", "")), int(kv["mod_revision"]), str(kv.get("lease", "0")))
            for kv in answer.get("kvs") or []
        }

    def grant(self, endpoint: str, seconds: int) -> str:
        """Make a lease that ends by itself; returns its identity."""
        return str(self.ask(endpoint, "/v3/lease/grant", {"TTL": seconds})["ID"])

    def seconds_left(self, endpoint: str, lease: str) -> int:
        """Whole seconds until a lease ends; -1 when it has ended."""
        return int(self.ask(endpoint, "/v3/lease/timetolive", {"ID": lease}).get("TTL", -1))

    def put(self, endpoint: str, key: str, value: str, lease: str) -> int:
        """Write a key that hangs on a lease; returns its revision."""
        body = {"key": encode(key), "value": encode(value), "lease": lease}
        return int(self.ask(endpoint, "/v3/kv/put", body)["header"]["revision"])

    def transaction(self, endpoint: str, compare: list[dict[str, Any]], success: list[dict[str, Any]]) -> bool:
        """Do all of `success` if all of `compare` holds, in one step; tells whether it did."""
        answer = self.ask(endpoint, "/v3/kv/txn", {"compare": compare, "success": success})
        return bool(answer.get("succeeded", False))

    def move_leader(self, endpoint: str, member_id: str) -> None:
        """Ask the leader at `endpoint` to hand over."""
        self.ask(endpoint, "/v3/maintenance/transfer-leadership", {"targetID": member_id})
