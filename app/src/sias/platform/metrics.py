"""Figures for Prometheus. With gunicorn they are shared by its processes through files (see gunicorn_conf.py)."""

import os

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client.multiprocess import MultiProcessCollector

REQUESTS = Counter("sias_http_requests_total", "Answers by view, method and status", ["view", "method", "status"])
SECONDS = Histogram(
    "sias_http_request_seconds",
    "Time to answer by view",
    ["view"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1, 2, 5, 10, 30),
)
RETRIES = Counter("sias_database_retries_total", "Requests repeated because the database moved", ["view"])
RETRIES.labels("aucune")  # told from the start: a figure that is absent is no zero
OUTAGES = Counter(
    "sias_unavailable_total", "Requests answered 503, by what is known of their write", ["view", "outcome"]
)
OUTAGES.labels("aucune", "rien")
READS = Counter("sias_database_requests_total", "Requests by the database that answered", ["alias"])
REPLAYS = Counter("sias_idempotent_replays_total", "Repeated writes answered with their first answer")
SEARCH_SECONDS = Histogram(
    "sias_search_seconds",
    "Time of a search of the Répertoire Général in the database",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5),
)
ACCESSES = Counter("sias_accesses_total", "Entries of the access log, by where they went first", ["way"])
DOCUMENTS = Counter("sias_documents_total", "Documents by what happened to them", ["event"])


def render() -> tuple[bytes, str]:
    """Return the figures of every process of this host, and their content type."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry), CONTENT_TYPE_LATEST
    return generate_latest(PROCESS_REGISTRY), CONTENT_TYPE_LATEST
