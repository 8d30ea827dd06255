"""Forget old writes."""

from datetime import timedelta

from django.utils import timezone

from sias.api.models import Usage, Write
from sias.platform.duties import duty

KEPT = timedelta(days=7)
BATCH = 1000


@duty("purge-api-writes", every=600)
def purge_writes() -> tuple[str, bool]:
    """Forget the keys of old writes."""
    rows = Write.objects.using("default").filter(created_at__lt=timezone.now() - KEPT)
    old = list(rows.values_list("pk", flat=True)[:BATCH])
    Write.objects.filter(pk__in=old).delete()
    return (f"{len(old)} écritures oubliées" if old else ""), len(old) == BATCH


@duty("purge-api-usage", every=3600)
def purge_usage() -> tuple[str, bool]:
    """Forget the counts of threads that are gone."""
    gone, _ = Usage.objects.using("default").filter(at__lt=timezone.now() - timedelta(hours=1)).delete()
    return (f"{gone} compteurs oubliés" if gone else ""), False
