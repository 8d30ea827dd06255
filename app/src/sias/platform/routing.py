"""Which database a request reads from: the replica for views marked read-only, else the primary."""

from contextlib import contextmanager
from contextvars import ContextVar

_reads = ContextVar("sias_reads", default="default")
_only_reads = ContextVar("sias_only_reads", default=False)


class WriteInReadOnlyViewError(RuntimeError):
    """A view marked `@read_only` tried to write: a defect, whichever server would have answered."""


@contextmanager
def reading_from(alias: str, *, only_reads: bool = False):
    """Send the reads of this thread to `alias` until the block ends; refuse writes when told so."""
    token, other = _reads.set(alias), _only_reads.set(only_reads)
    try:
        yield
    finally:
        _reads.reset(token)
        _only_reads.reset(other)


def reads() -> str:
    """Return the alias that reads go to now."""
    return _reads.get()


class Router:
    """Django's database router."""

    def db_for_read(self, model, **hints) -> str:  # noqa: ARG002 - Django's interface
        """Return where reads go."""
        return _reads.get()

    def db_for_write(self, model, **hints) -> str:  # noqa: ARG002
        """Writes go to the primary. A read-only view may only end a session that is no longer valid."""
        if _only_reads.get() and model._meta.app_label != "sessions":  # noqa: SLF001 - documented by Django
            raise WriteInReadOnlyViewError(model.__name__)
        return "default"

    def allow_relation(self, *_objects, **_hints) -> bool:
        """Both aliases are one cluster."""
        return True

    def allow_migrate(self, db: str, app_label: str, **_hints) -> bool:  # noqa: ARG002
        """Only the primary is migrated."""
        return db == "default"
