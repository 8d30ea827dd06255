"""Forget drafts that nobody took up again."""

from datetime import timedelta

from django.utils import timezone

from sias.notes.models import Draft
from sias.platform.duties import duty

KEPT = timedelta(days=7)
BATCH = 1000


@duty("purge-note-drafts", every=3600)
def purge_drafts() -> tuple[str, bool]:
    """Delete a bounded number of old drafts."""
    old = list(
        Draft.objects.using("default").filter(saved_at__lt=timezone.now() - KEPT).values_list("pk", flat=True)[:BATCH]
    )
    Draft.objects.filter(pk__in=old).delete()
    return (f"{len(old)} brouillons effacés" if old else ""), len(old) == BATCH
