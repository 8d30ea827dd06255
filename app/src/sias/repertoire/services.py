"""What is done to persons and households, apart from the pages that ask for it."""

from dataclasses import dataclass
from datetime import date

from django.db import connections
from django.db.models import F
from django.utils import timezone

from sias.repertoire.models import ADULT, Household, Membership, NameForm, Person, Sex

COUPLE = 2
NUMBERS = {"person": ("repertoire_person", "P"), "household": ("repertoire_household", "F")}
FIELDS = (
    "birth_name",
    "usage_name",
    "first_names",
    "sex",
    "birth_date",
    "birth_place",
    "address",
    "postal_code",
    "phone",
    "email",
)


class HouseholdUnknownError(Exception):
    """The household number that was typed belongs to none."""


class StaleVersionError(Exception):
    """Someone else saved the person since the form was opened."""


def _next_id(kind: str) -> tuple[int, str]:
    table, letter = NUMBERS[kind]
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence(%s, 'id'))", [table])
        identity = cursor.fetchone()[0]
    return identity, f"{letter}{identity:08d}"


def new_household() -> Household:
    """Create a household."""
    identity, number = _next_id("household")
    return Household.objects.create(pk=identity, number=number, created_at=timezone.now())


def learn_names(person: Person) -> None:
    """Put the person's names into the dictionary that search stands on, in the same transaction."""
    NameForm.objects.bulk_create(person.name_forms(), ignore_conflicts=True)


def create_person(data: dict, agent) -> Person:
    """Create a person in the household named by `data["household"]`, else in a new one."""
    if number := data.get("household", "").strip().upper().replace("-", ""):
        household = Household.objects.using("default").filter(number=number).first()
        if household is None:
            raise HouseholdUnknownError(number)
    else:
        household = new_household()
    identity, number = _next_id("person")
    person = Person(
        pk=identity,
        number=number,
        updated_by=agent,
        commune_id=data["commune"] or None,
        **{name: data[name] for name in FIELDS},
    )
    person.set_nir(data["nir"])
    person.compute_norms()
    person.save(force_insert=True)
    Membership.objects.create(
        person=person,
        household=household,
        since=timezone.localdate(),
        role=Membership.Role.ADULT if person.age() >= ADULT else Membership.Role.CHILD,
    )
    learn_names(person)
    return person


def update_person(person: Person, data: dict, agent) -> list[str]:
    """Save the changes, if nobody saved the person since version `data["version"]`; return the changed fields."""
    changed = [name for name in FIELDS if getattr(person, name) != data[name]]
    if (data["commune"] or None) != person.commune_id:
        changed.append("commune_id")
    values = {name: data[name] for name in FIELDS} | {"commune_id": data["commune"] or None}
    for name, value in values.items():
        setattr(person, name, value)
    if data["nir"] and data["nir"] != person.nir:
        person.set_nir(data["nir"])
        values |= {"nir_encrypted": person.nir_encrypted, "nir_index": person.nir_index}
        changed.append("nir")
    person.compute_norms()
    values |= {"birth_norm": person.birth_norm, "usage_norm": person.usage_norm, "first_norm": person.first_norm}
    values["address_norm"] = person.address_norm
    done = Person.objects.filter(pk=person.pk, version=data["version"]).update(
        **values, version=F("version") + 1, updated_at=timezone.now(), updated_by=agent
    )
    if not done:
        raise StaleVersionError
    learn_names(person)
    return changed


@dataclass(frozen=True)
class Composition:
    """Who is in a household now."""

    members: list[Membership]

    @property
    def adults(self) -> list[Membership]:
        """Members of age."""
        return [member for member in self.members if member.person.age() >= ADULT]

    @property
    def minors(self) -> list[Membership]:
        """Members under age."""
        return [member for member in self.members if member.person.age() < ADULT]

    @property
    def kind(self) -> str:
        """The household in two or three words."""
        adults, minors = len(self.adults), len(self.minors)
        if not self.members:
            return "Ménage vide"
        if not adults:
            return "Mineur isolé" if minors == 1 else "Mineurs isolés"
        woman = self.adults[0].person.sex == Sex.FEMALE
        if adults == 1:
            alone = "Femme seule" if woman else "Homme seul"
            return f"{alone} avec enfant{'s' if minors > 1 else ''}" if minors else alone
        several = "Couple" if adults == COUPLE else "Plusieurs adultes"
        return f"{several} avec enfants" if minors else several

    @property
    def sentence(self) -> str:
        """Kind and counts, as agents read it: `Femme seule, 1 adulte - 0 mineur`."""
        adults, minors = len(self.adults), len(self.minors)
        return f"{self.kind}, {adults} adulte{'s' if adults > 1 else ''} – {minors} mineur{'s' if minors > 1 else ''}"


def composition(household: Household, on: date | None = None) -> Composition:
    """Return who is in the household on a day (today by default)."""
    on = on or timezone.localdate()
    members = (
        household.memberships.filter(since__lte=on).exclude(until__lte=on).select_related("person", "person__commune")
    )
    return Composition(sorted(members, key=lambda member: (member.role, member.person.birth_date)))
