"""What each endpoint asks the database: every GET is visited, and nothing of the visit remains.

A migration to another version of PostgreSQL runs these queries on both clusters before it moves anybody
(`sias-manage endpoint_queries`).

How an endpoint is visited:

* through the true middleware, in one transaction that is always rolled back: the session, the entry in the access log and
  whatever else it writes vanish. The access log is a chain, whose end is locked until then: a visit is one request long, and
  waits for a lock or a statement no longer than `LOCK_MS` and `STATEMENT_MS`;
* with rows that are there, spread over each table; by the first agent who is let in, one of each profile being asked;
* on the primary alone: a replica would not see the session that is never committed.

The queries hold personal data. They are for whoever asks, and nothing here writes them anywhere.
"""

import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from django.apps import apps
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.db import DatabaseError, connections, models, transaction
from django.test import Client, override_settings
from django.urls import get_resolver
from django.utils import timezone
from django.utils.module_loading import import_string

from sias.api.core import SCOPES
from sias.api.models import Key, Partner
from sias.habilitations.protection import acting_for_nobody
from sias.habilitations.table import REACHES, table
from sias.households.tabs import TABS
from sias.platform.postgresql import session

LOCK_MS, STATEMENT_MS = 500, 10_000
EXCUSED = {
    "live": "asks nothing",
    "ready": "asks on a connection of its own",
    "metrics": "asks nothing",
    "api-v1:api-root": "gives a name to the API's address, and answers nothing",
    "directory:oidc": "asks another server, which must not be troubled",
    "directory:oidc_callback": "is entered from another server alone",
}
"""Endpoints that are not visited, and why."""
WRITERS = re.compile(
    r"(?i)\b(set_config|nextval|setval|pg_notify|pg_(try_)?advisory\w+|lo_\w+|pg_current_xact_id)\s*\("
)
"""Functions that change something though a SELECT calls them."""
_ARGUMENT = re.compile(r"<(?:\w+:)?(\w+)>")
REFUSED = {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}
"""Answers after which somebody else may be let in."""
PARTNER = "visites"
_CATALOGUE = "sias.dictionaries.catalogue.DICTIONARIES"
"""By name, as the models of all modules: nobody depends on them."""
Row = tuple[dict[str, object], models.Model | None]
"""Arguments of an address, and the row that they lead to."""


@dataclass(frozen=True)
class Endpoint:
    """An address that may be asked for."""

    name: str
    """Its route's name, with its namespace."""
    pattern: str
    view: Callable

    @property
    def arguments(self) -> set[str]:
        """Names of what stands in its address."""
        return set(_ARGUMENT.findall(self.pattern))

    def path(self, arguments: Mapping[str, object]) -> str:
        """Return its address with these arguments."""
        return "/" + _ARGUMENT.sub(lambda found: quote(str(arguments[found[1]]), safe=""), self.pattern)


@dataclass
class Found:
    """A query: its text without values, where it was met first, and with which values."""

    endpoint: str
    text: str
    sets: list[dict] = field(default_factory=list)
    """Each {"sql": as it was sent, values included, "settings": what its transaction had said to PostgreSQL}."""


@dataclass
class Outcome:
    """What became of all visits."""

    queries: dict[str, Found] = field(default_factory=dict)
    """By text."""
    visited: list[str] = field(default_factory=list)
    unvisited: dict[str, str] = field(default_factory=dict)
    """Names of GET endpoints that nobody was let into, that have no row to lead to, or that failed at times, and why."""
    written_only: list[str] = field(default_factory=list)
    """Endpoints that answer to no GET."""
    visits: int = 0


def endpoints(patterns: Sequence | None = None, prefix: str = "", space: str = "") -> Iterator[Endpoint]:
    """Yield every endpoint of the resolver."""
    for one in patterns if patterns is not None else get_resolver().url_patterns:
        where = prefix + str(one.pattern)
        if hasattr(one, "url_patterns"):
            yield from endpoints(one.url_patterns, where, f"{space}{one.namespace}:" if one.namespace else space)
        else:
            yield Endpoint(space + (one.name or where), where, one.callback)


