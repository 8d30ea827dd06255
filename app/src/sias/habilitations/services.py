"""What is done to rights, apart from the pages that ask for it."""

from collections.abc import Iterable
from datetime import date

from django.utils import timezone

from sias.habilitations.models import LONGEST, Assignment
from sias.journal.access import Action, record_access
from sias.socle.models import Territory


def install(
    agent: object, profile: str, *, territory: str = Territory.WHOLE, service: str = "", source: str = "installation"
) -> bool:
    """Give an agent a profile without a request: accounts of an installation, groups of the directory.

    Returns whether anything changed; an assignment that ends within a month is prolonged.
    """
    today = timezone.localdate()
    wanted = {"agent": agent, "profile": profile, "territory": territory, "service": service, "source": source}
    held = Assignment.objects.using("default").filter(**wanted, validated_at__isnull=False).order_by("-until").first()
    if held is not None and held.until > date.fromordinal(today.toordinal() + 30):
        return False
    if held is not None:
        held.until = today + LONGEST
        held.save(update_fields=["until"])
    else:
        Assignment.objects.create(**wanted, since=today, until=today + LONGEST, validated_at=timezone.now())
    record_access(
        agent, None, Action.RIGHTS, f"{source} : {profile} {territory} {service}".strip(), domain="habilitation"
    )
    return True


def withdraw(rows: Iterable[Assignment], reason: str, *, by: object = None) -> int:
    """End assignments today, in the caller's transaction; return how many. What begins today or later never was."""
    today = timezone.localdate()
    count = 0
    for row in rows:
        record_access(by or row.agent, row, Action.RIGHTS, f"fin : {reason}", domain="habilitation")
        if row.since >= today:
            row.delete()
        else:
            row.until = today
            row.save(update_fields=["until"])
        count += 1
    return count
