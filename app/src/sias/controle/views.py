"""Pages of control."""

from datetime import timedelta
from http import HTTPStatus

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from sias.controle.alerts import alerts
from sias.controle.forms import AssignmentForm, VerdictForm
from sias.controle.notices import task_key
from sias.habilitations.models import LONGEST, REVIEW_EVERY, Assignment, BreakGlass
from sias.habilitations.rights import AccessRefusedError, can, requires, rights_of
from sias.habilitations.table import NOTHING, REACHES, table
from sias.journal.access import Action, record_access
from sias.journal.models import Entry
from sias.platform.failover import read_only
from sias.platform.idempotency import idempotent, new_key
from sias.platform.pages import form_page
from sias.platform.postgresql.session import say
from sias.platform.routing import reads
from sias.repertoire.models import Person
from sias.socle import names
from sias.tasks import services as tasks

PAGE = 100
SOON = timedelta(days=30)


# --- rights ----------------------------------------------------------------------------------------------------------
@requires("habilitation", "lire")
@read_only
@require_safe
def table_page(request: HttpRequest) -> HttpResponse:
    """The whole table, as the files say it."""
    known = table()
    domains = [
        {
            "domain": domain,
            "lines": [
                (action, [letters.get(code, NOTHING) for code in known.profiles])
                for action, letters in domain.actions.items()
            ],
        }
        for domain in known.domains.values()
    ]
    former = [(name, known.profiles[code]) for name, code in known.former.items()]
    return render(
        request,
        "controle/table.html",
        {"domains": domains, "profiles": known.profiles.values(), "former": former, "reaches": REACHES},
    )


def _within(agent: object, action: str, found: Assignment) -> bool:
    """Tell whether an assignment lies within the agent's reach: its territory inside theirs, or its service."""
    reach = rights_of(agent).reach("habilitation", action)
    if reach.everywhere:
        return True
    if reach.services and found.service in reach.services:
        return True
    return (
        reach.territory
        and found.territory
        in {
            row["territory"]
            for row in rights_of(agent).held
            if table().reach(row["profile"], "habilitation", action) == "T"
        }
        | reach.communes
    )


@requires("habilitation", "lire")
@read_only
@require_safe
def assignments(request: HttpRequest) -> HttpResponse:
    """Who holds what: to validate, to review, about to end, all."""
    today = timezone.localdate()
    rows = Assignment.objects.select_related("agent", "requested_by", "validated_by", "reviewed_by").filter(
        until__gt=today
    )
    shown = request.GET.get("voir", "")
    if shown == "valider":
        rows = rows.filter(validated_at__isnull=True)
    elif shown == "finir":
        rows = rows.filter(until__lte=today + SOON)
    rows = [row for row in rows.order_by("agent__last_name", "agent__username") if _within(request.user, "lire", row)]
    if shown == "revoir":
        rows = [row for row in rows if row.review_due]
    record_access(
        request.user, None, Action.READ, domain="habilitation", detail={"page": "habilitations", "voir": shown}
    )
    shown_rows = rows[:PAGE]
    places = names.of_places(row.territory for row in shown_rows)
    services = names.of_services(row.service for row in shown_rows)
    lines = [
        {
            "row": row,
            "territory": places.get(row.territory, row.territory),
            "service": services.get(row.service, row.service),
            "profile": table().profiles[row.profile].name if row.profile in table().profiles else row.profile,
            "may_validate": row.validated_at is None
            and request.user.pk not in {row.requested_by_id, row.agent_id}
            and can(request.user, "habilitation", "valider")
            and _within(request.user, "valider", row),
            "may_review": row.validated_at is not None
            and row.agent_id != request.user.pk
            and can(request.user, "habilitation", "revoir")
            and _within(request.user, "revoir", row),
        }
        for row in shown_rows
    ]
    return render(
        request,
        "controle/assignments.html",
        {
            "lines": lines,
            "more": len(rows) > PAGE,
            "shown": shown,
            "may_ask": can(request.user, "habilitation", "demander"),
            "months": int(REVIEW_EVERY.days / 30),
            "idempotency_key": new_key(),
        },
    )


