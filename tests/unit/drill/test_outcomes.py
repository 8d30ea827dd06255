"""Every way in which an operation can end is ok, failed or unknown, and never called better than it is."""

from __future__ import annotations

import pytest

from siasops.drill.history import Outcome
from siasops.drill.workloads.outcomes import of_commit, of_error, of_http_write


@pytest.mark.parametrize(
    ("tag", "warnings", "expected"),
    [
        ("COMMIT", [], Outcome.OK),
        ("ROLLBACK", [], Outcome.FAILED),
        ("COMMIT", ["01000 canceling wait for synchronous replication due to user request"], Outcome.UNKNOWN),
        (
            "COMMIT",
            ["57P01 canceling the wait for synchronous replication and terminating connection"],
            Outcome.UNKNOWN,
        ),
        (None, [], Outcome.UNKNOWN),
        ("SELECT 1", [], Outcome.UNKNOWN),
    ],
)
def test_only_a_clean_commit_is_acknowledged(tag: str | None, warnings: list[str], expected: Outcome) -> None:
    assert of_commit(tag, warnings)[0] is expected


@pytest.mark.parametrize("sqlstate", [None, "57P01", "57P02", "57014", "08006", "08P01", "25006", "XX000"])
def test_an_error_after_commit_was_sent_is_unknown(sqlstate: str | None) -> None:
    assert of_error(sqlstate, commit_sent=True) is Outcome.UNKNOWN


@pytest.mark.parametrize("sqlstate", ["23505", "40001", "40P01"])
def test_a_commit_that_was_refused_is_definite(sqlstate: str) -> None:
    assert of_error(sqlstate, commit_sent=True) is Outcome.FAILED


@pytest.mark.parametrize("sqlstate", [None, "57P01", "25006", "23505"])
def test_an_error_before_commit_was_sent_is_definite(sqlstate: str | None) -> None:
    assert of_error(sqlstate, commit_sent=False) is Outcome.FAILED


@pytest.mark.parametrize(
    ("status", "sent", "expected"),
    [
        (302, True, Outcome.OK),
        (200, True, Outcome.OK),
        (403, True, Outcome.FAILED),
        (503, True, Outcome.UNKNOWN),
        (None, True, Outcome.UNKNOWN),
        (None, False, Outcome.FAILED),
    ],
)
def test_a_web_write_is_acknowledged_by_its_status_alone(status: int | None, sent: bool, expected: Outcome) -> None:
    assert of_http_write(status, sent=sent) is expected
