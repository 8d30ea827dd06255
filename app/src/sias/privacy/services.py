"""What is done with the rights of persons."""

from datetime import date

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from sias.habilitations.rights import can
from sias.privacy.models import Restriction, RightsRequest
from sias.repertoire.models import Person
from sias.tasks import services as tasks

OFFICER = "Délégué à la protection des données"  # whose box gets the requests
KINDS_THAT_RESTRICT = {RightsRequest.Kind.LIMITATION, RightsRequest.Kind.OBJECTION}


class AnsweredError(Exception):
    """The request already has an answer, or was changed meanwhile."""


def one_month_after(day: date) -> date:
    """Return the same day of the next month, its last day when there is none."""
    year, month = (day.year + 1, 1) if day.month == 12 else (day.year, day.month + 1)  # noqa: PLR2004 - December
    for last in (day.day, 30, 29, 28):
        try:
            return date(year, month, last)
        except ValueError:
            continue
    raise AssertionError


def receive(person: Person, data: dict, agent: object) -> RightsRequest:
    """Register a request; a task waits for the officer, due in a month. A limitation counts at once."""
    with transaction.atomic():
        made = RightsRequest.objects.create(
            person=person, created_by=agent, due=one_month_after(data["received_on"]), **data
        )
        made.task = tasks.push(
            "rgpd",
            f"{made.get_kind_display().split(' :')[0]} : {person}",
            service=OFFICER,
            person=person,
            due=made.due,
            url=made.get_absolute_url(),
            body=data["detail"],
            agent=agent,
        )
        made.save(update_fields=["task"])
        if made.kind == RightsRequest.Kind.LIMITATION:
            _restrict(made, agent)
    return made


def _restrict(request: RightsRequest, agent: object) -> None:
    Restriction.objects.create(
        person=request.person,
        kind=Restriction.Kind(request.kind),
        reason=request.detail[:500] or "Demande de la personne",
        request=request,
        set_by=agent,
    )


def answer(identity: int, version: int, agent: object, *, granted: bool, text: str) -> RightsRequest:
    """Grant or refuse, with the text that the person gets; restrictions follow. Raises AnsweredError."""
    with transaction.atomic():
        request = RightsRequest.objects.using("default").select_for_update(of=("self",)).get(pk=identity)
        if request.state != RightsRequest.State.OPEN or request.version != version:
            raise AnsweredError
        request.state = RightsRequest.State.GRANTED if granted else RightsRequest.State.REFUSED
        request.answer, request.closed_at, request.closed_by = text, timezone.now(), agent
        request.version += 1
        request.save()
        restriction = Restriction.objects.using("default").filter(request=request).first()
        if granted and restriction is None and request.kind in KINDS_THAT_RESTRICT:
            _restrict(request, agent)
        elif not granted and restriction is not None:
            restriction.until = timezone.localdate()
            restriction.save(update_fields=["until"])
        if request.task is not None and request.task.open:
            tasks.finish(request.task, agent, f"Demande {request.get_state_display().lower()}")
    return request


def limited(agent: object, persons: list[Person]) -> str:
    """Say `limitation` when the processing of all these persons is limited: kept and shown, not changed (article 18).

    A household is changed for its other members. Who answers to the person goes on, to correct what was contested.
    """
    today = timezone.localdate()
    rows = Restriction.objects.filter(
        Q(until__isnull=True) | Q(until__gt=today),
        person__in=[person.pk for person in persons],
        kind=Restriction.Kind.LIMITATION,
        since__lte=today,
    )
    held = set(rows.values_list("person_id", flat=True))
    if held < {person.pk for person in persons} or can(agent, "rgpd", "repondre", persons[0]):
        return ""
    return "limitation"


def in_force(person: Person) -> list[Restriction]:
    """Return the restrictions that count today."""
    today = timezone.localdate()
    rows = Restriction.objects.filter(person=person, since__lte=today)
    return [row for row in rows if row.until is None or row.until > today]
