"""Open tasks about a person, on the person's page."""

from django.http import HttpRequest

from sias.repertoire.models import Person
from sias.repertoire.panels import register
from sias.tasks.models import Task


@register("tasks/panel.html")
def open_tasks(_request: HttpRequest, person: Person) -> dict:
    """The ten most urgent."""
    tasks = Task.objects.filter(person=person, state=Task.State.OPEN).select_related("assignee")
    return {"tasks": tasks.order_by("due", "id")[:10]}
