"""What the platform's own monitoring saw during a run: Prometheus, range queries, one line per room or host."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from siasops.inventory import Inventory

ACCOUNT = "operateur"
STEP = 10.0
"""Seconds, as Prometheus scrapes."""
QUERIES = {
    "transactions per second": 'sum by (host) (rate(pg_stat_database_xact_commit{datname="sias"}[30s]))',
    "sessions that run a statement": 'sum by (host) (sias_activity_count{state="active"})',
    "requests waiting at HAProxy": "sum by (host) (haproxy_backend_current_queue)",
    "sessions to PostgreSQL through HAProxy": 'sum by (host) (haproxy_backend_current_sessions{proxy=~"pg_.*"})',
    "requests answered per second": "sum by (host) (rate(sias_http_requests_total[30s]))",
    "replica behind, MiB": "max by (host) (sias_replication_lag_bytes) / 1048576",
    "processor in use": '1 - avg by (host) (rate(node_cpu_seconds_total{mode="idle"}[30s]))',
}


def ranges(inventory: Inventory, begin: float, seconds: float) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return figure -> host -> points (seconds from the beginning, value); empty when nobody answers."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    (host,) = inventory.group("monitoring")[:1]
    context = ssl.create_default_context(cafile=str(inventory.pki / "ca.crt"))
    try:
        with httpx.Client(
            base_url=f"https://{host.address}:{inventory.ports['prometheus']}", verify=context, trust_env=False,
            auth=(ACCOUNT, inventory.secrets()["prometheus_password"]), timeout=10.0,
        ) as client:  # fmt: skip
            for what, query in QUERIES.items():
                data: dict[str, Any] = client.get(
                    "/api/v1/query_range", params={"query": query, "start": begin, "end": begin + seconds, "step": STEP}
                ).json()
                series = data.get("data", {}).get("result", [])
                if series:
                    found[what] = {
                        s["metric"].get("host", "all"): [(float(t) - begin, float(v)) for t, v in s["values"]]
                        for s in series
                    }
    except (httpx.HTTPError, ValueError, OSError):
        return found  # the report says which figures are missing; a load test does not depend on them
    return found
