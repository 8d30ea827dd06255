"""Persons move from one household to another, with everything that concerns them; and back."""

from datetime import date

from django.db import transaction
from django.utils import timezone

from sias.history.context import because
from sias.households.models import Move
from sias.repertoire import relations
from sias.repertoire.models import Household, Membership, Person
from sias.repertoire.services import new_household


class MoveRefusedError(Exception):
    """The move cannot be done; the message says why, and what to do."""


def _day(day: date) -> str:
    return day.strftime("%d/%m/%Y")


def move(
    persons: list[int],
    source: Household,
    target: Household | None,
    *,
    effective_on: date,
    reason: str,
    comment: str,
    agent: object,
) -> Move:
    """Move the persons from `source` to `target` (a new household when None) on a day; raise MoveRefusedError."""
    if target is not None and target.pk == source.pk:
        raise MoveRefusedError("Ces personnes sont déjà dans ce ménage : choisissez-en un autre.")
    if effective_on > timezone.localdate():
        raise MoveRefusedError("La date d'effet est dans le futur : faites le changement le jour venu.")
    label = Move.Reason(reason).label
    with because(f"{label} – {comment}" if comment else label):
        members = list(
            Membership.objects.using("default")
            .select_for_update(of=("self",))
            .filter(person_id__in=persons, until=None)
            .select_related("person")
            .order_by("person_id")
        )
        gone = [str(item.person) for item in members if item.household_id != source.pk]
        if gone or len(members) != len(set(persons)):
            raise MoveRefusedError(
                f"{', '.join(gone) or 'Une personne choisie'} n'est plus dans ce ménage : quelqu'un l'a modifié. "
                "Rechargez la page pour voir sa composition."
            )
        late = [item for item in members if item.since > effective_on]
        if late:
            raise MoveRefusedError(
                f"{late[0].person} n'est dans ce ménage que depuis le {_day(late[0].since)} : "
                "la date d'effet ne peut pas être antérieure."
            )
        target = target or new_household()
        undo = {"members": [_move_member(item, target, effective_on) for item in members], "rows": []}
        for relation in relations.of(Person):
            if not relation.follows:
                continue
            rows = relation.manager.filter(**{f"{relation.field}_id__in": persons, f"{relation.follows}_id": source.pk})
            keys = [str(pk) for pk in rows.values_list("pk", flat=True)]
            relation.manager.filter(pk__in=keys).update(**{f"{relation.follows}_id": target.pk})
            undo["rows"].append([relation.model, relation.field, keys])
        made = Move.objects.create(
            source=source,
            target=target,
            effective_on=effective_on,
            reason=reason,
            comment=comment,
            made_by=agent,
            undo=undo,
        )
        made.persons.set(persons)
    return made


def _move_member(item: Membership, target: Household, effective_on: date) -> dict:
    """Close the stay and open the next; a stay that would last no day is corrected instead."""
    if item.since == effective_on:
        former = item.household_id
        Membership.objects.filter(pk=item.pk).update(household=target)
        return {"person": item.person_id, "corrected": item.pk, "household": former}
    Membership.objects.filter(pk=item.pk).update(until=effective_on)
    opened = Membership.objects.create(person_id=item.person_id, household=target, role=item.role, since=effective_on)
    return {"person": item.person_id, "closed": item.pk, "opened": opened.pk}


def undo(made: Move, agent: object) -> None:
    """Put everybody and everything back as before the move; raise MoveRefusedError when someone moved on since."""
    with transaction.atomic(), because("Annulation d'un changement de ménage"):
        made = Move.objects.using("default").select_for_update().get(pk=made.pk)
        if made.undone_at is not None:
            raise MoveRefusedError("Ce changement est déjà annulé.")
        current = {
            item.pk: item
            for item in Membership.objects.using("default")
            .select_for_update(of=("self",))
            .filter(pk__in=[step.get("opened") or step["corrected"] for step in made.undo["members"]], until=None)
            .filter(household_id=made.target_id)
        }
        for step in made.undo["members"]:
            if (step.get("opened") or step["corrected"]) not in current:
                who = Person.objects.using("default").filter(pk=step["person"]).first()
                raise MoveRefusedError(
                    f"{who or 'Une personne'} a encore changé de ménage ou de fiche depuis : annulez d'abord ce changement-là."
                )
        for step in made.undo["members"]:
            if "corrected" in step:
                Membership.objects.filter(pk=step["corrected"]).update(household_id=step["household"])
            else:
                Membership.objects.filter(pk=step["opened"]).delete()
                Membership.objects.filter(pk=step["closed"]).update(until=None)
        for model, field_name, keys in made.undo["rows"]:
            relation = relations.RELATIONS[(model, field_name)]
            relation.manager.filter(pk__in=keys, **{f"{relation.follows}_id": made.target_id}).update(
                **{f"{relation.follows}_id": made.source_id}
            )
        made.undone_at, made.undone_by = timezone.now(), agent
        made.save(update_fields=["undone_at", "undone_by"])
