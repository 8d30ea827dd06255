"""Documents on a person's page."""

from django.http import HttpRequest

from sias.documents.models import Document
from sias.platform.idempotency import new_key
from sias.repertoire.models import Person
from sias.repertoire.panels import register


@register("documents/panel.html")
def documents(_request: HttpRequest, person: Person) -> dict:
    """The list, and the form that adds one."""
    return {
        "documents": Document.objects.filter(person=person).select_related("created_by"),
        "idempotency_key": new_key(),
    }
