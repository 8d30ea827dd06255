"""HTTPS between the guard, its agents, Patroni, etcd and Prometheus: mutual TLS, short deadlines, three kinds of answer."""

from __future__ import annotations

import http.client
import json
import socketserver
import ssl
import sys
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler
from typing import Any

FRESH = 60.0
"""Seconds after which certificates are read again, so that a renewed one needs no restart."""
SLOWEST = 5.0
"""Seconds that a client of a server may take for its request."""


class Answer(StrEnum):
    """What came back: an answer of any kind, a refusal by a living machine, or nothing within the deadline."""

    ANSWERS = "answers"
    REFUSED = "refused"
    SILENT = "silent"


@dataclass(frozen=True)
class Identity:
    """Files that prove who asks: certificate, key, and the authority that both sides trust."""

    certificate: str
    key: str
    authority: str


class Client:
    """Asks one question per connection; safe to use from several threads."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._made = 0.0

    def context(self) -> ssl.SSLContext:
        """Return the client's TLS context, made anew from the files every minute."""
        with self._lock:
            if self._context is None or time.monotonic() - self._made > FRESH:
                context = ssl.create_default_context(cafile=self._identity.authority)
                context.load_cert_chain(self._identity.certificate, self._identity.key)
                self._context, self._made = context, time.monotonic()
            return self._context

    def connect(self, address: str, port: int, timeout: float) -> http.client.HTTPSConnection:
        """Prepare a connection; nothing is sent yet. `timeout` in seconds, for each step of it."""
        return http.client.HTTPSConnection(address, port, timeout=timeout, context=self.context())

    def probe(self, address: str, port: int, path: str, *, method: str = "OPTIONS", timeout: float = 0.3) -> Answer:
        """Tell whether anybody answers there; the status does not matter."""
        connection = self.connect(address, port, timeout)
        try:
            connection.request(method, path)
            connection.getresponse()
        except (ConnectionRefusedError, ConnectionResetError, ssl.SSLEOFError, http.client.RemoteDisconnected):
            return Answer.REFUSED  # a machine that says no is alive
        except (OSError, http.client.HTTPException):
            return Answer.SILENT
        finally:
            connection.close()
        return Answer.ANSWERS

    def json(
        self, address: str, port: int, path: str, body: dict[str, Any] | None = None, *, timeout: float
    ) -> dict[str, Any]:
        """Get, or post when there is a body, and read JSON.

        Raises:
            OSError: no answer in time, another status than 200, or no JSON object.
        """
        connection = self.connect(address, port, timeout)
        try:
            if body is None:
                connection.request("GET", path)
            else:
                connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            return read_json(connection, f"{address}:{port}{path}")
        except http.client.HTTPException as error:
            raise OSError(f"{address}:{port}{path}: {error!r}") from error
        finally:
            connection.close()


def read_json(connection: http.client.HTTPSConnection, what: str) -> dict[str, Any]:
    """Read the answer to a request that was sent.

    Raises:
        OSError: another status than 200, or no JSON object.
    """
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != http.client.OK:
        raise OSError(f"{what}: {answer.status} {text[:200]!r}")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise OSError(f"{what}: no JSON: {text[:200]!r}") from error
    if not isinstance(document, dict):
        raise OSError(f"{what}: no JSON object: {text[:200]!r}")
    return document


class Server(socketserver.ThreadingTCPServer):
    """HTTPS server for those whom the authority knows.

    The handshake happens in the request's own thread, so that nobody can hold the door.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: str, port: int, handler: type[BaseHTTPRequestHandler], identity: Identity) -> None:
        self._identity = identity
        super().__init__((address, port), handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Speak TLS with the certificate that is on the disk now."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self._identity.authority)
        context.load_cert_chain(self._identity.certificate, self._identity.key)
        context.verify_mode = ssl.CERT_REQUIRED
        request.settimeout(SLOWEST)
        with context.wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say a failed handshake or a lost client in one line."""
        del request
        print(f"request of {client_address[0]} failed: {sys.exc_info()[1]!r}", flush=True)
