"""Write, correct and withdraw notes."""

from django.contrib import messages
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from sias.habilitations.rights import check, requires
from sias.history.context import because
from sias.households.access import open_household
from sias.households.views import follows_merges, frame
from sias.notes import drafts
from sias.notes.forms import NoteForm
from sias.notes.models import Note
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.repertoire.models import Household, Person
from sias.repertoire.services import composition

FIELDS = ("kind", "visibility", "happened_on", "body", "pinned_until")


def _members(household: Household, note: Note | None = None) -> list[tuple[str, str]]:
    found = [(str(member.person_id), str(member.person)) for member in composition(household).members]
    if note is not None and note.person_id and str(note.person_id) not in dict(found):
        found.append((str(note.person_id), str(note.person)))
    return found


def _check_person(request: HttpRequest, person_id: str) -> None:
    """A note about a person asks about that person too: the household may be open and the person not."""
    if person_id:
        check(request.user, "repertoire", "modifier", Person.objects.using("default").get(pk=person_id))


def _page(
    request: HttpRequest, household: Household, form: NoteForm, status: int = 200, **context: object
) -> HttpResponse:
    return render(
        request,
        "notes/form.html",
        frame(request, household, "notes") | {"form": form, "idempotency_key": key_of(request) or new_key()} | context,
        status=status,
    )


@follows_merges
@requires("repertoire", "modifier")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def create(request: HttpRequest, identity: int) -> HttpResponse:
    """Write a note."""
    household = open_household(request, identity, "modifier")
    members = _members(household)
    if request.method != "POST":
        kind = request.GET.get("type", Note.Kind.NOTE)
        initial = {"kind": kind, "happened_on": timezone.localdate(), "person": request.GET.get("personne", "")}
        draft = drafts.find(request.user, household, None)
        initial |= draft.values if draft else {}
        return _page(request, household, NoteForm(members=members, initial=initial), draft=draft)
    form = NoteForm(request.POST, members=members)
    if not form.is_valid():
        return _page(request, household, form, status=422)
    data = form.cleaned_data
    _check_person(request, data["person"])
    made = Note.objects.create(
        household=household,
        person_id=data["person"] or None,
        author=request.user,
        updated_by=request.user,
        service=request.user.service,
        **{name: data[name] for name in FIELDS},
    )
    drafts.forget(request.user, household, None)
    messages.success(request, f"{made} : enregistrée.")
    return redirect(made)


def _mine(request: HttpRequest, identity: int) -> Note:
    return get_object_or_404(
        Note.objects.using("default").readable_by(request.user).select_related("household", "person", "updated_by"),
        pk=identity,
        withdrawn_at=None,
    )


@requires("repertoire", "modifier")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def edit(request: HttpRequest, identity: int) -> HttpResponse:
    """Correct a note, unless someone else did meanwhile; only its author decides who may read it."""
    note = _mine(request, identity)
    open_household(request, note.household_id, "modifier")
    members = _members(note.household, note)
    initial = {name: getattr(note, name) for name in FIELDS} | {"version": note.version, "person": note.person_id or ""}
    if request.method != "POST":
        draft = drafts.find(request.user, note.household, note)
        shown = initial | (draft.values if draft else {})
        return _page(request, note.household, NoteForm(members=members, initial=shown), note=note, draft=draft)
    form = NoteForm(request.POST, members=members)
    if form.is_valid() and form.cleaned_data["visibility"] != note.visibility and note.author_id != request.user.pk:
        form.add_error("visibility", "Seul l'auteur d'une note change qui peut la lire.")
    if not form.is_valid():
        return _page(request, note.household, form, status=422, note=note)
    data = form.cleaned_data
    _check_person(request, data["person"])
    done = Note.objects.filter(pk=note.pk, version=data["version"] or 0, withdrawn_at=None).update(
        **{name: data[name] for name in FIELDS},
        person_id=data["person"] or None,
        version=F("version") + 1,
        updated_at=timezone.now(),
        updated_by=request.user,
    )
    if not done:
        again = NoteForm({**request.POST.dict(), "version": note.version}, members=members)
        differences = [
            {"label": field.label, "theirs": _shown(form, name, initial[name]), "mine": _shown(form, name, data[name])}
            for name, field in form.fields.items()
            if name != "version" and str(initial[name] or "") != str(data[name] or "")
        ]
        return _page(
            request,
            note.household,
            again,
            409,
            note=note,
            conflict=note,
            differences=differences,
            idempotency_key=new_key(),
        )
    drafts.forget(request.user, note.household, note)
    messages.success(request, "La note est enregistrée.")
    return redirect(note)


def _shown(form: NoteForm, name: str, value: object) -> str:
    if hasattr(form.fields[name], "choices"):
        return str(dict(form.fields[name].choices).get(str(value), value))
    return f"{value:%d/%m/%Y}" if hasattr(value, "strftime") else str(value or "")


@requires("repertoire", "modifier")
@require_POST
@idempotent
def withdraw(request: HttpRequest, identity: int) -> HttpResponse:
    """Withdraw a note: it stays in history, struck through, with the reason."""
    note = _mine(request, identity)
    open_household(request, note.household_id, "modifier")
    reason = " ".join(request.POST.get("motif", "").split())[:200]
    if not reason:
        return render(
            request,
            "households/refused.html",
            {"reason": "Dites pourquoi la note est retirée.", "back": note.get_absolute_url()},
            status=422,
        )
    with because(reason):
        Note.objects.filter(pk=note.pk).update(
            withdrawn_at=timezone.now(), withdrawn_reason=reason, updated_by=request.user, updated_at=timezone.now()
        )
    messages.success(request, "La note est retirée. Elle reste dans l'historique.")
    return redirect(note)


create.sias_form = edit.sias_form = NoteForm
