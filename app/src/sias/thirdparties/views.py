"""Pages of third parties."""

from functools import partial

from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from sias.habilitations.rights import can, requires
from sias.journal.access import Action, record_access
from sias.platform.failover import read_only
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.platform.pages import form_page
from sias.repertoire.models import Person
from sias.thirdparties import bank, services
from sias.thirdparties.forms import DecisionForm, ThirdPartyForm
from sias.thirdparties.models import FinanceRecord, ThirdParty

SHOWN = 100


@requires("tiers", "lire")
@read_only
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The list: by state, by name, SIRET or number."""
    state, text = request.GET.get("etat", ""), request.GET.get("q", "").replace("\0", "").strip()[:100]
    rows = ThirdParty.objects.order_by("name", "id")
    if state in ThirdParty.State.values:
        rows = rows.filter(state=state)
    if text:
        rows = rows.filter(Q(name__icontains=text) | Q(siret=bank.clean(text)) | Q(finance_number__iexact=text))
    return render(
        request,
        "thirdparties/index.html",
        {"rows": rows[:SHOWN], "states": ThirdParty.State.choices, "state": state, "q": text, "most": SHOWN},
    )


def _show(request: HttpRequest, found: ThirdParty, form: DecisionForm, status: int = 200) -> HttpResponse:
    return render(
        request,
        "thirdparties/show.html",
        {
            "tiers": found,
            "form": form,
            "may_decide": found.state == ThirdParty.State.WAITING and can(request.user, "tiers", "valider"),
            "mine": found.changed_by_id == request.user.pk,
            "idempotency_key": key_of(request) or new_key(),
        },
        status=status,
    )


@requires("tiers", "lire")
@require_safe
def show(request: HttpRequest, identity: int) -> HttpResponse:
    """A third party and, for Finance, the decision."""
    found = get_object_or_404(
        ThirdParty.objects.using("default").select_related("person", "changed_by", "decided_by"), pk=identity
    )
    return _show(request, found, DecisionForm(initial={"version": found.version}))


@requires("tiers", "modifier")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def edit(request: HttpRequest, identity: int | None = None) -> HttpResponse:
    """Create or change a third party."""
    found = None
    initial = {"person": request.GET.get("personne", "")[:12]}
    if identity is not None:
        found = get_object_or_404(ThirdParty.objects.using("default").select_related("person"), pk=identity)
        initial = {
            **{name: getattr(found, name) for name in ("name", "siret", "address", "version")},
            "person": found.person.number if found.person else "",
        }
    form = ThirdPartyForm(
        request.POST if request.method == "POST" else None, editing=found is not None, initial=initial
    )
    status = 200
    if form.is_bound:
        status = 422
        data = dict(form.cleaned_data) if form.is_valid() else {}
        if data.get("person"):
            data["person"] = Person.objects.using("default").filter(number=data["person"].upper()).first()
            if data["person"] is None:
                form.add_error("person", "Aucune personne ne porte ce numéro de dossier.")
        elif data:
            data["person"] = None
        if form.is_valid():
            try:
                saved = services.save(data, request.user, found)
            except services.TakenError as taken:
                form.add_error("siret", str(taken))
            except services.StaleError:
                form.add_error(
                    None,
                    "Quelqu'un a modifié ce tiers pendant que vous l'aviez ouvert. Votre saisie est gardée : "
                    "comparez avec la fiche, puis enregistrez à nouveau.",
                )
                form.data = {
                    **request.POST.dict(),
                    "version": ThirdParty.objects.using("default").get(pk=identity).version,
                }
                status = 409
            else:
                record_access(request.user, saved, Action.CHANGE if found else Action.CREATE, domain="tiers")
                messages.success(request, f"{saved} : enregistré, {saved.get_state_display().lower()}.")
                return redirect(saved)
    return form_page(
        request,
        form,
        f"Modifier {found}" if found else "Nouveau tiers",
        crumbs=[("Tiers", reverse("thirdparties:index"))],
        back=found.get_absolute_url() if found else reverse("thirdparties:index"),
        status=status,
        fresh_key=status == 409,  # noqa: PLR2004
        help_text="Un tiers neuf, ou dont le nom, le SIRET ou l'IBAN change, attend la validation des Finances.",
    )


@requires("tiers", "valider")
@require_POST
@idempotent
def decide(request: HttpRequest, identity: int) -> HttpResponse:
    """Finance validates or refuses."""
    found = get_object_or_404(
        ThirdParty.objects.using("default").select_related("person", "changed_by", "decided_by"), pk=identity
    )
    form, decision = DecisionForm(request.POST), request.POST.get("decision", "")
    if form.is_valid():
        if decision == "valider" and not form.cleaned_data["number"].strip():
            form.add_error("number", "Indiquez le numéro de tiers des Finances.")
        elif decision == "refuser" and not form.cleaned_data["refusal"].strip():
            form.add_error("refusal", "Un refus dit pourquoi.")
        elif decision not in {"valider", "refuser"}:
            form.add_error(None, "Choisissez de valider ou de refuser.")
    if not form.is_valid():
        return _show(request, found, form, 422)
    data = form.cleaned_data
    what = {"number": data["number"].strip()} if decision == "valider" else {"refusal": data["refusal"].strip()}
    try:
        services.decide(identity, data["version"], request.user, **what)
    except services.SameAgentError:
        form.add_error(None, "Vous avez saisi ce tiers : un autre agent doit le valider.")
        return _show(request, found, form, 403)
    except services.StaleError:
        form.add_error(None, "Ce tiers a changé depuis que vous l'avez ouvert : rouvrez sa fiche.")
        return _show(request, found, form, 409)
    except services.TakenError as taken:
        form.add_error("number", str(taken))
        return _show(request, found, form, 422)
    record_access(request.user, found, Action.CHANGE, domain="tiers", detail={"decision": decision})
    messages.success(request, f"{found} : {'validé' if decision == 'valider' else 'refusé'}.")
    return redirect(found)


@requires("tiers", "rapprocher")
@read_only
@require_safe
def reconcile(request: HttpRequest) -> HttpResponse:
    """What SIAS and Finance do not say alike."""
    last = FinanceRecord.objects.order_by("-received_at").first()
    return render(
        request,
        "thirdparties/reconcile.html",
        {"differences": services.differences(), "last": last, "count": FinanceRecord.objects.count()},
    )


edit.sias_form = partial(ThirdPartyForm, editing=True)
decide.sias_form = DecisionForm
