"""An alert is raised for real: a machine whose exporter stops is reported, and forgotten when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from testinfra.host import Host as Machine

from siasops.inventory import Inventory
from tests.infra import conftest as infra

# Fixtures of the infrastructure tests.
on = infra.on
prometheus = infra.prometheus

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


def test_a_host_that_falls_silent_is_reported_and_forgotten_when_it_is_back(
    lab: Inventory, on: infra.Reach, prometheus: infra.Prometheus
) -> None:
    victim = lab.group("applications")[-1]
    (monitor,) = lab.group("monitoring")

    def reported() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(
            f"https://{monitor.address}:{lab.ports['alertmanager']}/api/v2/alerts",
            params={"filter": f'host="{victim.name}"', "active": "true"},
            verify=infra.trust(lab, identity=False),
            auth=("operateur", lab.secrets()["prometheus_password"]),
        ).json()
        return [alert for alert in found if alert["labels"]["alertname"] == "HostDown"]

    assert reported() == []
    with stopped(on(victim.name), "prometheus-node-exporter"):
        took = wait_for(lambda: bool(reported()), FIRES_WITHIN_S)
        assert took > HELD_S - 2 * SCRAPE_S, "it fired before it had held for a minute"
        (alert,) = reported()
        assert alert["labels"]["room"] == victim.room
        assert alert["labels"]["severity"] == "critical"
        assert alert["status"]["state"] == "active"
        assert alert["annotations"]["runbook"] == "runbooks/alerts/HostDown.md"
        assert victim.name in alert["annotations"]["summary"]
    wait_for(lambda: not reported(), RESOLVED_WITHIN_S + 60)
    assert prometheus.query(f'up{{job="node", host="{victim.name}"}} == 1')
