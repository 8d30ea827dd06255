"""Restrictions and rights on the person's page."""

from django.http import HttpRequest

from sias.habilitations.rights import can
from sias.privacy.models import RightsRequest
from sias.privacy.services import in_force
from sias.repertoire.models import Person
from sias.repertoire.panels import register


@register("privacy/panel.html")
def rights(request: HttpRequest, person: Person) -> dict:
    """What is restricted is for everyone to see; requests for whom they concern."""
    may_read = can(request.user, "rgpd", "lire", person)
    return {
        "restrictions": in_force(person),
        "requests": RightsRequest.objects.filter(person=person)[:5] if may_read else [],
        "may_receive": can(request.user, "rgpd", "recevoir", person),
    }
