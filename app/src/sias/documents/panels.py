"""Documents on a person's page."""

from django.http import HttpRequest

from sias.documents.models import Document
from sias.habilitations.rights import can
from sias.platform.idempotency import new_key
from sias.repertoire.models import Person
from sias.repertoire.panels import register


@register("documents/panel.html")
def documents(request: HttpRequest, person: Person) -> dict | None:
    """The list, and the form that adds one."""
    if not can(request.user, "document", "lire", person):
        return None
    return {
        "may_attach": can(request.user, "document", "creer", person),
        "documents": Document.objects.filter(person=person).select_related("created_by"),
        "idempotency_key": new_key(),
    }
