"""Health and figures."""

import threading

from django.db import connections
from django.test import Client, override_settings
from sias.platform import health


def test_live_and_ready_answer_anyone_with_room_and_host():
    client = Client()
    assert client.get("/healthz/live").json() == {"status": "ok", "room": "a", "host": "test-a1"}
    ready = client.get("/healthz/ready")
    assert ready.status_code == 200
    assert ready.json()["checks"]["database"]["detail"] == "primary"


def test_ready_wants_a_database_that_can_write(cluster):
    cluster.set(default_transaction_read_only="on")
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sias_app'")
    try:
        response = Client().get("/healthz/ready")
    finally:
        cluster.set(default_transaction_read_only="")
    assert response.status_code == 503
    assert response.json()["checks"]["database"]["detail"] == "the server answers but cannot write"
    assert Client().get("/healthz/ready").status_code == 200


def test_ready_wants_the_documents(tmp_path):
    with override_settings(SIAS_DOCUMENTS_ROOT=tmp_path / "absent"):
        response = Client().get("/healthz/ready")
    assert response.status_code == 503
    assert response.json()["checks"]["documents"]["ok"] is False
    assert response.json()["checks"]["database"]["ok"] is True


def test_a_hanging_volume_does_not_hang_the_check(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(health, "inspect_documents", lambda: release.wait(20) and "")
    monkeypatch.setattr(health, "DEADLINE", 0.2)
    for _ in range(3):
        assert "no answer" in health.documents_usable()["detail"]
    release.set()


def test_ready_does_not_depend_on_a_replica(monkeypatch):
    monkeypatch.setitem(connections["replica"].settings_dict, "HOST", "/nonexistent")
    assert Client().get("/healthz/ready").status_code == 200


def test_figures_are_there_for_prometheus(client):
    client.get("/repertoire/?q=muller")
    page = Client().get("/metrics").content.decode()
    for name in (
        "sias_http_requests_total",
        "sias_http_request_seconds_bucket",
        "sias_search_seconds_count",
        "sias_database_retries_total",
        "sias_unavailable_total",
        "sias_documents_total",
    ):
        assert name in page
    assert 'view="repertoire:search"' in page
    assert "muller" not in page
