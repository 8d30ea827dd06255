"""Pages of the household file."""

from collections.abc import Callable
from datetime import date, datetime, time
from functools import wraps

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from sias.habilitations.rights import can, check, mask, requires
from sias.history import past as history_past
from sias.history import words
from sias.history.models import Change
from sias.households import moves, sheet, tabs
from sias.households.access import MergedError, open_household
from sias.households.forms import MoveForm, PastForm
from sias.households.models import ExternalKey, Move
from sias.journal.access import Action, record_access
from sias.platform.failover import read_only
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.platform.routing import reads
from sias.repertoire.models import Household, Membership, Person
from sias.repertoire.services import Composition, composition
from sias.socle import geography

CHANGES = 50  # on a page of history


def follows_merges(view: Callable) -> Callable:
    """Lead to the household that the asked one was merged into."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except MergedError as merged:
            if request.method != "POST":
                messages.info(request, "Ce ménage a été fusionné avec celui-ci, qui contient tout ce qui le concerne.")
            return redirect("households:file", merged.into)

    return wrapper


def changes_of(household: Household, members: list[int]) -> QuerySet[Change]:
    """Return what changed in a household: its rows, its members' identity and memberships."""
    return (
        Change.objects.filter(
            Q(household_id=household.pk)
            | Q(left_household_id=household.pk)
            | Q(person_id__in=members, household_id__isnull=True)
        )
        .select_related("agent")
        .order_by("-id")
    )


def frame(request: HttpRequest, household: Household, slug: str, made: Composition | None = None) -> dict:
    """Return what every tab of the file shows around itself."""
    made = made or composition(household)
    last = changes_of(household, [member.person_id for member in made.members]).first()
    heads = [
        (part.template, context) for part in tabs.HEADS if (context := part.context(request, household)) is not None
    ]
    return {
        "household": household,
        "composition": made,
        "masked": mask(request.user, [member.person for member in made.members]),
        "may_export": can(request.user, "repertoire", "exporter", household),
        "may_move": can(request.user, "repertoire", "deplacer", household),
        "tabs": sorted(tabs.TABS.values(), key=lambda part: part.order),
        "slug": slug,
        "heads": heads,
        "saved": last,
    }


@follows_merges
@requires("repertoire", "lire")
@read_only
@require_safe
def file(request: HttpRequest, identity: int, slug: str = "") -> HttpResponse:
    """A tab of the household file."""
    part = tabs.TABS.get(slug)
    if part is None:
        raise Http404
    household = open_household(request, identity)
    context = part.context(request, household)
    if context is None:
        raise Http404
    return render(request, part.template, frame(request, household, slug) | context)


@tabs.tab("", "Ménage", "households/home.html", 0)
def home(request: HttpRequest, household: Household) -> dict:
    """Members, requests, what modules add."""
    asked = sorted(
        (line for source in tabs.REQUESTS for line in source(request, household)),
        key=lambda line: line.on,
        reverse=True,
    )
    past_members = list(household.memberships.filter(until__isnull=False).select_related("person").order_by("-until"))
    return {
        "past": past_members,
        "past_masked": mask(request.user, [member.person for member in past_members]),
        "asked": asked,
        "sections": [
            (part.template, context)
            for part in tabs.SECTIONS
            if (context := part.context(request, household)) is not None
        ],
    }


@tabs.tab("identite", "Identité", "households/identity.html", 10)
def identity_tab(_request: HttpRequest, household: Household) -> dict:
    """The members' identities, side by side."""
    return {"keys": ExternalKey.objects.filter(household=household)}