@requires("habilitation", "demander")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def ask(request: HttpRequest) -> HttpResponse:
    """Ask for a profile; somebody else validates it."""
    today = timezone.localdate()
    form = AssignmentForm(
        request.POST if request.method == "POST" else None, initial={"since": today, "until": today + LONGEST}
    )
    status = 200
    if form.is_bound and form.is_valid():
        data = form.cleaned_data
        agent = get_user_model().objects.using("default").filter(username__iexact=data["agent"], is_active=True).first()
        if agent is None:
            form.add_error("agent", f"Aucun agent actif ne porte l'identifiant « {data['agent']} ».")
        if not names.of_places([data["territory"]]):
            form.add_error("territory", f"Aucun territoire ne porte le code « {data['territory']} ».")
        if data["service"] and not names.of_services([data["service"]]):
            form.add_error("service", f"Aucun service ne porte le code « {data['service']} ».")
        if form.is_valid():
            made = Assignment(**data | {"agent": agent}, requested_by=request.user)
            if not _within(request.user, "demander", made):
                raise AccessRefusedError("habilitation", "demander", why="territoire")
            made.save()
            record_access(request.user, made, Action.RIGHTS, f"demande : {data['reason']}", domain="habilitation")
            messages.success(request, "Demande enregistrée. Elle comptera une fois validée par une autre personne.")
            return redirect("controle:assignments")
    if form.is_bound:
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    return form_page(
        request,
        form,
        "Demander une habilitation",
        crumbs=[("Habilitations", reverse("controle:assignments"))],
        back=reverse("controle:assignments"),
        submit="Demander",
        status=status,
    )


ask.sias_form = AssignmentForm


def _decided(request: HttpRequest, identity: int, action: str) -> Assignment:
    found = get_object_or_404(Assignment.objects.using("default").select_for_update(), pk=identity)
    if request.user.pk in {found.agent_id, found.requested_by_id if action == "valider" else None}:
        raise AccessRefusedError("habilitation", action, found, why="profil")
    if not _within(request.user, action, found):
        raise AccessRefusedError("habilitation", action, found, why="territoire")
    return found


@requires("habilitation", "valider")
@require_POST
@idempotent
def validate(request: HttpRequest, identity: int) -> HttpResponse:
    """Validate what somebody else asked for."""
    found = _decided(request, identity, "valider")
    if found.validated_at is None:
        found.validated_by, found.validated_at = request.user, timezone.now()
        found.save(update_fields=["validated_by", "validated_at"])
        record_access(request.user, found, Action.RIGHTS, "validation", domain="habilitation")
        messages.success(request, f"Habilitation validée : {found}.")
    return redirect("controle:assignments")


@requires("habilitation", "revoir")
@require_POST
@idempotent
def review(request: HttpRequest, identity: int) -> HttpResponse:
    """Keep an assignment for another year, or end it today."""
    found = _decided(request, identity, "revoir")
    today = timezone.localdate()
    found.reviewed_by, found.reviewed_at = request.user, timezone.now()
    if request.POST.get("decision") == "garder":
        found.until, said = today + LONGEST, "maintien après revue"
    else:
        found.since, found.until, said = min(found.since, today - timedelta(days=1)), today, "fin après revue"
    found.save(update_fields=["reviewed_by", "reviewed_at", "since", "until"])
    record_access(request.user, found, Action.RIGHTS, said, domain="habilitation")
    messages.success(request, f"{found} : {said}, jusqu'au {found.until:%d/%m/%Y}.")
    return redirect("controle:assignments")


# --- exceptional accesses --------------------------------------------------------------------------------------------
@requires("acces_exceptionnel", "examiner")
@read_only
@require_safe
def exceptional(request: HttpRequest) -> HttpResponse:
    """Exceptional accesses, those to examine first."""
    rows = BreakGlass.objects.select_related("agent", "person", "reviewed_by").order_by("reviewed_at", "-opened_at")
    waiting = rows.filter(reviewed_at__isnull=True)
    if not rights_of(request.user).reach("acces_exceptionnel", "examiner").everywhere:
        communes = rights_of(request.user).reach("acces_exceptionnel", "examiner").communes
        waiting, rows = waiting.filter(person__commune__in=communes), rows.filter(person__commune__in=communes)
    record_access(request.user, None, Action.READ, domain="acces_exceptionnel")
    return render(
        request,
        "controle/exceptional.html",
        {
            "waiting": waiting[:PAGE],
            "examined": rows.filter(reviewed_at__isnull=False).order_by("-reviewed_at")[:20],
            "verdicts": BreakGlass.Verdict.choices,
            "idempotency_key": new_key(),
        },
    )


