"""Pages of the box."""

import re

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from sias.habilitations.rights import mask, requires
from sias.journal.access import Action, record_access
from sias.platform.failover import read_only
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.tasks import services
from sias.tasks.forms import AbsenceForm, ActForm
from sias.tasks.models import Absence, Task

BOXES = {"miennes": "Mes tâches", "service": "Mon service", "retard": "En retard", "faites": "Faites"}
PAGE = 50
SAID = {
    "prendre": "La tâche est à vous.",
    "rendre": "La tâche est rendue au service.",
    "terminer": "La tâche est terminée.",
    "annuler": "La tâche est annulée.",
    "deleguer": "La tâche est déléguée à {to}.",
}


def find_agent(text: str) -> tuple[object | None, str]:
    """Return the active agent meant by an identifier or a name, else None and a sentence that says why."""
    text = text.strip()
    active = get_user_model().objects.using("default").filter(is_active=True)
    agent = active.filter(username__iexact=text).first() if text else None
    if agent is not None:
        return agent, ""
    found = active
    for word in text.split():
        found = found.filter(Q(last_name__icontains=word) | Q(first_name__icontains=word))
    names = list(found.order_by("last_name", "first_name")[:4]) if text else []
    if len(names) == 1:
        return names[0], ""
    if names:
        return None, "Plusieurs agents répondent : " + ", ".join(f"{one} ({one.username})" for one in names) + "."
    return None, f"Aucun agent ne répond à « {text} »." if text else "Indiquez un agent."


@requires("tache", "lire")
@read_only
@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    """The box: mine, my service's, late, done."""
    name = request.GET.get("boite", "miennes")
    name = name if name in BOXES else "miennes"
    text = request.GET.get("page", "")
    page = int(text) if re.fullmatch(r"[1-9]\d{0,2}", text) else 1
    tasks = list(services.box(request.user, name)[(page - 1) * PAGE : page * PAGE + 1])
    _veil(request, tasks)
    totals = services.counts(request.user)
    tabs = [
        {"code": code, "label": label, "count": totals.get(code), "current": code == name}
        for code, label in BOXES.items()
    ]
    return render(
        request,
        "tasks/inbox.html",
        {
            "tabs": tabs,
            "box": name,
            "tasks": tasks[:PAGE],
            "next": page + 1 if len(tasks) > PAGE else None,
            "previous": page - 1 if page > 1 else None,
            "most": services.MOST_COUNTED,
        },
    )


def _veil(request: HttpRequest, tasks: list[Task]) -> None:
    """Say of each task why its person is not named to this agent: `masked`, "" when they are."""
    masked = mask(request.user, [task.person for task in tasks if task.person is not None])
    for task in tasks:
        task.masked = masked.get(task.person_id, "")
        # A title may name the person.
        kind = services.KINDS.get(task.kind)
        task.shown_title = (kind.name if kind else "Tâche") if task.masked else task.title


def _task_page(request: HttpRequest, task: Task, form: ActForm, status: int = 200, **context: object) -> HttpResponse:
    _veil(request, [task])
    return render(
        request,
        "tasks/task.html",
        {
            "task": task,
            "form": form,
            "events": task.events.select_related("agent"),
            "may_act": task.open and services.may_act(request.user, task),
            "colleagues": services.colleagues(request.user)[:200],
            "idempotency_key": key_of(request) or new_key(),
            **context,
        },
        status=status,
    )


@requires("tache", "lire")
@require_safe
def task(request: HttpRequest, identity: int) -> HttpResponse:
    """A task, its story and what can be done."""
    found = get_object_or_404(Task.objects.using("default").select_related("person", "assignee"), pk=identity)
    if found.person is not None:
        record_access(request.user, found, Action.READ, domain="tache")
    return _task_page(request, found, ActForm(initial={"version": found.version}))


@requires("tache", "traiter")
@require_POST
@idempotent
def act(request: HttpRequest, identity: int) -> HttpResponse:
    """Claim, give back, delegate, finish or cancel."""
    found = get_object_or_404(Task.objects.using("default").select_related("person", "assignee"), pk=identity)
    action = request.POST.get("action", "")
    form = ActForm(request.POST)
    if action not in SAID:
        form.add_error(None, "Cette action n'existe pas.")
    to = None
    if form.is_valid() and action == "deleguer":
        to, problem = find_agent(form.cleaned_data["to"])
        if problem:
            form.add_error("to", problem)
    if not form.is_valid():
        return _task_page(request, found, form, status=422)
    try:
        services.act(
            identity, form.cleaned_data["version"], action, request.user, to=to, note=form.cleaned_data["note"]
        )
    except services.StaleTaskError as stale:
        current = stale.args[0]
        again = ActForm({**request.POST.dict(), "version": current.version})
        return _task_page(request, current, again, status=409, stale=True, idempotency_key=new_key())
    except services.NotYoursError:
        form.add_error(None, "Cette tâche n'est ni la vôtre, ni celle de votre service.")
        return _task_page(request, found, form, status=403)
    messages.success(request, SAID[action].format(to=to))
    return redirect("tasks:inbox" if action in {"terminer", "annuler", "deleguer"} else found)


def _absence_page(request: HttpRequest, form: AbsenceForm, status: int = 200) -> HttpResponse:
    return render(
        request,
        "tasks/absences.html",
        {
            "form": form,
            "absences": Absence.objects.using("default").filter(agent=request.user).select_related("substitute")[:20],
            "standing_in": Absence.objects.using("default")
            .filter(substitute=request.user)
            .select_related("agent")[:20],
            "colleagues": services.colleagues(request.user)[:200],
            "idempotency_key": key_of(request) or new_key(),
        },
        status=status,
    )


@requires("tache", "traiter")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def absences(request: HttpRequest) -> HttpResponse:
    """My absences, and whom I stand in for."""
    if request.method != "POST":
        return _absence_page(request, AbsenceForm())
    form = AbsenceForm(request.POST)
    if form.is_valid():
        substitute, problem = find_agent(form.cleaned_data["substitute"])
        if not problem and substitute == request.user:
            problem = "Vous ne pouvez pas vous remplacer vous-même."
        if problem:
            form.add_error("substitute", problem)
    if not form.is_valid():
        return _absence_page(request, form, status=422)
    Absence.objects.create(
        agent=request.user,
        substitute=substitute,
        since=form.cleaned_data["since"],
        until=form.cleaned_data["until"],
    )
    messages.success(request, f"Absence enregistrée : {substitute} verra vos tâches.")
    return redirect("tasks:absences")


@requires("tache", "traiter")
@require_POST
@idempotent
def end_absence(request: HttpRequest, identity: int) -> HttpResponse:
    """Remove an absence of one's own."""
    get_object_or_404(Absence.objects.using("default"), pk=identity, agent=request.user).delete()
    messages.success(request, "Absence effacée.")
    return redirect("tasks:absences")


act.sias_form = ActForm
absences.sias_form = AbsenceForm
