"""The dictionaries: their columns, as files and pages name them, and how an entry is read and written."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta

from django.contrib.auth import get_user_model

from sias.accounts.models import Posting
from sias.accounts.postings import settle
from sias.socle import versions
from sias.socle.models import ALWAYS, BudgetLine, Commune, Dated, Service, Territory, TerritoryCommune
from sias.socle.versions import Wanted

SEPARATOR = ":"  # between the parts of a key in an address


@dataclass(frozen=True)
class Column:
    """A column: `name` in files, `field` of the model, what it must be."""

    name: str
    field: str
    label: str
    longest: int
    required: bool = True
    choices: tuple[tuple[str, str], ...] = ()
    refers: str = ""  # the dictionary that must know its values
    help: str = ""


@dataclass(frozen=True)
class Entry:
    """A version of an entry. `values` are texts, by field."""

    key: tuple
    values: dict[str, str]
    since: date | None = None
    until: date | None = None

    @property
    def address(self) -> str:
        """The key as an address has it."""
        return SEPARATOR.join(self.key)

    @property
    def last(self) -> date | None:
        """The last day it is in force, as people say it."""
        return self.until - timedelta(days=1) if self.until else None

    @property
    def always(self) -> bool:
        """Whether nobody recorded when it began."""
        return self.since in {None, ALWAYS}


@dataclass(frozen=True)
class Dictionary:
    """A dictionary whose entries are rows of one dated model."""

    code: str
    title: str
    one: str
    model: type[Dated]
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    above: str = ""  # the field that names the entry above: then entries are a tree
    sieve: str = ""  # the field that the list can be narrowed by
    help: str = ""

    @property
    def headers(self) -> list[str]:
        """Columns of a file, dates included."""
        return [column.name for column in self.columns] + ["depuis", "jusqu_au"]

    def column(self, name: str) -> Column:
        """Return the column of a field."""
        return next(column for column in self.columns if column.field == name)

    def key_of(self, values: dict[str, str]) -> tuple:
        """Return the key among the values."""
        return tuple(values[name] for name in self.key)

    def parse_key(self, text: str) -> tuple | None:
        """Return the key that an address means."""
        parts = tuple(text.split(SEPARATOR))
        return parts if len(parts) == len(self.key) else None

    def key_of_above(self, values: dict[str, str]) -> tuple | None:
        """Return the key of the entry above, None at the top. What is not the code itself is shared (an axis)."""
        if not self.above or not values[self.above]:
            return None
        return (*self.key_of(values)[:-1], values[self.above])

    def entries(self, day: date) -> list[Entry]:
        """Return what is in force on a day, in order of key."""
        rows = versions.on(self.model.objects.all(), day).order_by(*self.key)
        return [self._entry(row) for row in rows]

    def history(self, key: tuple) -> list[Entry]:
        """Return every version of an entry, the latest first."""
        rows = self.model.objects.filter(**dict(zip(self.key, key, strict=True))).order_by("-since")
        return [self._entry(row) for row in rows]

    def write(self, wanted: list[Wanted], source: str) -> None:  # noqa: ARG002 - not every model keeps it
        """Write entries, in the caller's transaction."""
        versions.put(self.model, self.key, wanted)

    def end(self, keys: Iterable[tuple], day: date) -> None:
        """End entries on a day."""
        versions.end(self.model, self.key, keys, day)

    def _entry(self, row: Dated) -> Entry:
        values = {column.field: str(getattr(row, column.field) or "") for column in self.columns}
        return Entry(self.key_of(values), values, row.since, row.until)


@dataclass(frozen=True)
class Agents(Dictionary):
    """Agents: an account, and its postings over time. Ending an entry ends the posting; the account stays."""

    account: tuple[str, ...] = field(default=("last_name", "first_name", "email"))

    def entries(self, day: date) -> list[Entry]:
        """Return the active agents, posted on that day or not."""
        posted = {row.agent_id: row for row in versions.on(Posting.objects.all(), day)}
        agents = get_user_model().objects.filter(is_active=True).order_by("username")
        return [self._of(agent, posted.get(agent.pk)) for agent in agents]

    def history(self, key: tuple) -> list[Entry]:
        """Return the postings of an agent, the latest first; without any, the account alone."""
        agent = get_user_model().objects.filter(username=key[0]).first()
        if agent is None:
            return []
        rows = list(agent.postings.order_by("-since"))
        return [self._of(agent, row) for row in rows or [None]]

    def write(self, wanted: list[Wanted], source: str) -> None:
        """Create or correct accounts, which sign in through the directory only, and their postings."""
        users = get_user_model().objects
        names = [one.key[0] for one in wanted]
        known = {user.username: user for user in users.using("default").select_for_update().filter(username__in=names)}
        made = []
        for one in wanted:
            agent = known.get(one.key[0])
            if agent is None:
                agent = get_user_model()(username=one.key[0])
                agent.set_unusable_password()
                made.append(agent)
            for name in self.account:
                setattr(agent, name, one.values[name])
        users.bulk_create(made, batch_size=500)
        users.using("default").bulk_update(list(known.values()), self.account, batch_size=500)
        known |= {user.username: user for user in made}
        posted = [
            Wanted(
                (known[one.key[0]].pk,),
                {"service": one.values["service"], "function": one.values["function"], "source": source},
                one.since,
                one.until,
            )
            for one in wanted
            if one.values["service"]
        ]
        versions.put(Posting, ("agent_id",), posted)
        settle()

    def end(self, keys: Iterable[tuple], day: date) -> None:
        """End postings on a day."""
        agents = get_user_model().objects.using("default").filter(username__in=[key[0] for key in keys])
        versions.end(Posting, ("agent_id",), [(agent.pk,) for agent in agents], day)
        settle()

    def _of(self, agent: object, posting: Posting | None) -> Entry:
        values = {name: getattr(agent, name) for name in ("username", *self.account)}
        values |= (
            {"service": posting.service, "function": posting.function} if posting else {"service": "", "function": ""}
        )
        return Entry((agent.username,), values, posting.since if posting else None, posting.until if posting else None)


