"""Attach and download, through the pages."""

import hashlib
import uuid

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.utils import timezone
from sias.documents.duties import sweep, verify
from sias.documents.models import Document
from sias.platform.management.commands.worker import register, run_one
from sias.platform.models import Duty

from tests.conftest import manage

CONTENT = b"%PDF-1.7 jugement" * 1000


@pytest.fixture
def attach(client, person, documents):
    def send(content: bytes = CONTENT, name: str = "jugement été.pdf", **fields: str):
        return client.post(
            f"/personnes/{person.pk}/documents/",
            {
                "idempotency_key": uuid.uuid4().hex,
                "fichier": SimpleUploadedFile(name, content, "application/pdf"),
                **fields,
            },
        )

    return send


def test_a_document_comes_back_byte_for_byte(client, person, attach):
    response = attach()
    assert response.status_code == 302
    identity = response["X-SIAS-Document"]
    assert response["Location"] == f"/personnes/{person.pk}/#document-{identity}"
    answer = client.get(f"/documents/{identity}/")
    assert answer.content == CONTENT
    assert answer["ETag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert answer["Content-Type"] == "application/pdf"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Disposition"].startswith("attachment;")
    assert "jugement%20%C3%A9t%C3%A9.pdf" in answer["Content-Disposition"]
    assert "sandbox" in answer["Content-Security-Policy"]
    page = client.get(f"/personnes/{person.pk}/").content.decode()
    assert "jugement été.pdf" in page
    assert "vérification en attente" in page


def test_an_unchanged_document_is_not_sent_again(client, attach):
    identity = attach()["X-SIAS-Document"]
    tag = client.get(f"/documents/{identity}/")["ETag"]
    assert client.get(f"/documents/{identity}/", headers={"If-None-Match": tag}).status_code == 304


def test_sent_twice_with_one_key_it_is_attached_once(attach, person):
    key = uuid.uuid4().hex
    first, again = attach(idempotency_key=key), attach(idempotency_key=key)
    assert first["Location"] == again["Location"]
    assert Document.objects.filter(person=person).count() == 1
    assert attach(b"autre contenu", idempotency_key=key).status_code == 409


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vide.pdf", b"", "vide"),
        ("virus.exe", b"MZ", "programmes"),
        ("page.HTML", b"<script>", "programmes"),
        ("gros.bin", b"0" * (20 * 1024 * 1024 + 1), "maximum est 20"),
    ],
)
def test_what_should_not_be_kept_is_refused_in_words(attach, person, name, content, message):
    response = attach(content, name)
    assert response.status_code == 422
    assert message in response.content.decode()
    assert not Document.objects.filter(person=person).exists()


def test_a_name_cannot_leave_the_folder_of_downloads(client, attach):
    identity = attach(name='..\\..\\a"b\r\nX: y.pdf')["X-SIAS-Document"]
    header = client.get(f"/documents/{identity}/")["Content-Disposition"]
    assert "\n" not in header
    assert "\\" not in header
    assert header.count('"') == 2


def test_a_damaged_document_is_never_sent(client, attach, documents):
    identity = attach()["X-SIAS-Document"]
    path = next(path for path in documents.rglob("*") if path.is_file())
    path.chmod(0o640)
    path.write_bytes(b"autre chose")
    response = client.get(f"/documents/{identity}/")
    assert response.status_code == 500
    assert b"autre chose" not in response.content
    path.unlink()
    assert "absent du stockage" in client.get(f"/documents/{identity}/").content.decode()


def test_no_row_without_its_file(client, person, attach, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    response = attach()
    assert response.status_code == 503
    assert "stockage des documents" in response.content.decode()
    assert "choisir à nouveau le fichier" in response.content.decode()
    assert not Document.objects.filter(person=person).exists()


def test_the_worker_reads_new_documents_back(attach, documents):
    good, lost = attach()["X-SIAS-Document"], attach(b"perdu", "perdu.txt")["X-SIAS-Document"]
    sha256 = Document.objects.get(pk=lost).sha256
    (documents / sha256[:2] / sha256[2:4] / sha256).unlink()
    with transaction.atomic():
        verify()
    assert Document.objects.get(pk=good).check_state == Document.Check.OK
    assert Document.objects.get(pk=lost).check_state == Document.Check.MISSING
    assert Document.objects.get(pk=good).checked_at
    assert sweep() == ("", False)


def test_check_documents_tells_a_program(attach, documents):
    attach(uuid.uuid4().bytes)
    done = manage("check_documents", "--json", user="sias_app", check=False, SIAS_DOCUMENTS_ROOT=str(documents))
    assert done.returncode == 1  # other tests' documents are in other folders
    assert '"corrupt": 0' in done.stdout
    assert '"missing": 0' not in done.stdout
    assert f'"documents": {Document.objects.count()}' in done.stdout


def test_two_workers_never_do_the_same_duty(documents):
    register()
    Duty.objects.update(next_run=timezone.now())
    done = [run_one() for _ in range(Duty.objects.count())]
    assert len(set(done)) == len(done)
    # What is left is due because it asked for another turn, not because somebody else's turn was taken.
    assert set(Duty.objects.filter(next_run__lte=timezone.now()).values_list("name", flat=True)) <= {"find-duplicates"}
