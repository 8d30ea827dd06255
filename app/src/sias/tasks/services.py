"""What is done to tasks. Modules call `push` and `close`; pages and API call the rest."""

from dataclasses import dataclass
from datetime import date, timedelta

from django.contrib.auth import get_user_model
from django.db import connections, transaction
from django.db.models import Case, F, QuerySet, When
from django.utils import timezone

from sias.platform.routing import reads
from sias.repertoire.models import Person
from sias.tasks.models import Absence, Task, TaskEvent

GRACE = timedelta(days=3)  # after its date an unfinished task is shown to the whole service
MOST_COUNTED = 99


@dataclass(frozen=True)
class Kind:
    """A kind of task that a module declares."""

    code: str
    name: str
    days: int | None = None  # until due, when the caller says none


KINDS: dict[str, Kind] = {}


def register(code: str, name: str, *, days: int | None = None) -> Kind:
    """Declare a kind of task, in the `ready` of a module's AppConfig."""
    KINDS[code] = Kind(code, name, days)
    return KINDS[code]


class StaleTaskError(Exception):
    """Someone else acted on the task since the page was shown, or it is closed."""


class NotYoursError(Exception):
    """The task is neither the agent's, nor of someone they stand in for, nor of their service."""


def push(
    kind: str,
    title: str,
    *,
    service: str = "",
    assignee: object = None,
    person: Person | None = None,
    due: date | None = None,
    body: str = "",
    url: str = "",
    urgent: bool = False,
    application: str = "SIAS",
    external_key: str = "",
    agent: object = None,
) -> Task:
    """Create a task in the box of an agent or of a service, in the caller's transaction.

    A task with the same application and external key is corrected instead while it is open, and left alone once closed.
    """
    if not service and assignee is None:
        raise ValueError("a task needs a service or an agent")
    if due is None and kind in KINDS and KINDS[kind].days is not None:
        due = timezone.localdate() + timedelta(days=KINDS[kind].days)
    values = {
        "kind": kind,
        "title": title,
        "body": body,
        "url": url,
        "person": person,
        "service": service,
        "assignee": assignee,
        "due": due,
        "urgent": urgent,
        "application": application,
        "external_key": external_key,
    }
    with transaction.atomic():
        if external_key:
            known = (
                Task.objects.using("default")
                .select_for_update()
                .filter(application=application, external_key=external_key)
                .first()
            )
            if known is not None:
                return _correct(known, values, agent)
        task = Task.objects.create(**values)
        TaskEvent.objects.create(task=task, agent=agent, what=f"Créée par {application}")
    return task


def _correct(task: Task, values: dict, agent: object) -> Task:
    # Who has claimed it keeps it: the application knows the service, not who took the task there.
    wanted = {name: value for name, value in values.items() if name != "assignee" or value is not None}
    if task.open and any(getattr(task, name) != value for name, value in wanted.items()):
        for name, value in wanted.items():
            setattr(task, name, value)
        task.version += 1
        task.save()
        TaskEvent.objects.create(task=task, agent=agent, what=f"Corrigée par {task.application}")
    return task


def absent_colleagues(agent: object, day: date | None = None) -> list[int]:
    """Return the agents whom this one stands in for on a day."""
    day = day or timezone.localdate()
    return list(
        Absence.objects.filter(substitute=agent, since__lte=day, until__gte=day).values_list("agent_id", flat=True)
    )


def box(agent: object, name: str) -> QuerySet[Task]:
    """Return the tasks of a box: `miennes`, `service`, `retard`, `faites`; soonest due first."""
    tasks = Task.objects.select_related("person", "assignee")
    if name == "faites":
        return tasks.exclude(state=Task.State.OPEN).filter(closed_by=agent).order_by("-closed_at", "-id")
    tasks = tasks.filter(state=Task.State.OPEN).order_by(F("due").asc(nulls_last=True), "id")
    if name == "service":
        return tasks.filter(service=agent.service, assignee__isnull=True) if agent.service else tasks.none()
    if name == "retard":
        return tasks.filter(service=agent.service, escalated_at__isnull=False) if agent.service else tasks.none()
    return tasks.filter(assignee__in=[agent.pk, *absent_colleagues(agent)])


def counts(agent: object) -> dict[str, int]:
    """Return how many open tasks each box holds, at most 100 each: one query over the partial indexes."""
    sql = """
    SELECT (SELECT count(*) FROM (SELECT FROM tasks_task WHERE state = 'ouverte' AND assignee_id = ANY(%(agents)s)
                                  LIMIT %(most)s) AS mine),
           (SELECT count(*) FROM (SELECT FROM tasks_task WHERE state = 'ouverte' AND service = %(service)s
                                  AND assignee_id IS NULL LIMIT %(most)s) AS free),
           (SELECT count(*) FROM (SELECT FROM tasks_task WHERE state = 'ouverte' AND service = %(service)s
                                  AND escalated_at IS NOT NULL LIMIT %(most)s) AS late)
    """
    with connections[reads()].cursor() as cursor:
        cursor.execute(
            sql,
            {
                "agents": [agent.pk, *absent_colleagues(agent)],
                "service": agent.service or None,
                "most": MOST_COUNTED + 1,
            },
        )
        return dict(zip(("miennes", "service", "retard"), cursor.fetchone(), strict=True))