@tabs.tab("suivi", "Suivi et modification", "households/history.html", 90)
def history_tab(request: HttpRequest, household: Household) -> dict:
    """Who changed what and when; moves, and the way back."""
    members = [member.person for member in composition(household).members]
    closed = mask(request.user, members)
    readable = [member.pk for member in members if member.pk not in closed]
    changes, following = _page(request, changes_of(household, readable))
    made = list(
        Move.objects.filter(Q(source=household) | Q(target=household))
        .select_related("source", "target", "made_by", "undone_by")
        .prefetch_related("persons")
    )
    # Those who left count too: what is closed to the agent today is closed in the past.
    spoken_of = Person.objects.filter(pk__in={change.person_id for change in changes if change.person_id})
    masked = mask(request.user, {*spoken_of, *(person for move in made for person in move.persons.all())})
    changes = [change for change in changes if change.person_id not in masked]
    return {
        "told": words.tell(request, changes),
        "next": following,
        "moves": made,
        "moves_masked": masked,
        "past_form": PastForm(),
        "idempotency_key": new_key(),
    }


def _page(request: HttpRequest, changes: QuerySet[Change]) -> tuple[list[Change], int | None]:
    before = request.GET.get("avant", "")
    if before.isdecimal():
        changes = changes.filter(pk__lt=int(before))
    found = list(changes[: CHANGES + 1])
    return found[:CHANGES], found[CHANGES - 1].pk if len(found) > CHANGES else None


@follows_merges
@requires("repertoire", "lire")
@read_only
@require_safe
def past(request: HttpRequest, identity: int) -> HttpResponse:
    """The household as it was recorded at the end of a day."""
    household = open_household(request, identity)
    form = PastForm(request.GET)
    if not form.is_valid():
        return render(
            request, "households/past.html", frame(request, household, "suivi") | {"past_form": form}, status=422
        )
    day = form.cleaned_data["le"]
    moment = timezone.make_aware(datetime.combine(day, time.max))
    try:
        members = _members_at(household, day, moment)
    except history_past.TooFarError:
        form.add_error(
            "le", "Trop de modifications depuis ce jour pour les remonter. Choisissez une date plus récente."
        )
        return render(
            request, "households/past.html", frame(request, household, "suivi") | {"past_form": form}, status=422
        )
    return render(
        request,
        "households/past.html",
        frame(request, household, "suivi")
        | {
            "past_form": form,
            "day": day,
            "then": Composition(members),
            "past_masked": mask(request.user, [member.person for member in members]),
            "unborn": household.created_at > moment,
        },
    )


def _members_at(household: Household, day: date, moment: datetime) -> list[Membership]:
    found = []
    for row in history_past.rows_at(Membership, moment, household_id=household.pk):
        since, until = date.fromisoformat(row["since"]), row["until"] and date.fromisoformat(row["until"])
        if since > day or (until and until <= day):
            continue
        persons = history_past.rows_at(Person, moment, id=row["person_id"])
        if not persons:
            continue
        # from_db: made from what was read, and no write that the router would have to refuse.
        known = {field.attname: persons[0].get(field.column) for field in Person._meta.concrete_fields}  # noqa: SLF001
        known |= {"birth_date": date.fromisoformat(known["birth_date"]), "nir_encrypted": None, "nir_index": None}
        person = Person.from_db(reads(), list(known), list(known.values()))
        person.place = geography.places().get(person.commune_id)
        person.age_then = person.age(day)
        member = Membership.from_db(
            reads(),
            ["id", "person_id", "household_id", "role", "since", "until"],
            [row["id"], person.pk, household.pk, row["role"], since, until],
        )
        member.person = person
        found.append(member)
    return sorted(found, key=lambda member: (member.role, member.person.birth_date))


