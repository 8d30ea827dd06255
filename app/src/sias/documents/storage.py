"""Where documents live: content-addressed, write-once files on the replicated volume.

A file is written under another name, fsynced, read back and compared with its SHA-256, renamed to `ab/cd/<sha256>`, and
the folder is fsynced; only then may a row name it. A crash in the middle leaves a stray file in `tmp/`, never a row
without a file. The same content is stored once. Nothing is ever changed or deleted here.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.files.base import ContentFile, File
from django.core.files.storage import Storage
from django.utils.deconstruct import deconstructible

from sias.platform.outage import StorageUnavailableError

CHUNK = 1024 * 1024
_ADDRESS = re.compile(r"^([0-9a-f]{2})/([0-9a-f]{2})/(\1\2[0-9a-f]{60})$")


class CorruptDocumentError(Exception):
    """A stored file is not what its name says."""


@deconstructible
class ContentAddressedStorage(Storage):
    """Django's storage interface over such a folder. Names are addresses: `ab/cd/<sha256>`."""

    def __init__(self, root: str | Path | None = None) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        """The folder; refused when it is the host's own disk below a mount that is gone."""
        root = Path(self._root or settings.SIAS_DOCUMENTS_ROOT)
        if settings.SIAS_DOCUMENTS_MOUNTED and self._root is None:
            try:
                own_disk = root.stat().st_dev == Path("/").stat().st_dev
            except OSError as error:
                raise StorageUnavailableError(str(error)) from error
            if own_disk:
                raise StorageUnavailableError(f"{root} is not mounted")
        return root

    @staticmethod
    def address(sha256: str) -> str:
        """Return the name under which a content is stored."""
        return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"

    def path(self, name: str) -> str:
        """Return the file's path; raises ValueError on anything that is not an address."""
        if not _ADDRESS.match(name):
            raise ValueError(f"not a document address: {name!r}")
        return str(self.root / name)

    def save(self, name: str | None, content: File, max_length: int | None = None) -> str:  # noqa: ARG002 - Django's
        """Store a content and return its address; it is durable in the volume when this returns.

        `name` is of no importance. Raises StorageUnavailableError when the volume cannot take it.
        """
        try:
            return self._store(content if hasattr(content, "chunks") else File(content))
        except OSError as error:
            raise StorageUnavailableError(f"document volume: {error}") from error

    def _store(self, content: File) -> str:
        root = self.root
        temporary = root / "tmp" / uuid.uuid4().hex
        temporary.parent.mkdir(exist_ok=True)
        digest = hashlib.sha256()
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o440)
            with os.fdopen(descriptor, "wb") as file:
                for chunk in content.chunks(CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            sha256 = digest.hexdigest()
            self._compare(temporary, sha256)
            name = self.address(sha256)
            final = root / name
            if self._already_there(final, sha256):
                return name
            for folder in (final.parent.parent, final.parent):
                if not folder.is_dir():
                    folder.mkdir(exist_ok=True)
                    _fsync_folder(folder.parent)
            temporary.rename(final)
            _fsync_folder(final.parent)
            return name
        finally:
            temporary.unlink(missing_ok=True)

    def _already_there(self, final: Path, sha256: str) -> bool:
        """Tell whether the content is stored and whole; a damaged file is replaced by the good one in hand."""
        try:
            self._compare(final, sha256)
        except (FileNotFoundError, CorruptDocumentError):
            return False
        _fsync_folder(final.parent)  # its writer may not have come that far yet
        return True

    @staticmethod
    def _compare(path: Path, sha256: str) -> None:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # from the disk, not from memory
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise CorruptDocumentError(f"{path.name}: content is {found}")

    def read(self, sha256: str) -> bytes:
        """Return a whole content, verified. Raises FileNotFoundError, CorruptDocumentError, StorageUnavailableError."""
        path = Path(self.path(self.address(sha256)))
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageUnavailableError(f"document volume: {error}") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise CorruptDocumentError(sha256)
        return content

    def verify(self, sha256: str) -> str:
        """Return `ok`, `absent` or `altéré` after reading the file back; StorageUnavailableError when none is known."""
        path = Path(self.path(self.address(sha256)))
        try:
            self._compare(path, sha256)
        except FileNotFoundError:
            return "absent"
        except CorruptDocumentError:
            return "altéré"
        except OSError as error:
            raise StorageUnavailableError(f"document volume: {error}") from error
        return "ok"

    def open(self, name: str, mode: str = "rb") -> File:
        """Return a verified content."""
        if mode != "rb":
            raise ValueError("documents are write-once")
        self.path(name)
        return ContentFile(self.read(name.rsplit("/", 1)[-1]), name=name)

    def exists(self, name: str) -> bool:
        """Tell whether an address holds a file."""
        return Path(self.path(name)).exists()

    def size(self, name: str) -> int:
        """Return the size in bytes."""
        return Path(self.path(name)).stat().st_size

    def delete(self, name: str) -> None:
        """Never: retention will have its own, logged way."""
        raise PermissionError(f"documents are write-once: {name}")

    def stray(self, older_than: float) -> Iterator[Path]:
        """Yield what crashed writers left in `tmp/`, last touched before `older_than` (seconds since the epoch)."""
        folder = self.root / "tmp"
        if folder.is_dir():
            for path in folder.iterdir():
                if path.stat().st_mtime < older_than:
                    yield path


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
