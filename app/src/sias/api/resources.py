"""Resources of the core: persons, who follows them, tasks."""

from datetime import date
from typing import Annotated

from django.http import Http404, HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema
from pydantic import StringConstraints

from sias.api.core import ERRORS, KeyText, ProblemError, Scope, Text, add, idempotent
from sias.crossdomain.models import Involvement
from sias.habilitations.rights import rights_of
from sias.journal.access import Action, record_access
from sias.repertoire import relations, search
from sias.repertoire.models import Person
from sias.tasks import services
from sias.tasks.models import Task

PersonNumber = Annotated[str, StringConstraints(pattern=r"^P\d{8}$")]
persons, tasks = Router(tags=["Personnes"]), Router(tags=["Tâches"])


class PersonOut(Schema):
    """Limited identity. The NIR is masked."""

    number: str
    birth_name: str
    usage_name: str
    first_names: str
    sex: str
    birth_date: date
    commune: str
    nir: str

    @staticmethod
    def of(person: Person) -> dict:
        """Make it."""
        return {
            "number": person.number,
            "birth_name": person.birth_name,
            "usage_name": person.usage_name,
            "first_names": person.first_names,
            "sex": person.sex,
            "birth_date": person.birth_date,
            "commune": person.commune_id or "",
            "nir": person.nir_masked,
        }


class PersonQuery(Schema):
    """What is looked for; `after` is the `next` of the page before."""

    q: Annotated[Text, Field(max_length=200)] = ""
    birth: Annotated[Text, Field(max_length=10)] = ""
    after: Annotated[Text, Field(max_length=500)] = ""


class Found(Schema):
    """A person who answers a search, and why."""

    person: PersonOut
    score: int
    reasons: list[str]


class FoundPage(Schema):
    """A page of answers; `next` continues it."""

    results: list[Found]
    next: str


class InvolvementOut(Schema):
    """A domain follows the person."""

    domain: str
    status: str
    service: str
    since: date
    until: date | None


class TaskIn(Schema):
    """A task for a service."""

    external_key: KeyText = Field(description="Votre clé : la même corrige la tâche")
    kind: KeyText
    title: Annotated[Text, Field(min_length=1, max_length=150)]
    service: Annotated[Text, Field(min_length=1, max_length=100)]
    body: Text = ""
    url: Annotated[str, StringConstraints(pattern=r"^(https://[^\s\x00-\x1f\x7f]{1,490})?$")] = ""
    person: PersonNumber | None = None
    due: date | None = None
    urgent: bool = False


class TaskOut(Schema):
    """A task as it stands."""

    external_key: str
    state: str
    assignee: str
    due: date | None

    @staticmethod
    def of(task: Task) -> dict:
        """Make it."""
        return {
            "external_key": task.external_key,
            "state": task.state,
            "assignee": str(task.assignee or ""),
            "due": task.due,
        }


@persons.get("", response={200: FoundPage, **ERRORS}, auth=Scope("persons:search"))
def find(
    request: HttpRequest,
    asked: Query[PersonQuery],
) -> dict:
    """Search by name (typing errors and sounds forgiven), number, NIR, telephone, date of birth."""
    question = search.parse(asked.q, asked.birth)
    if question.empty or (asked.birth and question.birth is None):
        raise ProblemError(422, "Donnez un nom, un numéro ou une date de naissance complète (1975-12-31).")
    page = search.find(question, cursor_text=asked.after)
    hidden = rights_of(request.user).hidden(hit.person.pk for hit in page.hits)
    page.hits = [hit for hit in page.hits if hit.person.pk not in hidden]
    record_access(
        request.user,
        None,
        Action.SEARCH,
        domain="repertoire",
        detail={"partenaire": request.auth.name, "q": asked.q, "naissance": asked.birth}
        | {"personnes": [hit.person.pk for hit in page.hits]},
    )
    return {
        "results": [
            {"person": PersonOut.of(hit.person), "score": hit.score, "reasons": [words for _, words in hit.reasons]}
            for hit in page.hits
        ],
        "next": page.next_cursor,
    }


@persons.get("/{number}", response={200: PersonOut, **ERRORS}, auth=Scope("persons:read"))
def person(request: HttpRequest, number: PersonNumber) -> dict:
    """The limited identity of a person."""
    return PersonOut.of(_open(request, number))


def _open(request: HttpRequest, number: str) -> Person:
    """Return the person, the access logged; a confidential one does not exist for a partner."""
    found = Person.objects.filter(number=number).first()
    if found is None:  # a merged number leads to whoever took it over
        found = get_object_or_404(Person, pk=relations.holder_of(Person, number))
    if rights_of(request.user).hidden([found.pk]):
        raise Http404
    record_access(request.user, found, Action.READ, domain="repertoire", detail={"partenaire": request.auth.name})
    return found


@persons.get("/{number}/involvements", response={200: list[InvolvementOut], **ERRORS}, auth=Scope("involvements:read"))
def involvements(request: HttpRequest, number: PersonNumber) -> list:
    """Which domains follow a person; protected ones are left out."""
    from sias.crossdomain.services import DOMAINS  # noqa: PLC0415 - modules fill it

    found = _open(request, number)
    open_domains = [code for code, domain in DOMAINS.items() if not domain.protected]
    return list(Involvement.objects.filter(person=found, domain__in=open_domains))


@tasks.post("", response={201: TaskOut, **ERRORS}, auth=Scope("tasks:write"))
@idempotent
def push(request: HttpRequest, data: TaskIn) -> tuple[int, dict]:
    """Put a task into the box of a service, or correct it."""
    concerned = None
    if data.person:
        concerned = Person.objects.using("default").filter(number=data.person).first()
        if concerned is None:
            raise ProblemError(422, f"Aucune personne ne porte le numéro {data.person}.", field="person")
    values = data.dict() | {"person": concerned}
    task = services.push(
        values.pop("kind"), values.pop("title"), application=request.auth.name, agent=request.user, **values
    )
    return 201, TaskOut.of(task)


@tasks.get("/{external_key}", response={200: TaskOut, **ERRORS}, auth=Scope("tasks:write"))
def show(request: HttpRequest, external_key: KeyText) -> dict:
    """A task of your own, as it stands."""
    rows = Task.objects.select_related("assignee")
    return TaskOut.of(get_object_or_404(rows, application=request.auth.name, external_key=external_key))


@tasks.delete("/{external_key}", response={200: TaskOut, **ERRORS}, auth=Scope("tasks:write"))
def close(request: HttpRequest, external_key: KeyText) -> dict:
    """Close a task of your own: what it asked for is done elsewhere. Once closed it stays so."""
    task = services.close(request.auth.name, external_key, agent=request.user)
    if task is None:
        raise ProblemError(404, "Cette tâche n'existe pas.")
    return TaskOut.of(task)


add("/persons", persons)
add("/tasks", tasks)
