"""The worker lives through the move of its database."""

import os
import signal
import subprocess
import sys
import time
import uuid

from django.core.files.uploadedfile import SimpleUploadedFile
from sias.documents.models import Document

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