@requires("acces_exceptionnel", "examiner")
@require_POST
@idempotent
def examine(request: HttpRequest, identity: int) -> HttpResponse:
    """Say whether an access was justified; nobody examines their own."""
    found = get_object_or_404(BreakGlass.objects.using("default").select_related("person"), pk=identity)
    reach = rights_of(request.user).reach("acces_exceptionnel", "examiner")
    if found.agent_id == request.user.pk or not (reach.everywhere or found.person.commune_id in reach.communes):
        raise AccessRefusedError("acces_exceptionnel", "examiner", why="profil")
    form = VerdictForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choisissez « Justifié » ou « Injustifié ». Rien n'est enregistré.")
        return redirect("controle:exceptional")
    found.reviewed_by, found.reviewed_at = request.user, timezone.now()
    found.verdict, found.comment = form.cleaned_data["verdict"], form.cleaned_data["comment"]
    found.save(update_fields=["reviewed_by", "reviewed_at", "verdict", "comment"])
    tasks.close("SIAS", task_key(found), agent=request.user)
    record_access(request.user, found, Action.CHANGE, found.get_verdict_display(), domain="acces_exceptionnel")
    messages.success(request, f"Examen enregistré : {found.get_verdict_display().lower()}.")
    return redirect("controle:exceptional")


# --- the log ---------------------------------------------------------------------------------------------------------
def _read_log() -> None:
    """Tell the database that this request reads the log: without it there is nothing to see."""
    say(journal="lecture")
    connections[reads()].say_settings()


@requires("journal", "lire")
@read_only
@require_safe
def log(request: HttpRequest) -> HttpResponse:
    """Who did what: by agent, person, kind and day; reading it is logged too."""
    _read_log()
    asked = {name: request.GET.get(name, "").strip()[:100] for name in ("agent", "dossier", "action", "avant")}
    rows, problem = Entry.objects.all(), ""
    if asked["agent"]:
        rows = rows.filter(agent__iexact=asked["agent"])
    if asked["dossier"]:
        person = Person.objects.filter(number=asked["dossier"].upper().replace("-", "")).first()
        problem = "" if person else f"Aucune personne ne porte le numéro « {asked['dossier']} »."
        rows = rows.filter(person_id=person.pk) if person else rows.none()
    if asked["action"] in Action.values:
        rows = rows.filter(action=asked["action"])
    if asked["avant"].isdecimal() and len(asked["avant"]) < 19:  # noqa: PLR2004 - digits of a bigint
        rows = rows.filter(id__lt=int(asked["avant"]))
    found = list(rows.order_by("-at", "-id")[: PAGE + 1])
    record_access(
        request.user, None, Action.LOG, domain="journal", detail={name: value for name, value in asked.items() if value}
    )
    query = request.GET.copy()
    query["avant"] = str(found[PAGE - 1].id) if len(found) > PAGE else ""
    return render(
        request,
        "controle/log.html",
        {
            "entries": found[:PAGE],
            "next": f"?{query.urlencode()}" if len(found) > PAGE else "",
            "asked": asked,
            "problem": problem,
            "actions": Action.choices,
        },
    )


@requires("journal", "lire")
@read_only
@require_safe
def log_alerts(request: HttpRequest) -> HttpResponse:
    """Odd reading of the last month."""
    _read_log()
    colleagues = get_user_model().objects.filter(is_active=True).exclude(last_name="")
    found = alerts(list(colleagues.values_list("last_name", "first_name")))
    record_access(request.user, None, Action.LOG, domain="journal", detail={"page": "alertes"})
    return render(request, "controle/alerts.html", {"alerts": found})
