"""Confidential files: who may open one, and setting, changing and lifting the flag."""

from dataclasses import dataclass

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from sias.controle.forms import ConfidentialForm
from sias.habilitations.models import Assignment, ConfidentialPerson
from sias.habilitations.rights import can, check, requires
from sias.habilitations.table import NOTHING, table
from sias.history.context import because
from sias.journal.access import Action, record_access
from sias.platform.idempotency import idempotent, key_of, new_key
from sias.repertoire.models import Person
from sias.repertoire.panels import register
from sias.repertoire.services import composition
from sias.socle.models import TerritoryCommune
from sias.tasks.views import find_agent

NAMED = 40  # agents named on the page; beyond, how many


@dataclass(frozen=True)
class Reader:
    """An agent who can open a confidential file, and why."""

    agent: object
    why: str


def readers(person: Person, allowed: list) -> list[Reader]:
    """Return who can open the file: those it names, then the profiles whose right reaches the person. By name."""
    found = {
        agent.pk: Reader(
            agent, "désigné" if can(agent, "repertoire", "lire", person) else "désigné, mais hors de portée"
        )
        for agent in allowed
    }
    holding = {
        code: letter
        for code in table().profiles
        if (letter := table().reach(code, "repertoire", "confidentiel")) != NOTHING
    }
    today = timezone.localdate()
    where = Q(profile__in=[code for code, letter in holding.items() if letter == "D"]) | Q(
        profile__in=[code for code, letter in holding.items() if letter == "T"], territory__in=_territories(person)
    )
    held = Assignment.objects.filter(
        where, validated_at__isnull=False, since__lte=today, until__gt=today, agent__is_active=True
    ).select_related("agent")
    for row in held:
        found.setdefault(row.agent_id, Reader(row.agent, table().profiles[row.profile].name))
    return sorted(found.values(), key=lambda reader: (not reader.why.startswith("désigné"), str(reader.agent)))


def _territories(person: Person) -> list[str]:
    """Return the codes of territories that a person lives in. Without commune: a territory's right does not reach them."""
    if person.commune is None:
        return ["57"]
    around = TerritoryCommune.objects.on().filter(commune=person.commune).values_list("territory", flat=True)
    return ["57", person.commune_id, *([person.commune.parent] if person.commune.parent else []), *around]


@register("controle/confidential_panel.html")
def panel(request: HttpRequest, person: Person) -> dict | None:
    """Say that the file is confidential to whoever reads it; offer the page to whoever may decide."""
    flag = ConfidentialPerson.objects.filter(person=person).first()
    may = can(request.user, "repertoire", "proteger", person)
    return {"flag": flag, "may": may} if flag or may else None


@requires("repertoire", "proteger")
@require_http_methods(["GET", "HEAD", "POST"])
@idempotent
def confidentiality(request: HttpRequest, identity: int) -> HttpResponse:
    """Set, change or lift the flag, for a person or for the whole household, with a reason."""
    person = get_object_or_404(Person.objects.using("default").select_related("commune"), pk=identity)
    check(request.user, "repertoire", "proteger", person)
    flag = ConfidentialPerson.objects.using("default").filter(person=person).select_related("set_by").first()
    record_access(request.user, person, Action.READ, domain="repertoire", detail={"page": "confidentialité"})
    if request.method != "POST":
        # Whoever sets it goes on seeing the file, unless they decide otherwise.
        names = [agent.username for agent in flag.allowed.all()] if flag else [request.user.username]
        form = ConfidentialForm(initial={"motif": flag.reason if flag else "", "agents": "\n".join(names)})
        return _page(request, person, flag, form)
    form = ConfidentialForm(request.POST)
    allowed = _named(form) if form.is_valid() else []
    lift = request.POST.get("decision") == "lever"
    members = _members(person) if form.is_valid() and form.cleaned_data["foyer"] else [person]
    beyond = [member for member in members if not can(request.user, "repertoire", "proteger", member)]
    if beyond:
        form.add_error("foyer", f"{len(beyond)} membre(s) du ménage sont hors de votre portée : traitez-les à part.")
    if lift and flag is None:
        form.add_error(None, "Cette fiche n'est pas confidentielle.")
    if not form.is_valid():
        return _page(request, person, flag, form, 422)
    reason = " ".join(form.cleaned_data["motif"].split())
    for member in members:
        _decide(request, member, reason, allowed, lift=lift)
    many = len(members) > 1
    state = "n'est plus confidentielle" if lift else "est confidentielle"
    messages.success(
        request,
        f"La fiche des {len(members)} membres du ménage {state}." if many else f"{person} : la fiche {state}.",
    )
    if can(request.user, "repertoire", "lire", _again(person)):
        return redirect("controle:confidentiality", person.pk)
    messages.info(request, "Vous n'y avez plus accès vous-même.")
    return redirect("repertoire:search")


def _again(person: Person) -> Person:
    return Person.objects.using("default").select_related("commune").get(pk=person.pk)


def _members(person: Person) -> list[Person]:
    held = person.memberships.using("default").filter(until=None).select_related("household").first()
    return [member.person for member in composition(held.household).members] if held else [person]


def _named(form: ConfidentialForm) -> list:
    """Return the agents that the form names; what cannot be understood becomes an error of the form."""
    found = []
    for text in form.cleaned_data["agents"].splitlines():
        if text.strip():
            agent, problem = find_agent(text)
            if problem:
                form.add_error("agents", problem)
            else:
                found.append(agent)
    return found


def _decide(request: HttpRequest, person: Person, reason: str, allowed: list, *, lift: bool) -> None:
    rows = ConfidentialPerson.objects.using("default")
    flag = rows.select_for_update().filter(person=person).first()
    with because(reason):
        if lift:
            if flag is not None:
                flag.delete()
        else:
            if flag is None:
                flag = rows.create(person=person, reason=reason, set_by=request.user)
            elif flag.reason != reason:
                flag.reason, flag.set_by = reason, request.user
                flag.save(update_fields=["reason", "set_by"])
            flag.allowed.set(allowed)
    detail = {"confidentielle": not lift, "agents": [agent.username for agent in allowed]}
    record_access(request.user, person, Action.RIGHTS, reason, domain="repertoire", detail=detail)
    if getattr(request.user, "sias_rights", None) is not None:
        del request.user.sias_rights  # what is hidden changed under it


def _page(
    request: HttpRequest, person: Person, flag: ConfidentialPerson | None, form: ConfidentialForm, status: int = 200
) -> HttpResponse:
    seen = readers(person, list(flag.allowed.all()) if flag else [])
    return render(
        request,
        "controle/confidential.html",
        {
            "person": person,
            "flag": flag,
            "form": form,
            "readers": seen[:NAMED],
            "others": max(len(seen) - NAMED, 0),
            "profiles": ", ".join(
                f"{table().profiles[code].name} ({'tout le département' if letter == 'D' else 'son territoire'})"
                for code in table().profiles
                if (letter := table().reach(code, "repertoire", "confidentiel")) != NOTHING
            ),
            "colleagues": get_user_model().objects.filter(is_active=True).order_by("last_name", "first_name")[:500],
            "idempotency_key": key_of(request) or new_key(),
        },
        status=status,
    )


confidentiality.sias_form = ConfidentialForm
