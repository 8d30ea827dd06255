"""Tell ok, failed and unknown apart.

The rule: before COMMIT is sent a failure is definite, since PostgreSQL rolls back what was not committed. Once it is
sent, only an answer counts: the tag COMMIT without a warning is ok, the tag ROLLBACK is failed, and everything else,
including a warning that the standby was not waited for, is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

from siasops.drill.history import Outcome

DEFINITE_AT_COMMIT = ("23", "40")
"""SQLSTATE classes by which COMMIT itself refuses: deferred constraints, serialization and deadlock."""


def of_commit(tag: str | None, warnings: Sequence[str]) -> tuple[Outcome, str]:
    """Judge an answered COMMIT.

    Args:
        tag: the command tag that the server answered.
        warnings: SQLSTATE and text of the warnings that came with it. A cancelled wait for the synchronous standby says
            WARNING 01000 (57P01 when the backend was terminated): committed here, perhaps nowhere else.
    """
    if tag == "ROLLBACK":
        return Outcome.FAILED, "rolled back"
    if tag != "COMMIT":
        return Outcome.UNKNOWN, f"unexpected answer {tag}"
    if warnings:
        return Outcome.UNKNOWN, warnings[0]
    return Outcome.OK, ""


def of_error(sqlstate: str | None, *, commit_sent: bool) -> Outcome:
    """Judge an error, or a lost link (`sqlstate` None)."""
    if not commit_sent:
        return Outcome.FAILED
    if sqlstate and sqlstate[:2] in DEFINITE_AT_COMMIT:
        return Outcome.FAILED
    return Outcome.UNKNOWN


def of_http_write(status: int | None, *, sent: bool) -> Outcome:
    """Judge a write by HTTP: 2xx and 3xx are ok, 4xx and an unsent request are failed, all else is unknown.

    A 503 is unknown too: the application answers it after a retry whose own COMMIT may have been lost.
    """
    if status is None:
        return Outcome.UNKNOWN if sent else Outcome.FAILED
    if status < 400:  # noqa: PLR2004 - HTTP
        return Outcome.OK
    return Outcome.FAILED if status < 500 else Outcome.UNKNOWN  # noqa: PLR2004 - HTTP
