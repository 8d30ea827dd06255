"""What the core knows of a person's past."""

from collections.abc import Iterator
from datetime import datetime, time

from django.http import HttpRequest
from django.utils import timezone

from sias.habilitations.rights import can
from sias.reception.models import Appointment, Contact, Referral
from sias.reception.timeline import Moment, source
from sias.repertoire.models import Person
from sias.tasks.models import Task


def midnight(day: object) -> datetime:
    """Return the first instant of a civil date."""
    return timezone.make_aware(datetime.combine(day, time()))


@source("contacts", "Contacts")
def contacts(_request: HttpRequest, person: Person, before: datetime, limit: int) -> Iterator[Moment]:
    """Who came, called, wrote."""
    for row in Contact.objects.filter(person=person, at__lt=before).select_related("agent")[:limit]:
        yield Moment(row.at, row.get_channel_display(), f"{row.subject}. {row.summary}", who=str(row.agent or ""))


@source("rendez-vous", "Rendez-vous")
def appointments(_request: HttpRequest, person: Person, before: datetime, limit: int) -> Iterator[Moment]:
    """Appointments, past and to come."""
    rows = Appointment.objects.filter(person=person, starts_at__lt=before).select_related("agent")
    for row in rows.order_by("-starts_at")[:limit]:
        yield Moment(row.starts_at, f"Rendez-vous, {row.get_state_display().lower()}", row.subject, who=str(row.agent))


@source("orientations", "Orientations")
def referrals(_request: HttpRequest, person: Person, before: datetime, limit: int) -> Iterator[Moment]:
    """Sent to other services."""
    for row in Referral.objects.filter(person=person, created_at__lt=before).select_related("created_by", "task")[
        :limit
    ]:
        what = f"Orientation vers {row.to_service}, {row.get_state_display().lower()}"
        yield Moment(
            row.created_at, what, row.reason, row.task.get_absolute_url() if row.task else "", str(row.created_by or "")
        )


@source("taches", "Tâches closes")
def tasks(request: HttpRequest, person: Person, before: datetime, limit: int) -> Iterator[Moment]:
    """What was done."""
    if not can(request.user, "tache", "lire", person):
        return
    rows = Task.objects.filter(person=person, closed_at__lt=before).select_related("closed_by")
    for row in rows.order_by("-closed_at")[:limit]:
        yield Moment(row.closed_at, "Tâche close", row.title, row.get_absolute_url(), str(row.closed_by or ""))


@source("menages", "Ménages")
def households(_request: HttpRequest, person: Person, before: datetime, limit: int) -> Iterator[Moment]:
    """Households joined."""
    rows = person.memberships.filter(since__lte=timezone.localtime(before).date()).select_related("household")
    for row in rows.order_by("-since")[:limit]:
        if (at := midnight(row.since)) < before:
            yield Moment(at, "Entrée dans un ménage", str(row.household), row.household.get_absolute_url())
