"""Who serves, decided once: a row in blue's own database, which whoever comes first writes and nobody changes.

A cutover that dies with its controller must not leave users before a closed door. So a session on blue's own host waits for
the limit to pass, then decides for blue and opens it again, unless green has been decided for. The new side opens only
after it has been: one row, one winner, and never both open.
"""

from __future__ import annotations

from typing import Any

from siasops.migrate.database import Database, literal
from siasops.migrate.fence import opening
from siasops.migrate.tables import LOCAL

TABLE = LOCAL
MADE = (
    f"CREATE TABLE IF NOT EXISTS {TABLE}"
    " (run text PRIMARY KEY, side text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());"
)
GRACE = 1.0
"""Seconds past the limit until blue opens by itself: the controller's own way back comes first."""


def watch(old: Database, run: str, before: dict[str, Any], *, limit: float) -> None:
    """Leave a session on the old side that opens it again when nothing is decided in time, whatever becomes of us."""
    old.later(
        f"DO $watch$ BEGIN PERFORM pg_sleep({limit + GRACE});"
        f" INSERT INTO {TABLE} (run, side) VALUES ({literal(run)}, 'from') ON CONFLICT DO NOTHING;"
        f" IF FOUND THEN {' '.join(f'EXECUTE {literal(statement)};' for statement in opening(before))} END IF; END $watch$;"
    )


def decided(old: Database, run: str) -> str | None:
    """The side that a run was decided for; None while it is open. Asks, and decides nothing."""
    rows = old.ask(f"SELECT side FROM {TABLE} WHERE run = {literal(run)}")
    return str(rows[0]["side"]) if rows else None


def decide(old: Database, run: str, side: str) -> str:
    """Decide for a side, unless it has been decided; the side that counts."""
    (counts,) = old.raw(
        f"INSERT INTO {TABLE} (run, side) VALUES ({literal(run)}, {literal(side)}) ON CONFLICT DO NOTHING;"
        f" SELECT side FROM {TABLE} WHERE run = {literal(run)};"
    )
    return counts
