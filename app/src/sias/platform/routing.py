"""Which database a request reads from: the replica for views marked read-only, else the primary."""

from contextlib import contextmanager
from contextvars import ContextVar

_reads = ContextVar("sias_reads", default="default")


@contextmanager
def reading_from(alias: str):
    """Send the reads of this thread to `alias` until the block ends."""
    token = _reads.set(alias)
    try:
        yield
    finally:
        _reads.reset(token)


def reads() -> str:
    """Return the alias that reads go to now."""
    return _reads.get()


class Router:
    """Django's database router."""

    def db_for_read(self, model, **hints) -> str:  # noqa: ARG002 - Django's interface
        """Return where reads go."""
        return _reads.get()

    def db_for_write(self, model, **hints) -> str:  # noqa: ARG002
        """Writes go to the primary, always."""
        return "default"

    def allow_relation(self, *_objects, **_hints) -> bool:
        """Both aliases are one cluster."""
        return True

    def allow_migrate(self, db: str, app_label: str, **_hints) -> bool:  # noqa: ARG002
        """Only the primary is migrated."""
        return db == "default"
