"""Which errors mean "the database is moving", and what became of a write when one of them struck."""

import enum
import logging

import psycopg
from django.core.exceptions import DisallowedHost, PermissionDenied
from django.db import Error as DjangoDatabaseError

from sias.platform.postgresql.base import UnacknowledgedCommitError

# Worth one more try of a request that can be repeated: fenced or demoted server, shutdown, crash, starting up,
# serialization failure, deadlock. Class 08 is the loss of the connection (PgBouncer reports "no server" that way too).
RETRY = {"25006", "57P01", "57P02", "57P03", "40001", "40P01"}
# The server is there and says no for now: too slow, a lock, too many connections, out of memory or disk.
BUSY = {"57014", "55P03"}
BUSY_CLASSES = {"53"}
# What libpq says of an answer that is not one, before it closes the connection; an error without a class of its own.
BROKEN = "lost synchronization with server"


class Outcome(enum.Enum):
    """What is known of a write that was not acknowledged."""

    NOTHING_SAVED = "rien"
    UNKNOWN = "inconnu"


class StorageUnavailableError(Exception):
    """The replicated document volume cannot be used now."""


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def is_transient(error: BaseException | None) -> bool:
    """Tell whether `error` comes from a database or a document volume that is away, moving or overloaded."""
    return worth_a_retry(error) or any(
        isinstance(link, StorageUnavailableError)
        or (
            isinstance(link, psycopg.Error)
            and ((link.sqlstate or "") in BUSY or (link.sqlstate or "")[:2] in BUSY_CLASSES)
        )
        for link in _chain(error)
    )


def worth_a_retry(error: BaseException | None) -> bool:
    """Tell whether the same request may succeed on another connection right away."""
    for link in _chain(error):
        if isinstance(link, UnacknowledgedCommitError):
            return True
        if isinstance(link, psycopg.Error):
            state = link.sqlstate
            if state is None:
                # The link itself: connection refused, lost, timed out, or already closed; or ended in the middle of a row,
                # which PgBouncer follows with its own message when a server goes away.
                return isinstance(link, (psycopg.OperationalError, psycopg.InterfaceError)) or BROKEN in str(link)
            return state in RETRY or state.startswith("08")
        if isinstance(link, DjangoDatabaseError) and link.__cause__ is None and "closed" in str(link):
            return True
    return False


class CalmFilter(logging.Filter):
    """During a failover, one line per failed request instead of a page of traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop the traceback of what is no defect, and what probes repeat every second."""
        if getattr(record, "request", None) is not None and record.request.path.startswith("/healthz/"):
            return False
        error = record.exc_info[1] if record.exc_info else None
        if is_transient(error) or isinstance(error, (DisallowedHost, PermissionDenied)):
            record.msg = f"{record.getMessage()} ({type(error).__name__}: {error})".replace("\n", " ")
            record.args = ()
            record.exc_info = None
            record.exc_text = None
        return True
