"""Pages of the rights of persons."""

import json

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from sias.habilitations.rights import check, requires
from sias.journal.access import Action, record_access
from sias.platform.failover import read_only
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.platform.pages import form_page
from sias.privacy import services
from sias.privacy.export import export
from sias.privacy.forms import AnswerForm, RequestForm
from sias.privacy.models import RightsRequest
from sias.privacy.register import PURPOSES, RULES, declarations
from sias.repertoire.models import Person


@requires("rgpd", "recevoir")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def receive(request: HttpRequest, identity: int) -> HttpResponse:
    """Register a request of a person."""
    person = get_object_or_404(Person.objects.using("default"), pk=identity)
    check(request.user, "rgpd", "recevoir", person)
    form = RequestForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        made = services.receive(person, form.cleaned_data, request.user)
        record_access(request.user, made, Action.CREATE, domain="rgpd")
        messages.success(request, f"Demande enregistrée : réponse due le {made.due:%d/%m/%Y}.")
        return redirect(person)
    return form_page(
        request,
        form,
        "Enregistrer une demande RGPD",
        crumbs=[(str(person), person.get_absolute_url())],
        back=person.get_absolute_url(),
        status=422 if form.is_bound else 200,
    )


@requires("rgpd", "lire")
@read_only
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Requests, those to answer first."""
    rows = RightsRequest.objects.select_related("person").order_by("closed_at", "due")
    waiting = rows.filter(state=RightsRequest.State.OPEN)
    return render(
        request,
        "privacy/index.html",
        {"waiting": waiting[:200], "closed": rows.exclude(state=RightsRequest.State.OPEN).order_by("-closed_at")[:50]},
    )


@requires("rgpd", "lire")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def show(request: HttpRequest, identity: int) -> HttpResponse:
    """A request, and its answer."""
    rows = RightsRequest.objects.using("default").select_related("person", "created_by", "closed_by")
    found = get_object_or_404(rows, pk=identity)
    check(request.user, "rgpd", "lire", found)
    status, form = 200, AnswerForm(initial={"version": found.version})
    if request.method == "POST":
        check(request.user, "rgpd", "repondre", found)
        form, decision, status = AnswerForm(request.POST), request.POST.get("decision", ""), 422
        if decision not in {"accepter", "refuser"}:
            form.add_error(None, "Choisissez d'accepter ou de refuser.")
        if form.is_valid():
            data = form.cleaned_data
            try:
                services.answer(
                    identity, data["version"], request.user, granted=decision == "accepter", text=data["answer"]
                )
            except services.AnsweredError:
                form.add_error(None, "Cette demande a déjà une réponse. La vôtre n'est pas enregistrée.")
                status = 409
            else:
                record_access(request.user, found, Action.CHANGE, domain="rgpd", detail={"decision": decision})
                messages.success(request, "Réponse enregistrée.")
                return redirect(found)
    return render(
        request,
        "privacy/show.html",
        {"demande": found, "form": form, "idempotency_key": key_of(request) or new_key()},
        status=status,
    )


@requires("rgpd", "repondre")
@require_safe
def download(request: HttpRequest, identity: int) -> HttpResponse:
    """The person's data, as a file to hand over."""
    found = get_object_or_404(RightsRequest.objects.using("default").select_related("person"), pk=identity)
    check(request.user, "rgpd", "repondre", found)
    if found.kind != RightsRequest.Kind.ACCESS:
        return render(request, "400.html", {"reason": "Cette demande n'est pas une demande d'accès."}, status=409)
    record_access(request.user, found.person, Action.EXPORT, domain="rgpd", detail={"export": found.pk})
    return HttpResponse(
        json.dumps(export(found.person), ensure_ascii=False, indent=2, default=str),
        content_type="application/json; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="donnees-{found.person.number}.json"'},
    )


@requires("rgpd", "lire")
@require_safe
def register(request: HttpRequest) -> HttpResponse:
    """What each field is for and how long it is kept."""
    tables = [
        {
            "name": model._meta.verbose_name,  # noqa: SLF001 - documented
            "rule": RULES[declaration.rule].label,
            "fields": [
                (part.verbose_name, PURPOSES[declaration.purposes[part.name]])
                for part in model._meta.concrete_fields  # noqa: SLF001
                if declaration.purposes.get(part.name, "technique") != "technique"
            ],
        }
        for model, declaration in declarations().items()
    ]
    return render(request, "privacy/register.html", {"tables": [table for table in tables if table["fields"]]})


receive.sias_form = RequestForm
show.sias_form = AnswerForm
