"""The queue, two files side by side, merging and separating."""

import re

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from sias.duplicates import detection, merging
from sias.duplicates.access import examinable, reach
from sias.duplicates.models import Candidate, Kind, Merge
from sias.habilitations.rights import check, requires
from sias.journal.access import Action, record_access
from sias.platform.failover import read_only
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.repertoire import relations
from sias.repertoire.models import Person
from sias.repertoire.services import composition
from sias.socle import geography

SHOWN = 50
READ = 200  # pairs read to show SHOWN of them: some are out of reach
LABELS = {
    "birth_name": "Nom de naissance",
    "usage_name": "Nom d'usage",
    "first_names": "Prénoms",
    "sex": "Sexe",
    "birth_date": "Date de naissance",
    "birth_place": "Lieu de naissance",
    "nir": "NIR",
    "address": "Adresse",
    "postal_code": "Code postal",
    "commune_id": "Commune",
    "phone": "Téléphone",
    "email": "Courriel",
}


@requires("repertoire", "fusionner")
@read_only
@require_safe
def queue(request: HttpRequest) -> HttpResponse:
    """Pairs to examine, the likeliest first."""
    kind = Kind.HOUSEHOLD if request.GET.get("nature") == "menages" else Kind.PERSON
    waiting = Candidate.objects.filter(kind=kind, state=Candidate.State.OPEN).order_by("-score", "id")
    return render(
        request,
        "duplicates/queue.html",
        {
            "kind": kind,
            "pairs": examinable(request, list(waiting[:READ]))[:SHOWN],
            "probable": detection.PROBABLE,
            "idempotency_key": new_key(),
        },
    )


@requires("repertoire", "fusionner")
@require_POST
@idempotent
def ask(request: HttpRequest) -> HttpResponse:
    """Put two files side by side that an agent knows to be one."""
    numbers = [re.sub(r"[\s-]", "", request.POST.get(name, "")).upper() for name in ("premier", "second")]
    kind = Kind.HOUSEHOLD if all(number.startswith("F") for number in numbers) else Kind.PERSON
    rows = {row.number: row for row in kind.model.objects.using("default").filter(number__in=numbers)}
    for row in rows.values():
        check(request.user, "repertoire", "fusionner", row)
    missing = [number or "(vide)" for number in numbers if number not in rows]
    if missing or numbers[0] == numbers[1]:
        why = f"Aucune fiche ne porte le numéro {missing[0]}." if missing else "Donnez deux numéros différents."
        return render(
            request,
            "duplicates/queue.html",
            {
                "kind": kind,
                "pairs": [],
                "problem": why,
                "first": numbers[0],
                "second": numbers[1],
                "probable": detection.PROBABLE,
                "idempotency_key": key_of(request),
            },
            status=422,
        )
    left, right = sorted((rows[number] for number in numbers), key=lambda row: row.pk)
    made, _new = Candidate.objects.using("default").get_or_create(
        kind=kind, left=left.pk, right=right.pk, defaults={"score": 100, "reasons": [f"signalé par {request.user}"]}
    )
    if made.state in {Candidate.State.DISMISSED, Candidate.State.GONE}:
        Candidate.objects.filter(pk=made.pk).update(state=Candidate.State.OPEN)
    return redirect("duplicates:pair", made.pk)


def _find(request: HttpRequest, identity: int) -> tuple[Candidate, object, object]:
    rows = Candidate.objects.using("default") if request.method == "POST" else Candidate.objects
    found = examinable(request, [get_object_or_404(rows, pk=identity)])
    if not found:
        raise Http404
    return found[0]


def _value(person: Person, name: str) -> str:
    if name == "nir":
        return person.nir_masked
    value = getattr(person, name)
    if name == "commune_id":
        place = geography.places().get(value)
        return place.label if place else ""
    return f"{value:%d/%m/%Y}" if name == "birth_date" else person.get_sex_display() if name == "sex" else value


def _fuller(left: Person, right: Person) -> Person:
    """Return who is kept unless the agent says otherwise: the fuller file, else the older one."""
    filled = [sum(bool(_value(person, name)) for name in LABELS) for person in (left, right)]
    return right if filled[1] > filled[0] else left


def _pair_page(request: HttpRequest, found: tuple, status: int = 200, problem: str = "") -> HttpResponse:
    candidate, left, right = found
    posted = request.POST if request.method == "POST" else {}
    kind = Kind(candidate.kind)
    keep = posted.get("garder") or str(_fuller(left, right).pk if kind is Kind.PERSON else left.pk)
    fields = []
    if kind is Kind.PERSON:
        for name, label in LABELS.items():
            values = [_value(person, name) for person in (left, right)]
            base = (
                keep if values[0 if keep == str(left.pk) else 1] else str(right.pk if keep == str(left.pk) else left.pk)
            )
            fields.append(
                {
                    "name": name,
                    "label": label,
                    "left": values[0],
                    "right": values[1],
                    "differs": values[0] != values[1],
                    "picked": posted.get(f"champ-{name}", base),
                }
            )
    sides = []
    for row in (left, right):
        household = (
            row.memberships.filter(until=None).select_related("household").first() if kind is Kind.PERSON else None
        )
        counts = {}
        for relation in relations.of(kind.model):
            if relation.words:
                number = relation.manager.filter(**{f"{relation.field}_id": row.pk}).count()
                counts[relation.words] = counts.get(relation.words, 0) + number
        sides.append(
            {
                "row": row,
                "household": household.household if household else None,
                "composition": composition(household.household if household else row)
                if household or kind is not Kind.PERSON
                else None,
                "counts": [(words, number) for words, number in counts.items() if number],
            }
        )
    return render(
        request,
        "duplicates/pair.html",
        {
            "candidate": candidate,
            "kind": kind,
            "sides": sides,
            "fields": fields,
            "keep": keep,
            "stay": posted.get("menage", keep),
            "reason": posted.get("motif", ""),
            "problem": problem,
            "probable": detection.PROBABLE,
            "decided": candidate.state != Candidate.State.OPEN,
            "idempotency_key": key_of(request) or new_key(),
        },
        status=status,
    )


