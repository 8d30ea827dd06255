"""How infrastructure tests reach the machines: testinfra over one ssh connection per host, and Prometheus."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import testinfra
from testinfra.host import Host as Machine

from siasops.inventory import Inventory

Reach = Callable[[str], Machine]


@pytest.fixture(scope="session")
def on(lab: Inventory, tmp_path_factory: pytest.TempPathFactory) -> Reach:
    """A machine by its name, as root. One ssh connection per host stays open for all tests."""
    # Not under pytest's own folder: a socket's path may hold 108 characters only.
    control = "-o ControlMaster=auto -o ControlPersist=60s -o ControlPath=/tmp/sias-%C"

    @cache
    def reach(name: str) -> Machine:
        return testinfra.get_host(
            f"ssh://{name}", ssh_config=str(lab.state / "ssh_config"), sudo=True, ssh_extra_args=control
        )

    return reach


class Prometheus:
    """The questions that tests ask Prometheus."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def api(self, path: str, **parameters: str) -> Any:
        """What the API answers; fails when it says anything but success."""
        answer = self.client.get(f"/api/v1/{path}", params=parameters).raise_for_status().json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query."""
        result: list[dict[str, Any]] = self.api("query", query=expression)["result"]
        return result


def trust(lab: Inventory, *, identity: bool) -> ssl.SSLContext:
    """The platform's authority, with the controller's certificate when asked."""
    context = ssl.create_default_context(cafile=str(lab.pki / "ca.crt"))
    if identity:
        context.load_cert_chain(lab.pki / "controller.crt", lab.pki / "controller.key")
    return context


@pytest.fixture(scope="session")
def prometheus(lab: Inventory) -> Iterator[Prometheus]:
    """Prometheus of the lab, as an operator reads it."""
    (host,) = lab.group("monitoring")
    with httpx.Client(
        base_url=f"https://{host.address}:{lab.ports['prometheus']}",
        verify=trust(lab, identity=False),
        auth=("operateur", lab.secrets()["prometheus_password"]),
        timeout=10,
    ) as client:
        yield Prometheus(client)


@pytest.fixture(scope="session")
def probe_program() -> str:
    """Source of the small program that looks from inside a machine (see probe.py)."""
    return (Path(__file__).parent / "probe.py").read_text(encoding="utf-8")
