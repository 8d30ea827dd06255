"""Notes in the household's file and on a person's page."""

from django.http import HttpRequest
from django.utils import timezone

from sias.households import tabs
from sias.notes.models import Note
from sias.platform.idempotency import new_key
from sias.repertoire.models import Household, Person
from sias.repertoire.panels import register


@tabs.tab("notes", "Notes / Rapport social", "notes/list.html", 40)
def notes_tab(request: HttpRequest, household: Household) -> dict:
    """All that this agent may read, of one type if asked."""
    notes = (
        Note.objects.filter(household=household)
        .readable_by(request.user)
        .select_related("person", "author", "updated_by")
    )
    kind = request.GET.get("type", "")
    if kind in Note.Kind.values:
        notes = notes.filter(kind=kind)
    return {"notes": notes, "kinds": Note.Kind.choices, "kind": kind, "idempotency_key": new_key()}


@tabs.head("Alertes", "notes/pinned.html")
def pinned(request: HttpRequest, household: Household) -> dict:
    """What must be seen before anything else."""
    return {
        "notes": Note.objects.filter(household=household, withdrawn_at=None, pinned_until__gte=timezone.localdate())
        .readable_by(request.user)
        .select_related("person", "author")
    }


@tabs.sheet("Notes", "notes/sheet.html", 30)
def notes_sheet(request: HttpRequest, household: Household) -> dict:
    """The notes that the reader may read; private ones stay on the screen."""
    return {
        "notes": Note.objects.filter(household=household, withdrawn_at=None)
        .readable_by(request.user)
        .exclude(visibility=Note.Visibility.PRIVATE)
        .select_related("person", "author")
    }


@register("notes/person.html")
def of_person(request: HttpRequest, person: Person) -> dict:
    """The notes about a person."""
    return {
        "notes": Note.objects.filter(person=person, withdrawn_at=None)
        .readable_by(request.user)
        .select_related("author")[:5],
    }
