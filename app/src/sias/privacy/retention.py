"""The retention engine: dry unless told, in batches, as the owner of the tables.

History is append-only for everyone; what it says of a person who is made anonymous goes with them, so its guard is lifted
inside the transaction of the batch, which only the owner can.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from django.apps import apps
from django.db import connections, models, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from sias.habilitations.protection import acting_for_nobody
from sias.privacy.models import Restriction
from sias.privacy.register import RULES, Declaration, declarations
from sias.repertoire.models import Person

BATCH = 200
ANONYMOUS = "ANONYMISE"
MAJORITY = 18
GUARD = "append_only"


@dataclass
class Report:
    """What is due, and what was done."""

    deleted: Counter = field(default_factory=Counter)
    anonymised: int = 0
    held: Counter = field(default_factory=Counter)  # persons who are due, by why they wait


def limit_of(rule: str, today: date) -> datetime:
    """Return the instant before which data of a rule is due."""
    day = today - timedelta(days=RULES[rule].days)
    return timezone.make_aware(datetime.combine(day, time()))


def due_rows(declaration: Declaration, today: date) -> models.QuerySet:
    """Return the rows of a model whose time is over."""
    limit: object = limit_of(declaration.rule, today)
    if not isinstance(declaration.model._meta.get_field(declaration.due_from), models.DateTimeField):  # noqa: SLF001
        limit = limit.date()
    return declaration.model._base_manager.using("default").filter(**{f"{declaration.due_from}__lt": limit})  # noqa: SLF001


def deletions(today: date) -> list[tuple[Declaration, models.QuerySet]]:
    """Return the models whose rows are deleted for themselves, and the rows that are due."""
    return [
        (declaration, due_rows(declaration, today))
        for declaration in declarations().values()
        if declaration.due_from and RULES[declaration.rule].days is not None
    ]


def _about_persons() -> list[tuple[Declaration, str]]:
    """Return the models that hang on a person, with the field that says on whom."""
    return [
        (declaration, part.name)
        for model, declaration in declarations().items()
        for part in model._meta.concrete_fields  # noqa: SLF001 - documented
        if part.related_model is Person
    ]


def inactive_persons(today: date) -> models.QuerySet:
    """Return adults without any activity for the time of the rule; one that goes on (no end) is an activity."""
    limit = limit_of("usager", today)
    rows = Person.objects.using("default").filter(updated_at__lt=limit).exclude(birth_name=ANONYMOUS)
    # Minors, and for two years after their majority.
    rows = rows.filter(birth_date__lt=limit.date() - timedelta(days=round(MAJORITY * 365.25)))
    for declaration, name in _about_persons():
        if not declaration.activity:
            continue
        kind = declaration.model._meta.get_field(declaration.activity)  # noqa: SLF001
        edge = limit if isinstance(kind, models.DateTimeField) else limit.date()
        recent = Q(**{f"{declaration.activity}__gte": edge}) | Q(**{f"{declaration.activity}__isnull": True})
        rows = rows.exclude(Exists(declaration.model._base_manager.filter(recent, **{name: OuterRef("pk")})))  # noqa: SLF001
    return rows


def split(persons: models.QuerySet, today: date) -> tuple[models.QuerySet, Counter]:
    """Return the persons who can be made anonymous, and how many wait for what."""
    held: Counter = Counter()
    in_force = Restriction.objects.filter(Q(until__isnull=True) | Q(until__gte=today), person=OuterRef("pk"))
    waiting = [("restriction en cours", Exists(in_force))]
    for declaration, name in _about_persons():
        if declaration.fate == "retenir" and declaration.model is not Restriction:
            label = str(declaration.model._meta.verbose_name)  # noqa: SLF001
            waiting.append((label, Exists(declaration.model._base_manager.filter(**{name: OuterRef("pk")}))))  # noqa: SLF001
    free = persons
    for label, condition in waiting:
        held[label] = persons.filter(condition).count()
        free = free.exclude(condition)
    return free, +held


def run(today: date, *, wet: bool) -> Report:
    """Say what is due; with `wet` do it. Raises PermissionError when the role is not the owner of the tables."""
    report = Report()
    if wet:
        _require_owner()
    for declaration, rows in deletions(today):
        label = declaration.model._meta.label  # noqa: SLF001
        with acting_for_nobody():
            due = rows.count()
        report.deleted[label] = due if not wet else _delete(rows)
    # Being followed by a protected domain is an activity like any other.
    with acting_for_nobody():
        free, report.held = split(inactive_persons(today), today)
        report.anonymised = free.count()
    if wet:
        report.anonymised = _anonymise_all(free)
    report.deleted = +report.deleted
    return report


def _delete(rows: models.QuerySet) -> int:
    """Delete a batch at a time: a long transaction would hold the horizon of vacuum."""
    done = 0
    while True:
        with acting_for_nobody():
            batch = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
            rows.model._base_manager.using("default").filter(pk__in=batch).delete()  # noqa: SLF001
        if not batch:
            return done
        done += len(batch)


def _anonymise_all(persons: models.QuerySet) -> int:
    done = 0
    while True:
        with acting_for_nobody():
            batch = list(persons.order_by("pk").values_list("pk", flat=True)[:BATCH])
            anonymise(batch)
        if not batch:
            return done
        done += len(batch)


def anonymise(identities: list[int]) -> None:
    """Make persons anonymous: sex, year of birth and commune stay for statistics; texts about them go."""
    with transaction.atomic(using="default"), connections["default"].cursor() as cursor:
        for declaration, name in _about_persons():
            if declaration.fate == "effacer":
                declaration.model._base_manager.using("default").filter(**{f"{name}__in": identities}).delete()  # noqa: SLF001
        for person in Person.objects.using("default").select_for_update().filter(pk__in=identities).order_by("pk"):
            person.birth_name, person.usage_name, person.first_names = ANONYMOUS, "", ANONYMOUS
            person.birth_date = person.birth_date.replace(month=1, day=1)
            person.birth_place = person.address = person.postal_code = person.phone = person.email = ""
            person.set_nir("")
            person.compute_norms()
            person.updated_by = None
            person.version += 1
            person.save()
        if apps.is_installed("sias.history"):
            cursor.execute(f"ALTER TABLE history_change DISABLE TRIGGER {GUARD}")
            cursor.execute("DELETE FROM history_change WHERE person_id = ANY(%s)", [identities])
            cursor.execute(f"ALTER TABLE history_change ENABLE TRIGGER {GUARD}")


def _require_owner() -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT current_user, pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'repertoire_person'::regclass"
        )
        user, owner = cursor.fetchone()
    if user != owner:
        raise PermissionError(
            f"L'historique ne s'efface qu'avec le rôle {owner}, pas {user} (SIAS_DATABASE_USER={owner})."
        )
