"""Possible duplicates on a person's page."""

from django.db.models import Q
from django.http import HttpRequest

from sias.duplicates.models import Candidate, Kind
from sias.repertoire.models import Person
from sias.repertoire.panels import register


@register("duplicates/panel.html")
def of_person(_request: HttpRequest, person: Person) -> dict:
    """Open pairs with this person."""
    found = Candidate.objects.filter(kind=Kind.PERSON, state=Candidate.State.OPEN).filter(
        Q(left=person.pk) | Q(right=person.pk)
    )
    return {"candidates": found.order_by("-score")[:5]}