@follows_merges
@requires("repertoire", "exporter")
@read_only
@require_safe
def download_sheet(request: HttpRequest, identity: int) -> HttpResponse:
    """The household's sheet as a PDF; that it left is in the log."""
    household = open_household(request, identity, "exporter")
    body = sheet.pdf(request, household)
    record_access(request.user, household, Action.EXPORT, domain="repertoire", detail={"document": "fiche PDF"})
    name = f"fiche-{household.number}-{timezone.localtime():%Y%m%d-%H%M}.pdf"
    return HttpResponse(
        body, content_type="application/pdf", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


@requires("repertoire", "lire")
@read_only
@require_safe
def person_history(request: HttpRequest, identity: int) -> HttpResponse:
    """Who changed what and when in a person's file."""
    person = get_object_or_404(Person, pk=identity)
    check(request.user, "repertoire", "lire", person)
    record_access(request.user, person, Action.READ, domain="repertoire", detail={"page": "historique"})
    changes, following = _page(
        request, Change.objects.filter(person_id=person.pk).select_related("agent").order_by("-id")
    )
    return render(
        request,
        "households/person_history.html",
        {"person": person, "told": words.tell(request, changes), "next": following},
    )


@requires("repertoire", "lire")
@read_only
@require_safe
def by_key(request: HttpRequest, system: str, key: str) -> HttpResponse:  # noqa: ARG001 - an address
    """Lead from the key of another system to the household that holds it now."""
    found = get_object_or_404(ExternalKey, system=system.upper(), key=key)
    return redirect("households:file", found.household_id)


# --- moves -----------------------------------------------------------------------------------------------------------
def _move_page(request: HttpRequest, household: Household, form: MoveForm, status: int = 200) -> HttpResponse:
    return render(
        request,
        "households/move.html",
        frame(request, household, "") | {"form": form, "idempotency_key": key_of(request) or new_key()},
        status=status,
    )


@follows_merges
@requires("repertoire", "deplacer")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def move_persons(request: HttpRequest, identity: int) -> HttpResponse:
    """Move members to another household, with everything that concerns them."""
    household = open_household(request, identity, "deplacer")
    members = [
        (str(member.person_id), f"{member.person} ({member.person.age()} ans)")
        for member in composition(household).members
        if can(request.user, "repertoire", "deplacer", member.person)
    ]
    if request.method != "POST":
        initial = {"effective_on": timezone.localdate(), "persons": request.GET.getlist("personne")}
        return _move_page(request, household, MoveForm(members=members, initial=initial))
    form = MoveForm(request.POST, members=members)
    if not form.is_valid():
        return _move_page(request, household, form, status=422)
    data = form.cleaned_data
    target = None
    if data["target"]:
        target = Household.objects.using("default").filter(number=data["target"]).first()
        if target is None:
            form.add_error("target", f"Aucun ménage ne porte le numéro {data['target']}.")
            return _move_page(request, household, form, status=422)
    try:
        made = moves.move(
            [int(person) for person in data["persons"]],
            household,
            target,
            effective_on=data["effective_on"],
            reason=data["reason"],
            comment=data["comment"],
            agent=request.user,
        )
    except moves.MoveRefusedError as refused:
        form.add_error(None, str(refused))
        return _move_page(request, household, form, status=409)
    count = len(data["persons"])
    messages.success(
        request,
        f"{count} personne{'s' if count > 1 else ''} déplacée{'s' if count > 1 else ''} du {household} vers le "
        f"{made.target}, avec tout ce qui les concerne. Le changement peut être annulé dans « Suivi et modification ».",
    )
    return redirect("households:file", made.target_id)


move_persons.sias_form = MoveForm


@requires("repertoire", "deplacer")
@require_POST
@idempotent
def undo_move(request: HttpRequest, identity: int) -> HttpResponse:
    """Undo a move."""
    made = get_object_or_404(Move.objects.using("default").select_related("source", "target"), pk=identity)
    open_household(request, made.source_id, "deplacer")
    try:
        moves.undo(made, request.user)
    except moves.MoveRefusedError as refused:
        return render(
            request,
            "households/refused.html",
            {"reason": str(refused), "back": made.target.get_absolute_url(), "household": made.target},
            status=409,
        )
    messages.success(request, "Le changement de ménage est annulé : tout est revenu comme avant.")
    return redirect("households:tab", made.source_id, "suivi")
