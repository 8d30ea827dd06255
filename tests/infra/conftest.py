"""How infrastructure tests reach the machines: testinfra over one ssh connection per host, and Prometheus."""

from __future__ import annotations

import base64
import json
import shlex
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import testinfra
from testinfra.host import Host as Machine

from siasops.inventory import Host, Inventory

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


@contextmanager
def reading(lab: Inventory, host: Host) -> Iterator[Prometheus]:
    """Prometheus of one host, as an operator reads it."""
    with httpx.Client(
        base_url=f"https://{host.address}:{lab.ports['prometheus']}",
        verify=trust(lab, identity=False),
        auth=("operateur", lab.secrets()["prometheus_password"]),
        timeout=10,
    ) as client:
        yield Prometheus(client)


@pytest.fixture(scope="session")
def prometheus(lab: Inventory) -> Iterator[Prometheus]:
    """Prometheus outside both rooms."""
    with reading(lab, lab.watchers()[0]) as found:
        yield found


Attempt = tuple[str, int, str]
Look = Callable[[str | None, list[Attempt]], list[str]]


@pytest.fixture(scope="session")
def look_from(on: Reach) -> Look:
    """Try TCP connections from inside a machine (None: from the controller), all at once; see probe.py."""
    program = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")

    def look(name: str | None, attempts: list[Attempt]) -> list[str]:
        if not attempts:
            return []
        lines = "".join(json.dumps(attempt) + "\n" for attempt in attempts)
        if name is None:
            command = [sys.executable, "-c", program]
            output = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
        else:
            packed = base64.b64encode(lines.encode()).decode()
            output = on(name).check_output(f"echo {packed} | base64 -d | python3 -c {shlex.quote(program)}")
        results: list[str] = [json.loads(line) for line in output.splitlines()]
        assert len(results) == len(attempts), output
        return results

    return look


@pytest.fixture(scope="session")
def listening(lab: Inventory, on: Reach) -> dict[str, set[int]]:
    """The TCP ports on which each machine listens to others (loopback and link-local aside)."""
    found: dict[str, set[int]] = {}
    for name in lab.hosts:
        sockets = [line.split()[3].rpartition(":") for line in on(name).check_output("ss -Hltn").splitlines()]
        found[name] = {int(port) for address, _, port in sockets if not address.startswith(("127.", "[::1]", "[fe80"))}
    return found
