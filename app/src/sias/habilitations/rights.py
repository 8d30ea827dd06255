"""What an agent may do: `can`, `scope`, `check`, `mask`, and the marks that every view must carry.

* `@requires("note", "lire")`: the agent must hold the action somewhere, else 403; the view then asks about its object
* `can(agent, "note", "lire", note)`: may the agent, somewhere (no object) or on this object?
* `check(agent, "note", "lire", note)`: the same, or AccessRefusedError: a 403 that is logged and, when it may help, offers
  an exceptional access
* `scope(agent, rows, "note", "lire")`: the rows that the agent reaches
* `mask(agent, persons)`: {person's key: why it is masked} for the persons of a list that one may not open

A model says how it hangs on a person, whose commune and confidentiality decide: `person_path = "person"` (a path of
attributes and of the ORM; "" for the person itself), and for other reaches `service_path`, `owner_path`. One that hangs
on several says also `habilitation_persons()` and, for the rows that count, `person_filter` (a Q). A model that hangs on
nobody (none of these) is reached by whoever holds the action. A person without commune is reached from everywhere.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from django.core.exceptions import PermissionDenied
from django.db import connections, models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from sias.habilitations.models import ConfidentialPerson
from sias.habilitations.table import NOTHING, table
from sias.platform.routing import reads

# One round trip: profiles with the communes of their territories and the services below theirs, and open accesses.
_RIGHTS = """
WITH RECURSIVE held AS (
  SELECT id, profile, territory, service FROM habilitations_assignment
   WHERE agent_id = %(agent)s AND validated_at IS NOT NULL AND since <= %(day)s AND until > %(day)s),
below AS (
  SELECT service AS code, service AS top FROM held WHERE service <> ''
  UNION SELECT s.code, b.top FROM below b JOIN socle_service s ON s.parent = b.code
   WHERE s.since <= %(day)s AND (s.until IS NULL OR s.until > %(day)s))
SELECT json_build_object(
  'held', (SELECT coalesce(json_agg(json_build_object(
      'profile', profile, 'territory', territory, 'service', service,
      'communes', CASE WHEN territory = '57' THEN NULL ELSE (
        SELECT coalesce(json_agg(code), '[]') FROM (
          SELECT commune_id AS code FROM socle_territorycommune c
           WHERE c.territory = held.territory AND c.since <= %(day)s AND (c.until IS NULL OR c.until > %(day)s)
          UNION SELECT code FROM socle_commune WHERE code = held.territory OR parent = held.territory) AS its) END,
      'services', (SELECT json_agg(code) FROM below WHERE top = held.service)) ORDER BY id), '[]') FROM held),
  'opened', (SELECT coalesce(json_agg(DISTINCT person_id), '[]') FROM habilitations_breakglass
              WHERE agent_id = %(agent)s AND until > now()))::text
"""
# Asked for nearly every page: written out, since building it would cost more than answering it.
_HIDDEN = """
SELECT person_id FROM habilitations_confidentialperson c WHERE person_id = ANY(%(persons)s) AND NOT EXISTS (
  SELECT FROM habilitations_confidentialperson_allowed WHERE confidentialperson_id = c.id AND agent_id = %(agent)s)
