"""Pages of the Répertoire Général."""

from datetime import date
from functools import partial

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from sias.habilitations.rights import can, check, mask, requires
from sias.journal.access import Action, record_access
from sias.platform.failover import read_only
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.repertoire import merging, relations, services
from sias.repertoire import search as engine
from sias.repertoire.forms import PersonForm, SearchForm
from sias.repertoire.models import Person
from sias.repertoire.panels import PANELS
from sias.socle import geography


@requires("repertoire", "rechercher")
@read_only
@require_safe
def search(request: HttpRequest) -> HttpResponse:
    """The entry point: one field, two refinements, ranked results with their reasons."""
    form = SearchForm(request.GET)
    form.full_clean()
    data = form.cleaned_data
    place = geography.find(data.get("commune", "")) if data.get("commune") else None
    question = engine.parse(data.get("q", ""), data.get("naissance", ""), place, data.get("adresse", ""))
    problems = []
    if data.get("commune") and place is None:
        problems.append(f"Commune inconnue en Moselle : « {data['commune']} ». Elle n'a pas été prise en compte.")
    if data.get("naissance") and question.birth is None:
        problems.append(f"Date de naissance incomprise : « {data['naissance']} ». Écrivez 31/12/1975 ou 1975.")
    if data.get("adresse") and not question.street:
        problems.append(f"Adresse incomprise : « {data['adresse']} ». Écrivez le nom de la rue.")
    if question.empty and (question.birth or place):
        problems.append("Ajoutez au moins un nom, une adresse ou une date de naissance complète.")
    page = engine.find(question, cursor_text=request.GET.get("apres", ""))
    masked = mask(request.user, [hit.person for hit in page.hits])
    for hit in page.hits:
        hit.masked = masked.get(hit.person.pk, "")
    if not question.empty:
        record_access(
            request.user,
            None,
            Action.SEARCH,
            domain="repertoire",
            detail={"q": data.get("q", ""), "naissance": data.get("naissance", ""), "commune": data.get("commune", "")}
            | {"adresse": data.get("adresse", "")}
            | {"personnes": [hit.person.pk for hit in page.hits], "masquees": len(masked)},
        )
    following = ""
    if page.next_cursor:
        query = request.GET.copy()
        query["apres"] = page.next_cursor
        following = f"?{query.urlencode()}"
    return render(
        request,
        "repertoire/search.html",
        {
            "form": data,
            "question": question,
            "page": page,
            "problems": problems,
            "next": following,
            "asked": not question.empty or bool(problems),
            "continued": "apres" in request.GET,
            "may_create": can(request.user, "repertoire", "creer"),
            "places": geography.inhabited(),
        },
    )


def _merged_into(identity: int) -> int | None:
    """Return who took over a person that is no longer there."""
    return None if Person.objects.filter(pk=identity).exists() else relations.successor(Person, identity)


@requires("repertoire", "lire")
@read_only
@require_safe
def person(request: HttpRequest, identity: int) -> HttpResponse:
    """A person: identity, household, documents."""
    if (into := _merged_into(identity)) is not None:
        messages.info(request, "Cette fiche a été fusionnée avec celle-ci, qui contient tout ce qui la concerne.")
        return redirect("repertoire:person", into)
    found = get_object_or_404(Person.objects.select_related("commune", "updated_by"), pk=identity)
    check(request.user, "repertoire", "lire", found)
    record_access(request.user, found, Action.READ, domain="repertoire")
    memberships = list(found.memberships.select_related("household").order_by("-since"))
    current = next((item for item in memberships if item.until is None), None)
    composition = services.composition(current.household) if current else None
    return render(
        request,
        "repertoire/person.html",
        {
            "person": found,
            "membership": current,
            "past": [item for item in memberships if item.until is not None],
            "composition": composition,
            "masked": mask(request.user, [item.person for item in composition.members] if composition else []),
            "may_edit": can(request.user, "repertoire", "modifier", found),
            "panels": [
                (panel.template, context) for panel in PANELS if (context := panel.context(request, found)) is not None
            ],
        },
    )


def _form_page(request: HttpRequest, form: PersonForm, status: int = 200, **context: object) -> HttpResponse:
    return render(
        request,
        "repertoire/person_form.html",
        {
            "form": form,
            "places": geography.inhabited(),
            "idempotency_key": key_of(request) or new_key(),
            **context,
        },
        status=status,
    )


@requires("repertoire", "creer")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def create(request: HttpRequest) -> HttpResponse:
    """Create a person, in a new household or in one that exists."""
    if request.method != "POST":
        return _form_page(request, PersonForm(initial={"household": request.GET.get("foyer", "")}))
    form = PersonForm(request.POST)
    if not form.is_valid():
        return _form_page(request, form, status=422)
    try:
        with transaction.atomic():
            made = services.create_person(form.cleaned_data, request.user)
            record_access(request.user, made, Action.CREATE, domain="repertoire")
    except services.HouseholdUnknownError as unknown:
        form.add_error("household", f"Aucun ménage ne porte le numéro {unknown}.")
    except IntegrityError as error:
        if "nir_index" not in str(error):
            raise
        _point_at_holder(form)
    else:
        messages.success(request, f"{made} : fiche créée et enregistrée.")
        return redirect(made)
    return _form_page(request, form, status=422)


