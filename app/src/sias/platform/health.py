"""Is this host fit to serve? Short deadlines, no session, nothing that a replica could spoil."""

import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import connections

from sias.platform.postgresql.base import ask

DEADLINE = 1.0  # s for each check
# Assigning a transaction identifier is the smallest act that only a primary can do; nothing is committed.
WRITE_PROBE = b"SELECT pg_is_in_recovery(), current_setting('transaction_read_only'), pg_current_xact_id()::text"

_executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="documents-check")
_pending: Future | None = None
_database_lock = threading.Lock()
_database: psycopg.Connection | None = None


def database_accepts_writes() -> dict:
    """Check the write path on a connection of its own: requests must not wait for a probe, nor a probe for them."""
    global _database  # noqa: PLW0603 - one probe connection per process
    start = time.monotonic()
    if not _database_lock.acquire(timeout=DEADLINE):
        return {"ok": False, "detail": "the previous probe still waits"}
    try:
        for fresh in (False, True):  # a connection that died since the last probe is replaced once
            try:
                if _database is None or _database.closed:
                    params = connections["default"].get_connection_params()
                    _database = psycopg.connect(
                        **params | {"autocommit": True, "cursor_factory": psycopg.Cursor, "context": None}
                    )
                recovering, read_only, _xid = ask(_database, WRITE_PROBE, DEADLINE)
            except psycopg.Error as error:
                if _database is not None:
                    _database.close()
                    _database = None
                if fresh or time.monotonic() - start > DEADLINE:
                    return {"ok": False, "detail": str(error).strip().splitlines()[0][:200]}
            else:
                writable = recovering == b"f" and read_only == b"off"
                detail = "primary" if writable else "the server answers but cannot write"
                if not writable:
                    _database.close()
                    _database = None
                return {"ok": writable, "detail": detail, "ms": round((time.monotonic() - start) * 1000, 1)}
    finally:
        _database_lock.release()
    return {"ok": False, "detail": "no connection"}


def close() -> None:
    """Close the probe's connection."""
    global _database  # noqa: PLW0603
    with _database_lock:
        if _database is not None:
            _database.close()
            _database = None


def inspect_documents() -> str:
    """Return "" when the volume is mounted and writable, else what is wrong. May hang on a dead mount."""
    root = Path(settings.SIAS_DOCUMENTS_ROOT)
    if not root.is_dir():
        return f"{root} is missing"
    if settings.SIAS_DOCUMENTS_MOUNTED and root.stat().st_dev == Path("/").stat().st_dev:
        return f"{root} is on the host's own disk: the replicated volume is not mounted"
    if not os.access(root, os.W_OK | os.X_OK):
        return f"{root} is not writable"
    os.listdir(root)  # noqa: PTH208 - a dead FUSE mount answers stat from its cache, not this
    return ""


def documents_usable() -> dict:
    """Check the volume in a thread: a mount without its bricks blocks for as long as it likes."""
    global _pending  # noqa: PLW0603 - one check at a time, however many probes
    start = time.monotonic()
    if _pending is None or _pending.done():
        _pending = _executor.submit(inspect_documents)
    try:
        detail = _pending.result(timeout=DEADLINE)
    except FutureTimeoutError:
        return {"ok": False, "detail": f"no answer within {DEADLINE} s"}
    except OSError as error:
        return {"ok": False, "detail": str(error)}
    return {"ok": not detail, "detail": detail or "mounted", "ms": round((time.monotonic() - start) * 1000, 1)}
