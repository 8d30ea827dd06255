"""What the platform's own monitoring saw during a run: Prometheus, range queries, one line per room or host."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from siasops.cluster.client import OPERATOR
from siasops.inventory import Host, Inventory

STEP = 10.0
"""Seconds, as Prometheus scrapes."""
QUERIES = {
    "transactions per second": "sum by (host) (rate(sias_pg_commits_total[30s]))",
    "sessions of clients": "max by (host) (sias_pg_connections)",
    "commits waiting for a standby": "max by (host) (sias_pg_waiting_for_standby)",
    "requests waiting at HAProxy": 'sum by (host) (haproxy_backend_current_queue{proxy="web_ready"})',
    "clients waiting at PgBouncer": 'sum by (host) (sias_pgbouncer_clients{state="waiting"})',
    "connections waiting for PostgreSQL": 'sum by (host) (haproxy_backend_current_queue{proxy=~"pg_.*"})',
    "requests answered per second": "sum by (host) (rate(sias_http_requests_total[30s]))",
    "replica behind, MiB": "max by (standby) (sias_pg_standby_replay_behind_bytes) / 1048576",
    "processor in use, share": 'max by (host) (1 - rate(node_cpu_seconds_total{mode="idle", cpu="0"}[30s]))',
}


def ranges(inventory: Inventory, begin: float, seconds: float) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return figure -> host -> points (seconds from the beginning, value); empty when nobody answers."""
    for host in inventory.watchers():
        if found := _ranges(inventory, host, begin, seconds):
            return found
    return {}


def _ranges(
    inventory: Inventory, host: Host, begin: float, seconds: float
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    context = ssl.create_default_context(cafile=str(inventory.pki / "ca.crt"))
    try:
        with httpx.Client(
            base_url=f"https://{host.address}:{inventory.ports['prometheus']}", verify=context, trust_env=False,
            auth=(OPERATOR, inventory.secrets()["prometheus_password"]), timeout=10.0,
        ) as client:  # fmt: skip
            for what, query in QUERIES.items():
                data: dict[str, Any] = client.get(
                    "/api/v1/query_range", params={"query": query, "start": begin, "end": begin + seconds, "step": STEP}
                ).json()
                series = data.get("data", {}).get("result", [])
                if series:
                    found[what] = {
                        next(iter(s["metric"].values()), "all"): [(float(t) - begin, float(v)) for t, v in s["values"]]
                        for s in series
                    }
    except (httpx.HTTPError, ValueError, OSError):
        return found  # the report says which figures are missing; a load test does not depend on them
    return found