@requires("repertoire", "fusionner")
@read_only
@require_safe
def pair(request: HttpRequest, identity: int) -> HttpResponse:
    """Two files side by side."""
    found = _find(request, identity)
    for row in found[1:]:
        record_access(request.user, row, Action.READ, domain="repertoire")
    return _pair_page(request, found)


@requires("repertoire", "fusionner")
@require_POST
@idempotent
def merge(request: HttpRequest, identity: int) -> HttpResponse:
    """Merge the two into the one that is kept, with the picked values."""
    found = _find(request, identity)
    candidate, left, right = found
    kind = Kind(candidate.kind)
    both = {str(left.pk): left, str(right.pk): right}
    kept = both.get(request.POST.get("garder", ""))
    if kept is None:
        return _pair_page(request, found, 422, "Dites quelle fiche est gardée.")
    gone = right if kept is left else left
    versions = {}
    if kind is Kind.PERSON:
        try:
            versions = {row.pk: int(request.POST.get(f"version-{row.pk}", "")) for row in (left, right)}
        except ValueError:
            return _pair_page(request, found, 422, "Le numéro de version manque : rechargez la page.")
    picks = tuple(name for name in LABELS if request.POST.get(f"champ-{name}") == str(gone.pk))
    try:
        made = merging.merge(
            kind,
            kept.pk,
            gone.pk,
            agent=request.user,
            reason=" ".join(request.POST.get("motif", "").split())[:300],
            picks=picks,
            choices={"household": "absorbed" if request.POST.get("menage") == str(gone.pk) else "survivor"},
            versions=versions,
        )
    except merging.MergeRefusedError as refused:
        return _pair_page(request, _find(request, identity), 409, str(refused))
    messages.success(
        request, f"{made} est fusionné dans cette fiche, avec tout ce qui le concerne. La fusion peut être annulée."
    )
    return redirect(kept)


@requires("repertoire", "fusionner")
@require_POST
@idempotent
def dismiss(request: HttpRequest, identity: int) -> HttpResponse:
    """Remember that two files are not one, by whom it was said and why."""
    found = _find(request, identity)
    reason = " ".join(request.POST.get("motif", "").split())[:300]
    if not reason:
        return _pair_page(request, found, 422, "Dites pourquoi ce n'est pas un doublon : la décision est conservée.")
    Candidate.objects.filter(pk=found[0].pk, state=Candidate.State.OPEN).update(
        state=Candidate.State.DISMISSED, decided_at=timezone.now(), decided_by=request.user, decision=reason
    )
    messages.success(request, "Noté : ce n'est pas un doublon. La paire ne sera plus proposée.")
    return redirect("duplicates:queue")


@requires("repertoire", "fusionner")
@read_only
@require_safe
def merges(request: HttpRequest) -> HttpResponse:
    """What was merged, and the way back."""
    found = list(Merge.objects.select_related("made_by", "undone_by")[:READ])
    rows = {}
    for kind in Kind:
        wanted = {item.survivor for item in found if item.kind == kind}
        rows |= {(kind, row.pk): row for row in reach(request, kind, wanted)}
    shown = [(item, rows[item.kind, item.survivor]) for item in found if (item.kind, item.survivor) in rows]
    return render(request, "duplicates/merges.html", {"merges": shown, "idempotency_key": new_key()})


@requires("repertoire", "fusionner")
@require_POST
@idempotent
def unmerge(request: HttpRequest, identity: int) -> HttpResponse:
    """Separate two merged files."""
    made = get_object_or_404(Merge.objects.using("default"), pk=identity)
    kept = Kind(made.kind).model.objects.using("default").filter(pk=made.survivor).first()
    if kept is not None:
        check(request.user, "repertoire", "fusionner", kept)
        record_access(request.user, kept, Action.CHANGE, f"fusion de {made} annulée", domain="repertoire")
    try:
        edited = merging.unmerge(made, request.user)
    except merging.MergeRefusedError as refused:
        return render(request, "households/refused.html", {"reason": str(refused), "back": "/fusions/"}, status=409)
    messages.success(request, f"La fusion est annulée : {made} a de nouveau sa fiche.")
    if edited:
        labels = ", ".join(LABELS.get(name, name) for name in edited)
        messages.warning(request, f"Modifiés depuis la fusion, laissés comme ils sont : {labels}.")
    return redirect(Kind(made.kind).model.objects.using("default").get(pk=made.absorbed))
