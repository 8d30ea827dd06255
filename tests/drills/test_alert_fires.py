"""An alert is raised for real: machines whose exporters stop are reported, and forgotten when they are back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
from testinfra.host import Host as Machine

from siasops.inventory import WITNESS_ROOM, Host, Inventory
from tests.infra import conftest as infra

# A fixture of the infrastructure tests.
on = infra.on

SCRAPE_S = 10  # roles/monitoring: monitoring_scrape_interval, also between two looks at the rules
HELD_S = 60  # HostDown: for
FIRES_WITHIN_S = HELD_S + 3 * SCRAPE_S
RESOLVED_WITHIN_S = 3 * SCRAPE_S


@contextmanager
def stopped(machine: Machine, unit: str) -> Iterator[None]:
    """Stop a unit, and start it again whatever happens."""
    machine.check_output("systemctl stop %s", unit)
    try:
        yield
    finally:
        machine.check_output("systemctl start %s", unit)


def wait_for(condition: Callable[[], bool], within: float) -> float:
    """Seconds until the condition holds; fails at the deadline."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, f"not within {within:g} s"
        time.sleep(1)
    return time.monotonic() - began


def test_hosts_that_fall_silent_are_reported_without_the_witness_and_forgotten_when_they_are_back(
    lab: Inventory, on: infra.Reach
) -> None:
    """One host of a room, and the witness with everything that watches there: the Prometheus of a room reports both."""
    victim, (witness, monitor, *_) = lab.group("applications")[-1], lab.watchers()
    assert (witness.room, victim.room != monitor.room) == (WITNESS_ROOM, True)

    def reported(alert: str, host: Host) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(
            f"https://{monitor.address}:{lab.ports['alertmanager']}/api/v2/alerts",
            params={
                "filter": [f'host="{host.name}"', f'alertname="{alert}"'],
                "silenced": "false",
                "inhibited": "false",
            },
            verify=infra.trust(lab, identity=False),
            auth=("operateur", lab.secrets()["prometheus_password"]),
        ).json()
        return found

    assert not reported("HostDown", victim)
    with ExitStack() as stack:
        for unit in ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter"):
            stack.enter_context(stopped(on(witness.name), unit))
        stack.enter_context(stopped(on(victim.name), "prometheus-node-exporter"))
        took = wait_for(lambda: bool(reported("HostDown", victim)), FIRES_WITHIN_S)
        assert took > HELD_S - 2 * SCRAPE_S, "it fired before it had held for a minute"
        (alert,) = reported("HostDown", victim)
        assert alert["labels"]["room"] == victim.room
        assert alert["labels"]["severity"] == "critical"
        assert alert["status"]["state"] == "active"
        assert alert["annotations"]["runbook"] == "runbooks/alerts/HostDown.md"
        assert alert["annotations"]["dashboard"].endswith(f":{lab.ports['prometheus']}/consoles/salle.html")
        assert victim.name in alert["annotations"]["summary"]
        wait_for(lambda: bool(reported("WitnessDown", witness)), 3 * SCRAPE_S)
        assert not reported("HostDown", witness), "one cause, one alert"
    wait_for(lambda: not reported("HostDown", victim) and not reported("WitnessDown", witness), RESOLVED_WITHIN_S + 60)
    with infra.reading(lab, monitor) as prometheus:
        assert prometheus.query(f'up{{job="node", host="{victim.name}"}} == 1')