# --- What addresses lead to ----------------------------------------------------------------------------------------------


def _sample(label: str, sets: int) -> list[models.Model]:
    """Return rows of a model, spread over its keys."""
    rows = apps.get_model(label)._default_manager.order_by("pk")  # noqa: SLF001 - documented
    total = rows.count()
    places = sorted({total * (2 * step + 1) // (2 * sets) for step in range(sets)}) if total else []
    return [rows[place] for place in places]


def _rows(label: str, **arguments: str) -> Callable[[int], list[Row]]:
    """Make what finds rows of a model. `arguments`: an address's argument -> the attribute that fills it."""

    def find(sets: int) -> list[Row]:
        named = arguments or {"identity": "pk"}
        return [({name: getattr(row, place) for name, place in named.items()}, row) for row in _sample(label, sets)]

    find.label = label
    return find


def _tabs(sets: int) -> list[Row]:
    rows = _sample("repertoire.Household", sets)
    return [({"identity": row.pk, "slug": slug}, row) for slug in TABS if slug for row in rows]


def _dictionaries(_sets: int) -> list[Row]:
    return [({"code": code}, None) for code in import_string(_CATALOGUE)]


def _entries(_sets: int) -> list[Row]:
    firsts = {code: one.entries(timezone.localdate())[:1] for code, one in import_string(_CATALOGUE).items()}
    return [({"code": code, "key": entry.address}, None) for code, found in firsts.items() for entry in found]


PLACES: dict[str, Callable[[int], list[Row]]] = {
    "acces-exceptionnels/": _rows("habilitations.BreakGlass"),
    "accueil/orientations/": _rows("reception.Referral"),
    "accueil/rendez-vous/": _rows("reception.Appointment"),
    "annuaire/correspondances/": _rows("directory.GroupRule"),
    "annuaire/passages/": _rows("directory.Run"),
    "api/v1/persons/": _rows("repertoire.Person", number="number"),
    "api/v1/tasks/": _rows("tasks.Task", external_key="external_key"),
    "changements/": _rows("households.Move"),
    "dictionnaires/": _dictionaries,
    "dictionnaires/<slug:code>/entree/": _entries,
    "dictionnaires/imports/": _rows("dictionaries.Import"),
    "documents/": _rows("documents.Document"),
    "doublons/": _rows("duplicates.Candidate"),
    "evaluations/": _rows("evaluations.Evaluation"),
    "foyers/": _rows("repertoire.Household"),
    "foyers/<int:identity>/<slug:slug>/": _tabs,
    "foyers/<int:identity>/evaluations/comparer/": _rows("evaluations.Evaluation", identity="household_id"),
    "foyers/cle/": _rows("households.ExternalKey", system="system", key="key"),
    "fusions/": _rows("duplicates.Merge"),
    "habilitations/": _rows("habilitations.Assignment"),
    "notes/": _rows("notes.Note"),
    "personnes/": _rows("repertoire.Person"),
    "rgpd/": _rows("privacy.RightsRequest"),
    "taches/": _rows("tasks.Task"),
    "taches/absences/": _rows("tasks.Absence"),
    "tiers/": _rows("thirdparties.ThirdParty"),
}
"""Beginning of an address -> what fills its arguments; the longest that fits counts."""

QUESTIONS: dict[str, list[Callable]] = {
    "repertoire:search": [
        lambda p: {"q": f"{p.birth_name} {p.first_names}", "naissance": f"{p.birth_date:%d/%m/%Y}"},
        lambda p: {"q": p.birth_name},
        lambda p: {"q": p.birth_name[:3]},
        lambda p: {"q": f"{p.birth_name[:1]}{p.birth_name[2:]} {p.first_names}"},  # a letter left out
        lambda p: {"q": p.first_names, "naissance": f"{p.birth_date:%Y}"},
        lambda p: {"q": p.birth_name, "commune": p.commune.name if p.commune else ""},
        lambda p: {"naissance": f"{p.birth_date:%d/%m/%Y}"},
        lambda p: {"adresse": p.address},
        lambda p: {"q": p.number},
        lambda p: {"q": p.phone},
    ],
    "api-v1:find": [
        lambda p: {"q": f"{p.birth_name} {p.first_names}", "birth": f"{p.birth_date}"},
        lambda p: {"q": p.birth_name},
        lambda p: {"birth": f"{p.birth_date}"},
    ],
    "controle:assignments": [lambda _: {"voir": "valider"}, lambda _: {"voir": "finir"}, lambda _: {"voir": "revoir"}],
    "controle:log": [
        lambda p: {"dossier": p.number},
        lambda p: {"action": "consultation", "avant": str(p.pk * 1000)},
        lambda p: {"agent": f"{p.updated_by or 'demo'}"},
    ],
    "dictionaries:list": [lambda p: {"q": p.birth_name[:2], "jour": f"{timezone.localdate():%d/%m/%Y}"}],
    "duplicates:queue": [lambda _: {"nature": "menages"}],
    "evaluations:compare": [lambda row: {"a": str(row.pk), "b": str(row.pk)}],
    "households:past": [lambda _: {"le": f"{timezone.localdate():%d/%m/%Y}"}],
    "households:person_history": [lambda p: {"avant": str(p.pk * 1000)}],
    "households:tab": [lambda _: {"type": "note", "avant": "1000000"}],
    "reception:timeline": [lambda _: {"avant": timezone.now().isoformat(), "source": "contacts"}],
    "repertoire:create": [lambda p: {"foyer": p.number}],
    "tasks:inbox": [lambda _, box=box: {"boite": box} for box in ("service", "retard", "faites")],
    "thirdparties:index": [lambda p: {"q": p.birth_name}, lambda _: {"etat": "valide"}],
}
"""Name of an endpoint -> what is asked there, beside nothing; given the row that the address leads to, or a person."""


# --- Who visits --------------------------------------------------------------------------------------------------------


def _accounts() -> list[tuple[str, models.Model]]:
    """Return (profile, agent): one active agent of each profile; of the whole department when there is one."""
    today = timezone.localdate()
    held = (
        apps.get_model("habilitations.Assignment")
        .objects.filter(agent__is_active=True, validated_at__isnull=False, since__lte=today, until__gt=today)
        .select_related("agent")
        # The department's code is the beginning of its communes', and before any territory's.
        .order_by("profile", "territory", "agent_id")
        .distinct("profile")
    )
    return [(row.profile, row.agent) for row in held]


def _candidates(accounts: list[tuple[str, models.Model]], view: Callable, row: models.Model | None) -> list:
    """Return who may be let in, the widest reach first; then whoever the row itself names."""
    rule = getattr(view, "sias_requires", None)
    order = {letter: place for place, letter in enumerate(REACHES)}
    letters = [(order.get(table().reach(code, *rule) if rule else "D"), agent) for code, agent in accounts]
    asked = [agent for place, agent in sorted(letters, key=lambda one: one[0] or 0) if place is not None]
    fields = row._meta.concrete_fields if row is not None else []  # noqa: SLF001 - documented
    named = [getattr(row, one.name) for one in fields if one.related_model is get_user_model()]
    return list(dict.fromkeys([*asked, *(agent for agent in named if agent is not None and agent.is_active)]))


def _sign_in(client: Client, agent: models.Model) -> None:
    """Begin a session as a sign-in does, but for the agent's own row, which somebody else may be about to write."""
    made = SessionStore()
    made[SESSION_KEY] = str(agent.pk)
    made[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    made[HASH_SESSION_KEY] = agent.get_session_auth_hash()
    made.save()
    client.cookies[settings.SESSION_COOKIE_NAME] = made.session_key


def _key(row: models.Model | None) -> str:
    """Issue a key of the partner whose row it is, or of one that exists for this visit."""
    name = getattr(row, "application", "") or PARTNER
    partner = Partner.objects.filter(name=name).first()
    if partner is None:
        partner = Partner(name=name, agent=get_user_model().objects.create_user(f"{PARTNER}-{uuid.uuid4().hex[:8]}"))
    partner.scopes, partner.per_minute, partner.active = list(SCOPES), 10**6, True
    partner.save()
    return Key.issue(partner)


# --- What is asked -------------------------------------------------------------------------------------------------------


def text_of(sql: str, params: Sequence | Mapping | None) -> str:
    """Return a statement with $1, $2... for its values, on one line. A list in IN (...) looks the same however long it is."""
    if params is not None:
        mark = "\0"
        sql = sql % (dict.fromkeys(params, mark) if isinstance(params, Mapping) else (mark,) * len(params))
        sql = re.sub(r"(?i)\bIN \(\0(?:, \0)+\)", "IN (\0, ...)", sql)
        numbers = count(1)
        sql = re.sub(mark, lambda _: f"${next(numbers)}", sql)
    return " ".join(sql.split())


def only_reads(text: str) -> bool:
    """Tell whether a statement changes and locks nothing."""
    return (
        re.match(r"(?i)(select|with|values)\b", text) is not None
        and re.search(r"(?i)\b(insert into|update|delete from|merge into|for (no key |key )?share)\b", text) is None
        and WRITERS.search(text) is None
    )


class _Visit:
    """Sees the statements of one visit. Each text counts once: other values of it are another visit's."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint, self.found, self.said = endpoint, {}, {}

    def __call__(self, execute: Callable, sql: object, params: object, many: bool, context: dict) -> object:
        """Run a statement, and remember it when it only reads."""
        answer = execute(sql, params, many, context)
        if many:  # nobody reads so
            return answer
        cursor = context["connection"].connection.cursor()  # the other one holds the answer
        sent = sql if isinstance(sql, str) else sql.as_string(cursor)
        text = text_of(sent, params)
        for name, value in zip(re.findall(r"(?i)set_config\('([\w.]+)', %s, true\)", sent), params or (), strict=False):
            self.said[name] = str(value)
        if only_reads(text) and text not in self.found:
            self.found[text] = {"sql": cursor.mogrify(sent, params), "settings": session.settings() | self.said}
        return answer


class Visitor:
    """Visits endpoints, and remembers what they ask."""

    def __init__(self, sets: int) -> None:
        self.sets, self.outcome = sets, Outcome()
        with acting_for_nobody():
            self.accounts = _accounts()
            self.persons = _sample("repertoire.Person", sets)

    def all(self) -> Outcome:
        """Visit every endpoint that is not excused."""
        for endpoint in endpoints():
            if endpoint.name not in EXCUSED:
                self._endpoint(endpoint)
        return self.outcome

    def _endpoint(self, endpoint: Endpoint) -> None:
        rows, why = self._led_to(endpoint)
        statuses: list[int] = []
        for place, (arguments, row) in enumerate(rows):
            path, persons = endpoint.path(arguments), self.persons or [None]
            # A page of its own is asked about each person, one of many about its row, or about somebody.
            asked = persons if not arguments else [row or persons[place % len(persons)]]
            questions = [make(one) for one in asked if one for make in QUESTIONS.get(endpoint.name, [])]
            for question in [{}, *questions]:
                statuses.append(self._ask(endpoint, path, question, row))
                if statuses[-1] == HTTPStatus.METHOD_NOT_ALLOWED:
                    self.outcome.written_only.append(endpoint.name)
                    return
        if why or not any(status < HTTPStatus.BAD_REQUEST for status in statuses):
            self.outcome.unvisited[endpoint.name] = why or f"nobody is let in: {max(statuses)}"
            return
        self.outcome.visited.append(endpoint.name)
        failed = [status for status in statuses if status >= HTTPStatus.INTERNAL_SERVER_ERROR]
        if failed:
            self.outcome.unvisited[endpoint.name] = f"{len(failed)} of {len(statuses)} failed: {failed[0]}"

    def _led_to(self, endpoint: Endpoint) -> tuple[list[Row], str]:
        """Return rows for the arguments; for want of any some that lead nowhere, which tells a GET from a POST, and why."""
        if not endpoint.arguments:
            return [({}, None)], ""
        places = [place for place in PLACES if endpoint.pattern.startswith(place)]
        if places:
            find = PLACES[max(places, key=len)]
            with acting_for_nobody():
                rows = find(self.sets)
            fitting = [row for row in rows if set(row[0]) == endpoint.arguments]
            if fitting:
                return fitting, ""
        nowhere = {"identity": uuid.UUID(int=0) if "<uuid:" in endpoint.pattern else 0}
        why = (
            "nobody says what fills its arguments"
            if not places or rows
            else f"no row of {getattr(find, 'label', endpoint.pattern)}"
        )
        return [({name: nowhere.get(name, "0") for name in endpoint.arguments}, None)], why

    def _ask(self, endpoint: Endpoint, path: str, question: dict[str, str], row: models.Model | None) -> int:
        """Visit an address as one agent after the other until one is let in; the last status."""
        status = int(HTTPStatus.FORBIDDEN)
        by_key = endpoint.name.startswith("api-v1:") and not getattr(endpoint.view, "login_required", True)
        for agent in [None] if by_key else _candidates(self.accounts, endpoint.view, row):
            visit = _Visit(endpoint)
            self.outcome.visits += 1
            try:
                status = _get(path, question, agent, row, visit)
            except DatabaseError:
                status = int(HTTPStatus.INTERNAL_SERVER_ERROR)
            if status not in REFUSED:
                break
        if status < HTTPStatus.BAD_REQUEST:
            self._keep(endpoint, visit)
        return status

    def _keep(self, endpoint: Endpoint, visit: _Visit) -> None:
        for text, one in visit.found.items():
            found = self.outcome.queries.setdefault(text, Found(endpoint.name, text))
            if len(found.sets) < self.sets and one["sql"] not in {other["sql"] for other in found.sets}:
                found.sets.append(one)


def _get(
    path: str, question: dict[str, str], agent: models.Model | None, row: models.Model | None, visit: _Visit
) -> int:
    """Ask for an address, and roll everything back; the status of the answer."""
    client = Client(raise_request_exception=False)
    with session.session_settings(), transaction.atomic(using="default"):
        if agent is None:
            client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {_key(row)}"
        else:
            _sign_in(client, agent)
        with connections["default"].execute_wrapper(visit):
            status = client.get(path, question).status_code
        transaction.set_rollback(True, using="default")
    return status


@contextmanager
def _quietly() -> Iterator[None]:
    """Short waits, one connection, an empty spool and no log, whose lines would tell of persons."""
    with ExitStack() as stack:
        # The access log brings in what waits in its folder, and then removes it: never in a transaction that is rolled back.
        spool = Path(stack.enter_context(TemporaryDirectory()))
        stack.enter_context(
            override_settings(
                ALLOWED_HOSTS=["testserver"],
                SIAS_JOURNAL_SPOOL=spool,
                SIAS_LOCK_TIMEOUT=LOCK_MS,
                SIAS_STATEMENT_TIMEOUT=STATEMENT_MS,
            )
        )
        replica = connections["replica"]
        stack.callback(connections.__setitem__, "replica", replica)
        connections["replica"] = connections["default"]
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.CRITICAL)
        yield


def visit(sets: int) -> Outcome:
    """Visit every GET endpoint with up to `sets` rows and questions each; nothing of it remains."""
    with _quietly():
        return Visitor(sets).all()
