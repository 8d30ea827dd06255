"""The worker lives through the move of its database."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import override_settings
from django.utils import timezone
from sias.documents.models import Document
from sias.platform import duties
from sias.platform.management.commands import worker as workers
from sias.platform.models import Duty

from tests.conftest import SOURCE


def test_a_worker_goes_on_after_its_database_was_away(cluster, client, person, documents):
    worker = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "sias", "worker"],
        cwd="/",
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "SIAS_DOCUMENTS_ROOT": str(documents)},
    )
    try:
        assert "started" in worker.stderr.readline()
        cluster.stop()
        time.sleep(1.5)  # long enough for a look at nothing
        cluster.start()
        client.post(
            f"/personnes/{person.pk}/documents/",
            {"idempotency_key": uuid.uuid4().hex, "fichier": SimpleUploadedFile("a.txt", uuid.uuid4().bytes)},
        )
        deadline = time.monotonic() + 30
        while Document.objects.get(person=person).check_state == Document.Check.PENDING:
            assert worker.poll() is None, worker.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert Document.objects.get(person=person).check_state == Document.Check.OK
    finally:
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=20)
    assert worker.returncode == 0
    assert "stopped" in said
    assert "Traceback" not in said


@pytest.fixture
def broken(monkeypatch):
    """A duty of the night that fails; the only one that is due."""
    workers.register()
    Duty.objects.update(next_run=timezone.now() + timedelta(days=1))

    def fail() -> tuple[str, bool]:
        raise FileNotFoundError("nothing there")

    monkeypatch.setitem(duties.DUTIES, "broken", duties.DutyKind(24 * 3600, fail))
    duty = Duty.objects.create(name="broken", next_run=timezone.now())
    yield duty
    duty.delete()


def test_a_duty_that_fails_is_tried_again_soon_and_its_failures_are_counted_until_it_is_done(broken, monkeypatch):
    for failures in (1, 2, 3):
        assert workers.run_one() == "broken"
        broken.refresh_from_db()
        assert broken.failures == failures
        assert broken.last_result == "FileNotFoundError: nothing there"
        assert broken.next_run - broken.last_run < workers.RETRY + timedelta(minutes=1)
        assert workers.run_one() is None
        Duty.objects.filter(name="broken").update(next_run=timezone.now())
    monkeypatch.setitem(duties.DUTIES, "broken", duties.DutyKind(24 * 3600, lambda: ("", False)))
    assert workers.run_one() == "broken"
    broken.refresh_from_db()
    assert (broken.failures, broken.last_result) == (0, "")
    assert broken.next_run - broken.last_run > timedelta(hours=23)


def test_the_worker_tells_its_host_how_every_duty_stands(broken, tmp_path):
    with override_settings(SIAS_STATE=str(tmp_path)):
        workers.Command().handle(once=True)
        told = {row.pop("duty"): row for row in json.loads((tmp_path / "duties.json").read_text())}
    assert set(told) == set(duties.DUTIES)
    broken.refresh_from_db()
    assert told["broken"] == {"every": 86400, "at": broken.last_run.timestamp(), "failures": 1}
