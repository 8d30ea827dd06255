"""Pages of rights."""

from http import HTTPStatus

from django.apps import apps
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from sias.habilitations.forms import ReasonForm
from sias.habilitations.models import BREAK_GLASS_LASTS, BreakGlass
from sias.habilitations.rights import AccessRefusedError, can, for_everyone, persons_of, requires
from sias.habilitations.signals import exceptional_access_opened
from sias.journal.access import Action, record_access
from sias.platform.idempotency import idempotent, key_of, new_key

SENTENCES = {
    "profil": "Votre profil ne permet pas cette action.",
    "territoire": "Cette fiche est hors de votre territoire.",
    "confidentiel": "Cette fiche est confidentielle.",
}


def refused(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403 in words, logged; for a person out of reach, with the way to a motivated access."""
    why, person = "profil", None
    if isinstance(exception, AccessRefusedError):
        why = exception.why
        record_access(
            request.user,
            exception.target,
            Action.REFUSED,
            why,
            domain=exception.domain,
            detail={"action": exception.action, "adresse": request.path},
            after=True,
        )
        persons = persons_of(exception.target) if exception.target is not None else None
        if persons and exception.action == "lire" and can(request.user, "acces_exceptionnel", "ouvrir"):
            person = persons[0]
    return _refusal(request, why, person, ReasonForm(), HTTPStatus.FORBIDDEN)


def _refusal(request: HttpRequest, why: str, person: object, form: ReasonForm, status: int) -> HttpResponse:
    return render(
        request,
        "habilitations/refused.html",
        {
            "sentence": SENTENCES.get(why, "Vos habilitations ne permettent pas cette action."),
            "person": person,
            "form": form,
            "idempotency_key": key_of(request) or new_key(),
            "hours": int(BREAK_GLASS_LASTS.total_seconds() // 3600),
        },
        status=status,
    )


@for_everyone
def home(request: HttpRequest) -> HttpResponse:
    """Lead to the first page that the agent may use."""
    for rule, view in HOMES:
        if can(request.user, *rule):
            return redirect(view)
    return _refusal(request, "", None, ReasonForm(), HTTPStatus.FORBIDDEN)


HOMES = ((("repertoire", "rechercher"), "repertoire:search"), (("tache", "lire"), "tasks:inbox"))


@requires("acces_exceptionnel", "ouvrir")
@require_POST
@idempotent
def open_exceptional(request: HttpRequest, identity: int) -> HttpResponse:
    """Open a person for some hours, with a reason that will be read."""
    person = get_object_or_404(apps.get_model("repertoire", "Person").objects.using("default"), pk=identity)
    form = ReasonForm(request.POST)
    if not form.is_valid():
        return _refusal(request, "", person, form, HTTPStatus.UNPROCESSABLE_ENTITY)
    reason = " ".join(form.cleaned_data["motif"].split())
    access = BreakGlass.objects.create(
        agent=request.user, person=person, reason=reason, until=timezone.now() + BREAK_GLASS_LASTS
    )
    record_access(request.user, person, Action.BREAK_GLASS, reason, domain="acces_exceptionnel")
    exceptional_access_opened.send(sender=BreakGlass, access=access)
    messages.warning(
        request,
        f"Accès exceptionnel ouvert jusqu'à {timezone.localtime(access.until):%H:%M}. "
        "Il est inscrit au journal et sera examiné.",
    )
    return redirect(person)


open_exceptional.sias_form = ReasonForm
