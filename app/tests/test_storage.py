"""The content-addressed store: durable before it is named, never changed, and honest about damage."""

import hashlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.test import override_settings
from sias.documents.storage import ContentAddressedStorage, CorruptDocumentError
from sias.platform import health
from sias.platform.outage import StorageUnavailableError

from tests.conftest import SOURCE

CONTENT = b"compte rendu d'entretien\n" * 5000
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path):
    return ContentAddressedStorage(tmp_path)


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_a_content_is_stored_under_its_own_hash_and_read_back(store, tmp_path):
    name = store.save("n'importe quoi.pdf", ContentFile(CONTENT))
    assert name == f"{SHA[:2]}/{SHA[2:4]}/{SHA}"
    assert (tmp_path / name).read_bytes() == CONTENT
    assert store.read(SHA) == store.open(name).read() == CONTENT
    assert store.size(name) == len(CONTENT)
    assert files(tmp_path) == [tmp_path / name]


def test_the_same_content_is_stored_once(store, tmp_path):
    assert store.save(None, ContentFile(CONTENT)) == store.save(None, io.BytesIO(CONTENT))
    assert len(files(tmp_path)) == 1


def test_a_stored_file_cannot_be_written(store, tmp_path):
    path = tmp_path / store.save(None, ContentFile(CONTENT))
    assert path.stat().st_mode & 0o222 == 0
    with pytest.raises(PermissionError):
        store.delete(str(path.relative_to(tmp_path)))
    with pytest.raises(ValueError, match="write-once"):
        store.open(str(path.relative_to(tmp_path)), "wb")


def test_everything_is_flushed_before_the_name_is_known(store, tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        events.append(("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", lambda path, to: (events.append(("rename", str(to))), rename(path, to))[1])
    final = tmp_path / store.save(None, ContentFile(CONTENT))
    renamed = events.index(("rename", str(final)))
    assert events[0][0] == "fsync"
    assert events[0][1].startswith(str(tmp_path / "tmp"))
    assert ("fsync", str(final.parent)) in events[renamed:]
    assert ("fsync", str(tmp_path)) in events[:renamed]  # the new folders too
    assert ("fsync", str(final.parent.parent)) in events[:renamed]


def test_a_writer_killed_in_the_middle_leaves_no_document(tmp_path):
    code = f"""
import os, sys
sys.path.insert(0, {str(SOURCE)!r})
os.environ.update(DJANGO_SETTINGS_MODULE="sias.settings", SIAS_ENVIRONMENT="test")
import django; django.setup()
from sias.documents.storage import ContentAddressedStorage
class Slow:
    def chunks(self, size):
        yield b"x" * 100
        os.kill(os.getpid(), 9)
ContentAddressedStorage({str(tmp_path)!r}).save(None, Slow())
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    store = ContentAddressedStorage(tmp_path)
    assert [path.parent.name for path in files(tmp_path)] == ["tmp"]
    assert list(store.stray(time.time() - 3600)) == []
    assert len(list(store.stray(time.time() + 1))) == 1


def test_a_failed_write_cleans_up_after_itself(store, tmp_path):
    class Broken:
        def chunks(self, _size):
            yield b"x"
            raise OSError(107, "Transport endpoint is not connected")

    with pytest.raises(StorageUnavailableError):
        store.save(None, Broken())
    assert files(tmp_path) == []


def test_a_disk_that_returns_something_else_is_noticed_before_the_name_is_given(store, tmp_path, monkeypatch):
    fsync = os.fsync

    def corrupting(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.parent.name == "tmp":
            path.chmod(0o640)
            with path.open("r+b") as file:
                file.write(b"?")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", corrupting)
    with pytest.raises(CorruptDocumentError):
        store.save(None, ContentFile(CONTENT))
    assert files(tmp_path) == []


def test_damage_and_loss_are_told_apart_and_a_new_copy_heals(store, tmp_path):
    path = tmp_path / store.save(None, ContentFile(CONTENT))
    assert store.verify(SHA) == "ok"
    path.chmod(0o640)
    path.write_bytes(CONTENT[:-1] + b"!")
    assert store.verify(SHA) == "altéré"
    with pytest.raises(CorruptDocumentError):
        store.read(SHA)
    store.save(None, ContentFile(CONTENT))
    assert store.verify(SHA) == "ok"
    path.unlink()
    assert store.verify(SHA) == "absent"
    with pytest.raises(FileNotFoundError):
        store.read(SHA)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "ab/cd/ef", f"00/00/{SHA}", f"{SHA[:2]}/{SHA[2:4]}/{SHA.upper()}", ""]
)
def test_only_addresses_are_names(store, name):
    with pytest.raises(ValueError, match="not a document address"):
        store.path(name)


def test_the_disk_below_a_missing_mount_is_never_used():
    with override_settings(SIAS_DOCUMENTS_ROOT=Path("/srv"), SIAS_DOCUMENTS_MOUNTED=True):
        with pytest.raises(StorageUnavailableError, match="not mounted"):
            ContentAddressedStorage().save(None, ContentFile(b"x"))
        assert "not mounted" in health.documents_usable()["detail"]
