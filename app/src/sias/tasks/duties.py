"""Late tasks."""

from sias.platform.duties import duty
from sias.tasks.services import escalate

BATCH = 500


@duty("escalate-tasks", every=900)
def escalate_late() -> tuple[str, bool]:
    """Show what nobody did in time to the whole service."""
    count = escalate(BATCH)
    return (f"{count} tâches en retard signalées" if count else ""), count == BATCH
