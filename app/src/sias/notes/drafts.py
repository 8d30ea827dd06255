"""What is being typed saves itself: a draft per agent, household and note."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from sias.habilitations.rights import check, requires
from sias.notes.forms import NoteForm
from sias.notes.models import Draft, Note
from sias.platform.idempotency import idempotent
from sias.repertoire.models import Household

KEPT = ("kind", "visibility", "person", "happened_on", "body", "pinned_until", "version")
LONGEST = NoteForm.base_fields["body"].max_length


def find(agent: object, household: Household, note: Note | None) -> Draft | None:
    """Return the agent's last draft for a note, or for a note to be."""
    rows = Draft.objects.using("default").filter(agent=agent, household=household, note=note)
    return rows.order_by("-saved_at").first()


def forget(agent: object, household: Household, note: Note | None) -> None:
    """Forget the agent's drafts: the note is saved."""
    Draft.objects.using("default").filter(agent=agent, household=household, note=note).delete()


@requires("repertoire", "modifier")
@require_POST
@idempotent
def keep(request: HttpRequest, identity: int) -> HttpResponse:
    """Keep what is typed, or throw it away; the page stays where it is."""
    household = get_object_or_404(Household.objects.using("default"), pk=identity)
    check(request.user, "repertoire", "modifier", household)
    note = None
    if request.POST.get("note"):
        notes = Note.objects.using("default").readable_by(request.user).filter(household=household, withdrawn_at=None)
        note = get_object_or_404(notes, pk=request.POST["note"] if request.POST["note"].isdecimal() else 0)
    if request.POST.get("action") == "jeter":
        forget(request.user, household, note)
        if note is not None:
            return redirect("notes:edit", note.pk)
        return redirect(reverse("notes:create", args=[household.pk]))
    values = {name: request.POST.get(name, "") for name in KEPT}
    if len(values["body"]) > LONGEST or sum(map(len, values.values())) > LONGEST + 1000:
        return JsonResponse(
            {"message": f"Le texte dépasse {LONGEST} caractères : la suite n'est pas gardée."}, status=422
        )
    draft = find(request.user, household, note) or Draft(agent=request.user, household=household, note=note)
    draft.values = values
    draft.save()
    return JsonResponse({"saved": sentence(draft)})


def sentence(draft: Draft) -> str:
    """Say that nothing is lost."""
    at = timezone.localtime(draft.saved_at)
    return f"Toutes les informations sont sauvegardées. Brouillon gardé le {at:%d/%m/%Y} à {at:%H:%M}."
