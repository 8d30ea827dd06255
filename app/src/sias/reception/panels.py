"""Reception on the person's page."""

from django.http import HttpRequest
from django.utils import timezone

from sias.habilitations.rights import can
from sias.reception.models import Appointment, Contact
from sias.repertoire.models import Person
from sias.repertoire.panels import register


@register("reception/panel.html")
def reception(request: HttpRequest, person: Person) -> dict | None:
    """Next appointments, last contacts, and what can be done."""
    if not can(request.user, "accueil", "lire", person):
        return None
    coming = Appointment.objects.filter(
        person=person, state=Appointment.State.PLANNED, starts_at__gte=timezone.now()
    ).select_related("agent")
    return {
        "appointments": coming[:3],
        "contacts": Contact.objects.filter(person=person).select_related("agent")[:5],
        "may_write": can(request.user, "accueil", "noter", person),
    }