"""

# Actions that change what concerns a person; whatever the rights, a guard of a module may forbid them.
CHANGES = {"creer", "modifier", "deplacer", "fusionner", "noter", "orienter"}
GUARDS: list[Callable[[object, list[models.Model]], str]] = []  # (agent, persons) -> a key of SENTENCES, "" when free


class AccessRefusedError(PermissionDenied):
    """The agent may not. `target` is what was refused, None for a whole page."""

    def __init__(self, domain: str, action: str, target: models.Model | None = None, why: str = "") -> None:
        super().__init__(why or f"{domain}.{action}")
        self.domain, self.action, self.target, self.why = domain, action, target, why


@dataclass
class Reach:
    """How far an action goes, over all profiles that the agent holds."""

    everywhere: bool = False
    communes: set[str] = field(default_factory=set)
    services: set[str] = field(default_factory=set)
    own: bool = False
    territory: bool = False  # whether the reach is a territory's: then persons without commune are reached

    @property
    def nowhere(self) -> bool:
        """Whether the action is not held at all."""
        return not (self.everywhere or self.territory or self.services or self.own)


@dataclass
class Rights:
    """The rights of an agent, as of now."""

    agent: object
    held: list[dict]
    opened: set[int]
    _hidden: dict[int, bool] = field(default_factory=dict)
    _reach: dict[tuple[str, str], Reach] = field(default_factory=dict)

    @cached_property
    def profiles(self) -> list[str]:
        """Codes of the profiles held."""
        return list(dict.fromkeys(row["profile"] for row in self.held))

    def reach(self, domain: str, action: str) -> Reach:
        """Return how far the action goes. Raises LookupError when no table declares it: a defect, not a refusal."""
        if (domain, action) not in self._reach:
            self._reach[domain, action] = self._sum(domain, action)
        return self._reach[domain, action]

    def _sum(self, domain: str, action: str) -> Reach:
        if not table().knows(domain, action):
            raise LookupError(f"no habilitations.toml declares {domain}.{action}")
        reach = Reach()
        for row in self.held:
            letter = table().reach(row["profile"], domain, action)
            if letter == NOTHING:
                continue
            if letter == "D" or (letter == "T" and row["communes"] is None):
                reach.everywhere = True
            elif letter == "T":
                reach.territory = True
                reach.communes |= set(row["communes"])
            elif letter == "S":
                reach.services |= set(row["services"] or ())
            else:
                reach.own = True
        return reach

    def readable_domains(self) -> list[str]:
        """Protected domains that the agent may read somewhere: what row-level security is told."""
        return [code for code in table().protected if not self.reach(code, "lire").nowhere]

    def hidden(self, persons: Iterable[int]) -> set[int]:
        """Return which of the persons are confidential and not open to this agent; one query for all."""
        wanted = set(persons)
        if unknown := wanted - self._hidden.keys():
            with connections[reads()].cursor() as cursor:
                cursor.execute(_HIDDEN, {"persons": list(unknown), "agent": self.agent.pk})
                closed = {person for (person,) in cursor.fetchall()}
            self._hidden |= {person: person in closed for person in unknown}
        return {person for person in wanted if self._hidden[person] and person not in self.opened}


def rights_of(agent: object) -> Rights:
    """Return the rights of an agent; read once per agent object, that is once per request."""
    known = getattr(agent, "sias_rights", None)
    if known is None:
        with connections[reads()].cursor() as cursor:
            cursor.execute(_RIGHTS, {"agent": agent.pk, "day": timezone.localdate()})
            found = json.loads(cursor.fetchone()[0])
        known = agent.sias_rights = Rights(agent, found["held"], set(found["opened"]))
        agent.sias_profiles = known.profiles
    return known


def persons_of(target: models.Model) -> list[models.Model] | None:
    """Return the persons that an object hangs on; None when its model hangs on nobody."""
    if hasattr(target, "habilitation_persons"):
        return list(target.habilitation_persons())
    path = getattr(target, "person_path", None)
    if path is None:
        return None
    for name in path.split("__") if path else ():
        target = getattr(target, name, None)
    return [target] if target is not None else []


def _attribute(target: models.Model, path: str | None) -> object:
    for name in path.split("__") if path else ():
        target = getattr(target, name, None)
    return target if path else None


def can(agent: object, domain: str, action: str, target: models.Model | None = None) -> bool:
    """Tell whether the agent may do the action somewhere (no target) or on this object."""
    return not why_not(agent, domain, action, target)


def why_not(agent: object, domain: str, action: str, target: models.Model | None = None) -> str:
    """Return why the agent may not: `profil`, `territoire`, `confidentiel`, or what a guard says; "" when they may."""
    rights = rights_of(agent)
    reach = rights.reach(domain, action)
    if reach.nowhere:
        return "profil"
    persons = persons_of(target) if target is not None else None
    reasons = {_why_not_person(rights, reach, action, person) for person in persons or ()}
    closed = "confidentiel" if reasons == {"confidentiel"} else ""
    # Of a household, one member within reach is enough; each member is masked for itself. What hangs on nobody is reached
    # from any territory.
    if target is None or (not persons and (reach.everywhere or reach.territory)):
        return ""
    if "" not in reasons:
        service = str(_attribute(target, getattr(target, "service_path", None)))
        own = reach.own and _attribute(target, getattr(target, "owner_path", None)) == agent
        if closed or not (own or service in reach.services):
            return closed or "territoire"
    if persons and action in CHANGES:
        return next((said for guard in GUARDS if (said := guard(agent, persons))), "")
    return ""


def _why_not_person(rights: Rights, reach: Reach, action: str, person: models.Model) -> str:
    if action == "lire" and person.pk in rights.opened:
        return ""
    inside = reach.everywhere or (reach.territory and (not person.commune_id or person.commune_id in reach.communes))
    if not inside:
        return "territoire"
    if rights.hidden([person.pk]):
        open_to = rights.reach("repertoire", "confidentiel")
        if not (open_to.everywhere or (open_to.territory and person.commune_id in open_to.communes)):
            return "confidentiel"
    return ""


def check(agent: object, domain: str, action: str, target: models.Model | None = None) -> None:
    """Raise AccessRefusedError unless the agent may."""
    if why := why_not(agent, domain, action, target):
        raise AccessRefusedError(domain, action, target, why)


def mask(
    agent: object, persons: Iterable[models.Model], domain: str = "repertoire", action: str = "lire"
) -> dict[int, str]:
    """Return why persons of a list are masked: `territoire` or `confidentiel`; persons that one may open are absent."""
    persons = list(persons)
    rights_of(agent).hidden(person.pk for person in persons)  # one query for the whole list
    return {person.pk: why for person in persons if (why := why_not(agent, domain, action, person))}


def scope(agent: object, rows: models.QuerySet, domain: str, action: str = "lire") -> models.QuerySet:
    """Return the rows that the agent reaches. The model needs `person_path`, `service_path` or `owner_path`."""
    rights = rights_of(agent)
    reach = rights.reach(domain, action)
    if reach.nowhere:
        return rows.none()
    model = rows.model
    path = getattr(model, "person_path", None)
    prefix = f"{path}__" if path else ""
    wanted = Q(pk__in=[])
    if path is None and (reach.everywhere or reach.territory):
        return rows
    if reach.everywhere:
        wanted = Q()
    else:
        if reach.territory:
            wanted |= Q(**{f"{prefix}commune__in": reach.communes}) | Q(**{f"{prefix}commune__isnull": True})
        if reach.services and hasattr(model, "service_path"):
            wanted |= Q(**{f"{model.service_path}__in": reach.services})
        if reach.own and hasattr(model, "owner_path"):
            wanted |= Q(**{model.owner_path: rights.agent.pk})
    if path is not None:
        closed = ConfidentialPerson.objects.exclude(allowed=rights.agent.pk)
        open_to = rights.reach("repertoire", "confidentiel")
        if not open_to.everywhere:
            if open_to.territory:
                closed = closed.exclude(person__commune__in=open_to.communes)
            wanted &= ~Exists(closed.filter(person_id=OuterRef(f"{prefix}pk")))
        if action == "lire" and rights.opened:
            wanted |= Q(**{f"{prefix}pk__in": rights.opened})
    wanted &= getattr(model, "person_filter", Q())
    if "__" in (path or "") and _several(model, path):
        return rows.filter(Exists(model._base_manager.filter(wanted, pk=OuterRef("pk"))))  # noqa: SLF001 - documented
    return rows.filter(wanted)


def _several(model: type[models.Model], path: str) -> bool:
    """Tell whether a path goes through a relation to many: joined, a row would come once per person."""
    for name in path.split("__"):
        relation = model._meta.get_field(name)  # noqa: SLF001 - documented
        if relation.one_to_many or relation.many_to_many:
            return True
        model = relation.related_model
    return False


def requires(domain: str, action: str) -> Callable:
    """Mark a view: signed-in agents who hold the action somewhere. The middleware enforces it before the view runs."""

    def marked(view: Callable) -> Callable:
        view.sias_requires = (domain, action)
        return view

    return marked


def for_everyone(view: Callable) -> Callable:
    """Mark a view that any signed-in agent may use: sign out, entry page, own account."""
    view.sias_requires = ()
    return view
