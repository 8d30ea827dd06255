"""Write to the access log: `record_access(agent, object, action, reason)`.

When an entry is written:

* while the request writes (POST): at once, in its transaction, so that act and trace commit together;
* while it reads (GET), and for refusals, which roll their transaction back: after the view, in a short transaction on the
  primary, before the first byte of the answer leaves (`JournalMiddleware`). A page may come from a replica; its trace
  never goes there;
* while there is no primary: to a file of this host, forced to its disk, which the next entries bring into the log. Without
  database and without disk nothing is shown: 503.
"""

import ipaddress
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections, models, transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from sias.journal.models import Action
from sias.platform import metrics
from sias.platform.failover import unavailable
from sias.platform.outage import Outcome, StorageUnavailableError, is_transient

__all__ = ["Action", "JournalMiddleware", "record_access"]

logger = logging.getLogger("sias.journal")
PRIMARY_WAIT = 0.5  # s that an answer waits for its trace to reach the primary; then the file
AWAY = 2.0  # s without asking again after that
SAFE = {"GET", "HEAD", "OPTIONS"}
COLUMNS = (
    "happened_at",
    "agent_id",
    "agent",
    "profiles",
    "action",
    "domain",
    "object_type",
    "object_id",
    "label",
    "person_id",
    "reason",
    "detail",
    "origin",
    "host",
)
_request: ContextVar[HttpRequest | None] = ContextVar("sias_journal_request", default=None)


@dataclass(frozen=True)
class Access:
    """An entry that is about to be written, as JSON can hold it."""

    happened_at: str
    agent_id: int | None
    agent: str
    action: str
    profiles: str = ""
    domain: str = ""
    object_type: str = ""
    object_id: str = ""
    label: str = ""
    person_id: int | None = None
    reason: str = ""
    detail: dict = field(default_factory=dict)
    origin: str | None = None
    host: str = ""


def record_access(
    agent: object,
    target: models.Model | None,
    action: str,
    reason: str = "",
    *,
    domain: str = "",
    detail: dict | None = None,
    after: bool = False,
) -> None:
    """Write that `agent` did `action` (see `Action`) to `target` (any saved model, None for a search or a sign-in).

    `detail` is what a reader of the log needs and nothing of the case itself: criteria of a search, names of fields.
    `after` keeps the entry even though the request's transaction is going to be rolled back (refusals).
    """
    request = _request.get()
    entry = Access(
        happened_at=timezone.now().isoformat(),
        agent_id=getattr(agent, "pk", None),
        agent=(getattr(agent, "username", "") or "-")[:150],
        profiles=",".join(getattr(agent, "sias_profiles", ()))[:200],
        action=str(action),
        domain=domain,
        object_type=target._meta.label_lower if target is not None else "",  # noqa: SLF001 - documented by Django
        object_id=str(target.pk)[:60] if target is not None else "",
        label=str(target)[:200] if target is not None else "",
        person_id=_person_id(target),
        reason=reason[:500],
        detail=detail or {},
        origin=_origin(request),
        host=settings.SIAS_HOST,
    )
    if request is not None and (after or request.method in SAFE):
        request.__dict__.setdefault("sias_trail", []).append(entry)
        return
    with transaction.atomic(using="default"):
        write([entry])


def _person_id(target: models.Model | None) -> int | None:
    if target is None:
        return None
    if target._meta.label_lower == "repertoire.person":  # noqa: SLF001
        return target.pk
    return getattr(target, "person_id", None)


def _origin(request: HttpRequest | None) -> str | None:
    """Return the workstation's address: HAProxy replaces the header, nobody else reaches gunicorn's socket."""
    if request is None:
        return None
    given = request.headers.get("X-Forwarded-For", "").rsplit(",", 1)[-1].strip() or request.META.get("REMOTE_ADDR", "")
    try:
        return str(ipaddress.ip_address(given))
    except ValueError:  # a Unix socket has none
        return None


_INSERT = (
    "INSERT INTO journal_entry ({columns}) SELECT {columns} FROM jsonb_populate_recordset(NULL::journal_entry, %s)"
)


def write(entries: list[Access]) -> None:
    """Insert the entries in the transaction of now, in one statement."""
    rows = json.dumps([asdict(entry) for entry in entries], ensure_ascii=False)
    with connections["default"].cursor() as cursor:
        cursor.execute(_INSERT.format(columns=", ".join(COLUMNS)), [rows])
    metrics.ACCESSES.labels("database").inc(len(entries))


class JournalMiddleware:
    """Stand outside the failover middleware: the trace of an answer is durable before the answer leaves."""

    def __init__(self, get_response: Callable) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, then write down what the answer shows."""
        token = _request.set(request)
        try:
            response = self.get_response(request)
            trail = request.__dict__.get("sias_trail")  # the last attempt's: a repetition starts without
        finally:
            _request.reset(token)
        if not trail:
            return response
        try:
            keep(trail)
        except OSError as error:
            logger.exception("no trace could be kept: the page is not shown")
            failure = StorageUnavailableError(str(error))
            return unavailable(request, None, failure, Outcome.NOTHING_SAVED, safe=request.method in SAFE)
        return response


_away_until = 0.0


def keep(trail: list[Access]) -> None:
    """Write the entries to the log, else to this host's disk. Raises OSError when neither holds."""
    global _away_until  # noqa: PLW0603 - one memory per process of an absent primary
    if time.monotonic() >= _away_until:
        connection = connections["default"]
        try:
            connection.deadline = time.monotonic() + PRIMARY_WAIT
            if not connection.in_atomic_block:
                connection.close_if_unusable_or_obsolete()
            with transaction.atomic(using="default"):
                write(trail)
        except (DatabaseError, InterfaceError) as error:
            if not is_transient(error):
                raise
            if not connection.in_atomic_block:
                connection.close()
            _away_until = time.monotonic() + AWAY
            logger.warning("the access log waits on this host: %s", " ".join(str(error).split()))
        else:
            spool.drain()
            return
    spool.append(trail)
    metrics.ACCESSES.labels("spool").inc(len(trail))


class Spool:
    """Entries that wait for a primary: one file per process, forced to disk at each append."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.dirty = True  # what a former process left behind

    @property
    def folder(self) -> Path:
        """Where files stand."""
        return Path(settings.SIAS_JOURNAL_SPOOL)

    def append(self, trail: list[Access]) -> None:
        """Add the entries; return once they are on disk."""
        text = "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in trail)
        with self.lock:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self.folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            self.dirty = True

    def drain(self) -> int:
        """Bring waiting entries into the log; return how many. A file is removed after its COMMIT: none is lost."""
        if not self.dirty or not self.lock.acquire(blocking=False):
            return 0
        try:
            count = 0
            for path in sorted(self.folder.glob("*.jsonl")) if self.folder.is_dir() else []:
                mine = path.with_suffix(f".{uuid.uuid4().hex}.draining")
                try:
                    path.rename(mine)
                except FileNotFoundError:  # another process of this host was faster
                    continue
                count += self._bring(mine, path)
            self.dirty = False
            return count
        finally:
            self.lock.release()

    @staticmethod
    def _bring(mine: Path, path: Path) -> int:
        entries = [Access(**json.loads(line)) for line in mine.read_text(encoding="utf-8").splitlines()]
        try:
            with transaction.atomic(using="default"):
                write(entries)
        except BaseException:
            with path.open("a", encoding="utf-8") as again:
                again.write(mine.read_text(encoding="utf-8"))
            mine.unlink()
            raise
        mine.unlink()
        return len(entries)


spool = Spool()
