"""What a transaction tells PostgreSQL about its agent: row-level security reads it (`current_setting('sias.…')`).

Server processes of PgBouncer are shared, so nothing is set for longer than a transaction. The engine says these settings
again at the start of each transaction of the thread; what was never said is NULL, and policies refuse NULL.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from psycopg import sql

_settings: ContextVar[dict[str, str] | None] = ContextVar("sias_session_settings", default=None)


@contextmanager
def session_settings(**settings: str) -> Iterator[None]:
    """Say `sias.<name> = value` in the transactions that this thread begins in the block; nested blocks add up."""
    token = _settings.set((_settings.get() or {}) | settings)
    try:
        yield
    finally:
        _settings.reset(token)


def say(**settings: str) -> None:
    """Add settings until the surrounding `session_settings` block ends."""
    _settings.set((_settings.get() or {}) | settings)


def said(name: str) -> str:
    """Return what was said, "" for nothing."""
    return (_settings.get() or {}).get(name, "")


def settings() -> dict[str, str]:
    """Return what was said, by the names that PostgreSQL knows."""
    return {f"sias.{name}": value for name, value in (_settings.get() or {}).items()}


def statements() -> list[sql.Composable]:
    """Return the SET LOCAL statements of now."""
    return [
        sql.SQL("SET LOCAL {} = {}").format(sql.Identifier("sias", name), sql.Literal(value))
        for name, value in (_settings.get() or {}).items()
    ]
