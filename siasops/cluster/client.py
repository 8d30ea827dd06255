"""How the controller asks the platform: HTTPS, its own certificate, addresses instead of names, time limits."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from siasops.errors import UserError
from siasops.inventory import Inventory

TIMEOUT = 3.0
"""Seconds for one question. A host that needs longer counts as not answering."""
OPERATOR = "operateur"
"""The account of people, and of this command, in Prometheus and Alertmanager."""


def tls(inventory: Inventory, *, certificate: bool = True) -> ssl.SSLContext:
    """TLS that trusts the environment's authority alone, and shows the controller's certificate unless told not to.

    Raises:
        UserError: the environment has no authority or no controller certificate yet.
    """
    paths = {name: inventory.pki / name for name in ("ca.crt", "controller.crt", "controller.key")}
    for path in paths.values():
        if not path.exists():
            raise UserError(f"{path} is missing: the role pki makes it; deploy first (`make lab`).")
    context = ssl.create_default_context(cafile=str(paths["ca.crt"]))
    if certificate:
        context.load_cert_chain(str(paths["controller.crt"]), str(paths["controller.key"]))
    return context


class Asker:
    """Asks hosts over HTTPS; an answer or None, never an exception, because a silent host is a finding."""

    def __init__(self, inventory: Inventory, timeout: float = TIMEOUT) -> None:
        self.inventory = inventory
        self._http = httpx.Client(verify=tls(inventory), timeout=timeout, trust_env=False)

    def __enter__(self) -> Asker:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, address: str, port: int, path: str) -> httpx.Response | None:
        """GET, or None when nobody answers."""
        return self._ask("GET", address, port, path)

    def json(self, address: str, port: int, path: str, *, post: Any = None) -> Any:
        """Ask for a document (POST when `post` is given); None when there is none."""
        answer = self._ask("GET" if post is None else "POST", address, port, path, post)
        if answer is None:
            return None
        try:
            return answer.json()
        except ValueError:
            return None

    def _ask(self, method: str, address: str, port: int, path: str, body: Any = None) -> httpx.Response | None:
        try:
            return self._http.request(method, f"https://{address}:{port}{path}", json=body)
        except httpx.HTTPError:
            return None
