"""The recurring duties. A module adds its own with `@duty`, in its `duties.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.sessions.models import Session
from django.utils import timezone

from sias.platform import figures
from sias.platform.models import Duty, IdempotencyKey

KEYS_KEPT = timedelta(days=7)  # a form left open longer than that is shown again, not repeated
BATCH = 1000


@dataclass(frozen=True)
class DutyKind:
    """What to do, and how often (seconds)."""

    every: float
    act: Callable[[], tuple[str, bool]]  # -> what was done ("" when nothing), and whether there is more to do at once


DUTIES: dict[str, DutyKind] = {}


def duty(name: str, every: float) -> Callable:
    """Register a duty."""

    def register(act: Callable[[], tuple[str, bool]]) -> Callable:
        DUTIES[name] = DutyKind(every, act)
        return act

    return register


@figures.figure("duties")
def done() -> figures.Rows:
    """When each duty was last done and how often in a row it has failed, whoever did it."""
    return [
        {
            "duty": row.name,
            "every": DUTIES[row.name].every,
            "at": row.last_run.timestamp() if row.last_run else 0,
            "failures": row.failures,
        }
        for row in Duty.objects.using("default").filter(name__in=DUTIES)
    ]


@duty("purge-idempotency-keys", every=600)
def purge_keys() -> tuple[str, bool]:
    """Forget the keys of old writes."""
    return _purge(IdempotencyKey.objects.using("default").filter(created_at__lt=timezone.now() - KEYS_KEPT), "clés")


@duty("purge-sessions", every=3600)
def purge_sessions() -> tuple[str, bool]:
    """Forget sessions that have ended."""
    return _purge(Session.objects.using("default").filter(expire_date__lt=timezone.now()), "sessions")


def _purge(rows, word: str) -> tuple[str, bool]:
    """Delete a bounded number of rows: a long transaction would hold the horizon of vacuum."""
    old = list(rows.values_list("pk", flat=True)[:BATCH])
    if old:
        rows.model.objects.filter(pk__in=old).delete()
    return (f"{len(old)} {word} effacées" if old else ""), len(old) == BATCH
