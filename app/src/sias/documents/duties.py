"""Read newly attached documents back."""

import time

from django.core.files.storage import default_storage
from django.utils import timezone

from sias.documents.models import Document
from sias.platform import metrics
from sias.platform.duties import duty

BATCH = 20
STRAY_AGE = 24 * 3600  # s


@duty("verify-documents", every=5)
def verify() -> tuple[str, bool]:
    """Compare each new document with its SHA-256, from the volume, and write what was found in its row."""
    waiting = list(
        Document.objects.using("default")
        .select_for_update(skip_locked=True)
        .filter(check_state=Document.Check.PENDING)
        .order_by("created_at")[:BATCH]
    )
    found: dict[str, int] = {}
    for document in waiting:
        document.check_state = default_storage.verify(document.sha256)
        document.checked_at = timezone.now()
        document.save(update_fields=["check_state", "checked_at"])
        found[document.check_state] = found.get(document.check_state, 0) + 1
        metrics.DOCUMENTS.labels(f"checked_{document.check_state}").inc()
    return ", ".join(f"{count} {state}" for state, count in sorted(found.items())), len(waiting) == BATCH


@duty("sweep-strays", every=3600)
def sweep() -> tuple[str, bool]:
    """Remove what crashed writers left, a day later."""
    count = 0
    for path in default_storage.stray(time.time() - STRAY_AGE):
        path.unlink(missing_ok=True)
        count += 1
    return (f"{count} fichiers inachevés effacés" if count else ""), False
