"""Pages of the directory: passes, what each changed or rejected, and what groups give."""

from http import HTTPStatus

from django.conf import settings
from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from sias.directory import passes
from sias.directory.forms import AllowForm, RuleForm
from sias.directory.models import Card, GroupRule, Run, RunRow
from sias.habilitations.rights import AccessRefusedError, can, requires
from sias.habilitations.table import table
from sias.journal.access import Action, record_access
from sias.platform.failover import read_only
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.platform.pages import form_page
from sias.socle import names

RUNS = 50
ROWS = 500


@requires("annuaire", "lire")
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Where the directory stands, and the last passes."""
    runs = list(Run.objects.select_related("asked_by")[:RUNS])
    whole = Run.objects.filter(scope=Run.Scope.WHOLE, state=Run.State.APPLIED).first()
    return render(
        request,
        "directory/index.html",
        {
            "runs": runs,
            "waiting": any(run.state == Run.State.REQUESTED for run in runs),
            "whole": whole,
            "enabled": passes.enabled(),
            "servers": settings.SIAS_LDAP_SERVERS,
            "known": Card.objects.filter(left_at=None).count(),
            "left": Card.objects.exclude(left_at=None).count(),
            "may_ask": passes.enabled() and can(request.user, "annuaire", "synchroniser"),
            "idempotency_key": new_key(),
        },
    )


@requires("annuaire", "synchroniser")
@require_POST
@idempotent
def ask(request: HttpRequest) -> HttpResponse:
    """Ask the workers for a pass, or for a look at what one would change. One waits at a time."""
    dry = request.POST.get("apercu") == "oui"
    if not passes.enabled():
        messages.error(request, "Aucun annuaire n'est indiqué : rien à synchroniser.")
    elif Run.objects.using("default").filter(state=Run.State.REQUESTED, dry=dry).exists():
        messages.info(request, "Un passage est déjà demandé : il sera fait dans la minute.")
    else:
        made = Run.objects.create(asked_by=request.user, dry=dry)
        record_access(request.user, made, Action.CHANGE, "aperçu" if dry else "", domain="annuaire")
        messages.success(request, "Passage demandé : il sera fait dans la minute. Rechargez la page pour le voir.")
    return redirect("directory:index")


@requires("annuaire", "lire")
@require_safe
def run(request: HttpRequest, identity: int) -> HttpResponse:
    """What a pass found."""
    found = get_object_or_404(Run.objects.select_related("asked_by"), pk=identity)
    record_access(request.user, found, Action.READ, domain="annuaire")
    return _run_page(request, found, AllowForm())


def _run_page(request: HttpRequest, found: Run, form: AllowForm, status: int = 200) -> HttpResponse:
    kept = request.GET.get("sort", "")
    rows = found.rows.filter(verdict=kept) if kept in RunRow.Verdict.values else found.rows.all()
    return render(
        request,
        "directory/run.html",
        {
            "run": found,
            "rows": rows[:ROWS],
            "more": rows.count() > ROWS,
            "kept": kept,
            "sorts": [
                (value, label, found.counts[value])
                for value, label in RunRow.Verdict.choices
                if found.counts.get(value)
            ],
            "may_allow": found.state == Run.State.REFUSED and can(request.user, "annuaire", "synchroniser"),
            "form": form,
            "idempotency_key": key_of(request) or new_key(),
        },
        status=status,
    )


@requires("annuaire", "synchroniser")
@require_POST
@idempotent
def allow(request: HttpRequest, identity: int) -> HttpResponse:
    """Ask for a refused pass again, with a reason: as many departures as it showed, not one more."""
    found = get_object_or_404(Run.objects.using("default"), pk=identity, state=Run.State.REFUSED)
    form = AllowForm(request.POST)
    if not form.is_valid():
        return _run_page(request, found, form, HTTPStatus.UNPROCESSABLE_ENTITY)
    reason = " ".join(form.cleaned_data["motif"].split())
    made = Run.objects.create(asked_by=request.user, scope=found.scope, allowed=found.counts["prives"], reason=reason)
    record_access(request.user, made, Action.RIGHTS, f"{made.allowed} départs admis : {reason}", domain="annuaire")
    messages.warning(request, f"{made} demandé : {made.allowed} agents au plus perdront leur accès.")
    return redirect("directory:index")


allow.sias_form = AllowForm


# --- what groups give ------------------------------------------------------------------------------------------------
@requires("annuaire", "lire")
@read_only
@require_safe
def rules(request: HttpRequest) -> HttpResponse:
    """The table of groups, profiles and territories."""
    last = Run.objects.exclude(groups={}).first()
    members = last.groups if last else {}
    found = list(GroupRule.objects.select_related("requested_by", "validated_by"))
    places = names.of_places(rule.territory for rule in found)
    services = names.of_services(rule.service for rule in found)
    lines = [
        {
            "rule": rule,
            "territory": places.get(rule.territory, rule.territory),
            "service": services.get(rule.service, rule.service),
            "profile": table().profiles[rule.profile].name if rule.profile in table().profiles else rule.profile,
            "members": members.get(rule.group),
            "may_validate": rule.validated_at is None and rule.requested_by_id != request.user.pk,
        }
        for rule in found
    ]
    named = {line["rule"].group for line in lines}
    return render(
        request,
        "directory/rules.html",
        {
            "lines": lines,
            "last": last,
            "others": [(name, count) for name, count in members.items() if name not in named],
            "may_write": can(request.user, "annuaire", "regler"),
            "idempotency_key": new_key(),
        },
    )


@requires("annuaire", "regler")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def add_rule(request: HttpRequest) -> HttpResponse:
    """Ask for a line of the table; somebody else validates it."""
    form = RuleForm(
        request.POST if request.method == "POST" else None, initial={"group": request.GET.get("groupe", "")[:100]}
    )
    if form.is_bound and form.is_valid() and _known_places(form):
        try:
            with transaction.atomic():
                made = GroupRule.objects.create(**form.cleaned_data, requested_by=request.user)
        except IntegrityError:
            form.add_error(None, "Cette correspondance existe déjà.")
        else:
            record_access(request.user, made, Action.RIGHTS, f"demande : {made}", domain="annuaire")
            messages.success(request, "Correspondance demandée. Elle comptera une fois validée par une autre personne.")
            return redirect("directory:rules")
    return form_page(
        request,
        form,
        "Nouvelle correspondance",
        crumbs=[("Annuaire", reverse("directory:index")), ("Correspondances", reverse("directory:rules"))],
        back=reverse("directory:rules"),
        submit="Demander",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK,
    )


add_rule.sias_form = RuleForm


def _known_places(form: RuleForm) -> bool:
    territory, service = form.cleaned_data["territory"], form.cleaned_data["service"]
    if territory != GroupRule.OWN and not names.of_places([territory]):
        form.add_error("territory", f"Aucun territoire ne porte le code « {territory} ».")
    if service not in {"", GroupRule.OWN} and not names.of_services([service]):
        form.add_error("service", f"Aucun service ne porte le code « {service} ».")
    return form.is_valid()


@requires("annuaire", "regler")
@require_POST
@idempotent
def decide_rule(request: HttpRequest, identity: int) -> HttpResponse:
    """Validate a line that somebody else asked for, or remove one. The next pass makes it count."""
    found = get_object_or_404(GroupRule.objects.using("default").select_for_update(), pk=identity)
    if request.POST.get("decision") == "retirer":
        record_access(request.user, found, Action.RIGHTS, f"retrait : {found}", domain="annuaire")
        found.delete()
        messages.success(
            request, "Correspondance retirée : le prochain passage retire les habilitations qu'elle donnait."
        )
        return redirect("directory:rules")
    if found.requested_by_id == request.user.pk:
        raise AccessRefusedError("annuaire", "regler", found, why="profil")
    if found.validated_at is None:
        found.validated_by, found.validated_at = request.user, timezone.now()
        found.save(update_fields=["validated_by", "validated_at"])
        record_access(request.user, found, Action.RIGHTS, f"validation : {found}", domain="annuaire")
        messages.success(request, "Correspondance validée : elle compte dès le prochain passage.")
    return redirect("directory:rules")