@requires("repertoire", "modifier")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def edit(request: HttpRequest, identity: int) -> HttpResponse:
    """Change a person, unless someone else did meanwhile."""
    found = get_object_or_404(Person.objects.using("default"), pk=identity)
    check(request.user, "repertoire", "modifier", found)
    if request.method != "POST":
        record_access(request.user, found, Action.READ, domain="repertoire")
        return _form_page(request, PersonForm(editing=True, initial=_initial(found)), person=found)
    posted, shown = request.POST.dict(), _shown(found)
    asked = [name for name in posted.get(merging.UNDECIDED, "").split() if name in shown]
    # Choices count for the version that they were shown with; with a newer one there is a new conflict anyway.
    posted |= {name: shown[name] for name in asked if posted.get(f"{merging.CHOICE}{name}") == merging.THEIRS}
    form = PersonForm(posted, editing=True)
    if form.is_valid() and form.cleaned_data["version"] is None:
        form.add_error(None, "Le numéro de version manque : rouvrez la fiche.")
    if not form.is_valid():
        return _form_page(request, form, status=422, person=found)
    if form.cleaned_data["version"] == found.version and any(
        posted.get(f"{merging.CHOICE}{name}") not in {merging.MINE, merging.THEIRS} for name in asked
    ):
        return _conflict(request, identity, asked)
    try:
        with transaction.atomic():
            changed = services.update_person(found, form.cleaned_data, request.user)
            record_access(request.user, found, Action.CHANGE, domain="repertoire", detail={"champs": changed})
    except services.StaleVersionError:
        return _conflict(request, identity)
    except IntegrityError as error:
        if "nir_index" not in str(error):
            raise
        _point_at_holder(form)
        return _form_page(request, form, status=422, person=found)
    messages.success(request, "Toutes les modifications sont enregistrées." if changed else "Rien n'avait changé.")
    return redirect(found)


def _initial(found: Person) -> dict:
    fields = {
        **{name: getattr(found, name) for name in services.FIELDS},
        "commune": geography.places()[found.commune_id].label if found.commune_id in geography.places() else "",
    }
    return {**fields, "version": found.version, "base": merging.write_base(_texts(fields))}


def _texts(fields: dict) -> dict[str, str]:
    """Return the fields as the form writes them."""
    return {name: f"{value:%d/%m/%Y}" if isinstance(value, date) else str(value) for name, value in fields.items()}


def _shown(found: Person) -> dict[str, str]:
    return {name: value for name, value in _texts(_initial(found)).items() if name not in merging.KEPT_APART}


def _conflict(request: HttpRequest, identity: int, asked: list[str] | None = None) -> HttpResponse:
    """Show the form again, merged: what only one of both changed is settled, the rest is to be chosen field by field.

    `asked` are the fields that were to be chosen already, some of them still are.
    """
    current = Person.objects.using("default").select_related("updated_by").get(pk=identity)
    labels = {name: str(field.label) for name, field in PersonForm(editing=True).fields.items()}
    typed = PersonForm(request.POST, editing=True)
    typed.full_clean()
    mine = _texts({**request.POST.dict(), **typed.cleaned_data})
    mine["commune"] = geography.places()[mine["commune"]].label if mine["commune"] in geography.places() else ""
    theirs = _shown(current)
    if asked:
        choices = {name: request.POST.get(f"{merging.CHOICE}{name}", "") for name in asked}
        rows = [merging.Difference(name, labels[name], theirs[name], mine[name], choices[name]) for name in asked]
        merged = merging.Merged({}, [], rows)
    else:
        merged = merging.merge(labels, merging.read_base(request.POST.get("base", "")), theirs, mine)
    again = {**request.POST.dict(), **merged.data, "version": current.version, "base": merging.write_base(theirs)}
    return _form_page(
        request,
        PersonForm(again, editing=True),
        status=409,
        person=current,
        conflict=current,
        differences=merged.differences,
        taken=merged.taken,
        undecided=bool(asked),
        # A new attempt is another write: the version changed, so must the key.
        idempotency_key=new_key(),
    )


def _point_at_holder(form: PersonForm) -> None:
    from sias.repertoire import nir  # noqa: PLC0415 - only on this path

    holder = Person.objects.using("default").filter(nir_index=nir.blind_index(form.cleaned_data["nir"])).first()
    where = f" : {holder}, dossier {holder.number} ({reverse('repertoire:person', args=[holder.pk])})" if holder else ""
    form.add_error("nir", f"Ce NIR est déjà celui d'une autre personne{where}. Vérifiez s'il s'agit d'un doublon.")


create.sias_form = PersonForm
edit.sias_form = partial(PersonForm, editing=True)