def may_act(agent: object, task: Task) -> bool:
    """Tell whether a task is in one of the agent's boxes."""
    return (
        task.assignee_id == agent.pk
        or bool(agent.service and task.service == agent.service)
        or task.assignee_id in absent_colleagues(agent)
    )


def act(task_id: int, version: int, action: str, agent: object, *, to: object = None, note: str = "") -> Task:
    """Do `prendre`, `rendre`, `deleguer`, `terminer` or `annuler`; raises StaleTaskError, NotYoursError."""
    with transaction.atomic():
        task = Task.objects.using("default").select_for_update(of=("self",)).select_related("assignee").get(pk=task_id)
        if task.version != version or not task.open:
            raise StaleTaskError(task)
        if not may_act(agent, task):
            raise NotYoursError(task)
        if action == "prendre":
            task.assignee, what = agent, "Prise en charge"
        elif action == "rendre":
            if not task.service:
                raise NotYoursError(task)
            task.assignee, what = None, f"Rendue à {task.service}"
        elif action == "deleguer":
            task.assignee, what = to, f"Déléguée à {to}"
        elif action in {"terminer", "annuler"}:
            task.state = Task.State.DONE if action == "terminer" else Task.State.CANCELLED
            task.closed_at, task.closed_by = timezone.now(), agent
            what = "Terminée" if action == "terminer" else "Annulée"
        else:
            raise ValueError(action)
        task.version += 1
        task.save()
        TaskEvent.objects.create(task=task, agent=agent, what=what, note=note)
    return task


def finish(task: Task, agent: object, what: str) -> None:
    """Close a task because what it asked for was done elsewhere in the application, in the caller's transaction."""
    task.state, task.closed_at, task.closed_by, task.version = Task.State.DONE, timezone.now(), agent, task.version + 1
    task.save()
    TaskEvent.objects.create(task=task, agent=agent, what=what)


def close(application: str, external_key: str, *, agent: object = None, cancelled: bool = False) -> Task | None:
    """Close the task that an application pushed, from that application; None when there is none."""
    with transaction.atomic():
        task = (
            Task.objects.using("default")
            .select_for_update()
            .filter(application=application, external_key=external_key)
            .first()
        )
        if task is not None and task.open:
            task.state = Task.State.CANCELLED if cancelled else Task.State.DONE
            task.closed_at, task.closed_by, task.version = timezone.now(), agent, task.version + 1
            task.save()
            TaskEvent.objects.create(task=task, agent=agent, what=f"Close par {application}")
    return task


def escalate(limit: int) -> int:
    """Show tasks that are late beyond the grace to the whole service; return how many. Each once."""
    late = list(
        Task.objects.using("default")
        .select_for_update(skip_locked=True)
        .filter(state=Task.State.OPEN, escalated_at__isnull=True, due__lt=timezone.localdate() - GRACE)
        .order_by("due")[:limit]
    )
    now = timezone.now()
    for task in late:
        task.escalated_at = now
        task.version += 1
        if not task.service and task.assignee is not None:
            task.service = task.assignee.service  # nobody else would see it
    Task.objects.using("default").bulk_update(late, ["escalated_at", "version", "service"])
    TaskEvent.objects.bulk_create(
        [TaskEvent(task=task, what="En retard : signalée à tout le service") for task in late]
    )
    return len(late)


def hand_over(agent: object, why: str, *, otherwise: str) -> int:
    """Give the open tasks of an agent who will not come back to others, in the caller's transaction; return how many.

    Each goes to the box of its service, else to whoever stands in today, else to the agent's service, else to that of
    `otherwise`. Whom the agent stood in for hears that nobody does any more.
    """
    today = timezone.localdate()
    mine = Absence.objects.using("default").filter(agent=agent, since__lte=today, until__gte=today)
    absence = mine.filter(substitute__is_active=True).select_related("substitute").order_by("-since").first()
    tasks = list(
        Task.objects.using("default")
        .select_for_update(of=("self",))
        .filter(assignee=agent, state=Task.State.OPEN)
        .order_by("pk")
    )
    events = []
    for task in tasks:
        task.assignee = absence.substitute if absence and not task.service else None
        if task.assignee is None and not task.service:
            task.service = agent.service or otherwise
        task.version += 1
        to = task.assignee or task.service
        events.append(TaskEvent(task=task, what=f"Confiée à {to}"[:150], note=f"{agent} : {why}"[:500]))
    Task.objects.using("default").bulk_update(tasks, ["assignee", "service", "version"])
    TaskEvent.objects.bulk_create(events)
    for other in Absence.objects.using("default").filter(substitute=agent, until__gte=today).select_related("agent"):
        push(
            "remplacant",
            f"Désigner un autre remplaçant de {other.agent}"[:150],
            body=f"{agent} devait assurer le remplacement jusqu'au {other.until:%d/%m/%Y} : {why}"[:1000],
            service=other.agent.service or otherwise,
            external_key=f"remplacant:{other.pk}",
        )
        other.delete()
    return len(tasks)


def colleagues(agent: object) -> QuerySet:
    """Return whom a task may be delegated to: active agents, those of the same service first."""
    found = get_user_model().objects.filter(is_active=True).exclude(pk=agent.pk)
    near = Case(When(service=agent.service, then=0), default=1)
    return found.order_by(near, "last_name", "first_name")