@dataclass(frozen=True)
class Communes(Dictionary):
    """Communes come with the application, in the vintage of the source: they are read, not written."""

    def entries(self, day: date) -> list[Entry]:  # noqa: ARG002 - one vintage
        """Return all of them."""
        return [self._of(row) for row in Commune.objects.order_by("code")]

    def history(self, key: tuple) -> list[Entry]:
        """Return the one there is."""
        return [self._of(row) for row in Commune.objects.filter(code=key[0])]

    def _of(self, row: Commune) -> Entry:
        values = {column.field: str(getattr(row, column.field) or "") for column in self.columns}
        return Entry((row.code,), values)


CODE = "Lettres sans accent, chiffres, tirets."
AXES = tuple(BudgetLine.Kind.choices)
DICTIONARIES = {
    one.code: one
    for one in (
        Dictionary(
            "services",
            "Services",
            "un service",
            Service,
            ("code",),
            (
                Column("code", "code", "Code", 30, help=CODE),
                Column("nom", "name", "Nom", 150),
                Column("nature", "kind", "Nature", 30, help="Direction, division, service, pôle, cellule, UTAS…"),
                Column("superieur", "parent", "Service supérieur", 30, required=False, refers="services"),
                Column("territoire", "territory", "Territoire", 30, required=False, refers="territoires"),
            ),
            above="parent",
        ),
        Dictionary(
            "territoires",
            "Territoires",
            "un territoire",
            Territory,
            ("code",),
            (
                Column("code", "code", "Code", 30, help=CODE),
                Column("nature", "kind", "Nature", 12, choices=tuple(Territory.Kind.choices)),
                Column("nom", "name", "Nom", 100),
            ),
            sieve="kind",
        ),
        Dictionary(
            "secteurs",
            "Secteurs",
            "un secteur",
            TerritoryCommune,
            ("territory", "commune_id"),
            (
                Column("territoire", "territory", "Territoire", 30, refers="territoires"),
                Column("commune", "commune_id", "Commune", 5, refers="communes", help="Code INSEE."),
            ),
            help="Quelles communes forment une UTAS, un canton ou un EPCI. Les droits des agents en découlent.",
        ),
        Communes(
            "communes",
            "Communes",
            "une commune",
            Commune,
            ("code",),
            (
                Column("code", "code", "Code INSEE", 5),
                Column("nom", "name", "Nom", 100),
                Column("nature", "kind", "Nature", 30),
                Column("codes_postaux", "postal_codes", "Codes postaux", 200),
                Column("population", "population", "Population", 10),
                Column("arrondissement", "arrondissement", "Arrondissement", 60),
                Column("epci", "epci_name", "EPCI", 100),
                Column("millesime", "vintage", "Millésime", 4),
            ),
            help="Code officiel géographique, livré avec l'application : il se consulte et ne s'importe pas.",
        ),
        Dictionary(
            "nomenclature",
            "Nomenclature budgétaire",
            "une ligne budgétaire",
            BudgetLine,
            ("kind", "code"),
            (
                Column("axe", "kind", "Axe", 10, choices=AXES),
                Column("code", "code", "Code", 12),
                Column("libelle", "label", "Libellé", 200),
                Column("superieur", "parent", "Ligne supérieure", 12, required=False, refers="nomenclature"),
                Column("plan", "nomenclature", "Plan comptable", 4, help="M57 depuis 2024, M52 avant."),
            ),
            above="parent",
            sieve="kind",
        ),
        Agents(
            "agents",
            "Agents",
            "un agent",
            Posting,
            ("username",),
            (
                Column("identifiant", "username", "Identifiant", 150, help="Celui de l'annuaire."),
                Column("nom", "last_name", "Nom", 150),
                Column("prenom", "first_name", "Prénom", 150),
                Column("courriel", "email", "Courriel", 254, required=False),
                Column("service", "service", "Service", 30, required=False, refers="services"),
                Column("fonction", "function", "Fonction", 100, required=False),
            ),
            help="Affectations des agents. Les droits se demandent à part, sur la page « Habilitations ».",
        ),
    )
}
