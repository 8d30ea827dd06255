"""Whatever points at a person or a household, and what a merge or a move does with it.

Each module registers its own foreign keys here; a test fails when one is not. `sias.duplicates` merges through this map,
`sias.households` moves through it: neither knows the modules.
"""

from collections.abc import Callable
from dataclasses import dataclass

from django.apps import apps
from django.db import models


class CannotUndoError(Exception):
    """What was merged changed since; the message says what to undo first."""


Undo = dict  # JSON: what a handler needs to put things back


@dataclass(frozen=True)
class Relation:
    """A foreign key to a person or a household."""

    model: str  # "documents.Document"
    field: str  # "person"
    # (survivor, absorbed, choices of the agent) -> undo; and back. Both run inside the transaction of the merge.
    merge: Callable[["Relation", int, int, dict], Undo]
    unmerge: Callable[["Relation", int, int, Undo], None]
    # A row that concerns a person and lies in a household's file: the field that names the household, "" for none.
    # Such rows follow the person who moves to another household.
    follows: str = ""
    words: str = ""  # what is counted on the page of a merge: "documents"

    @property
    def manager(self) -> models.Manager:
        """Rows on the primary, all of them."""
        return apps.get_model(self.model)._base_manager.using("default")  # noqa: SLF001 - documented by Django


RELATIONS: dict[tuple[str, str], Relation] = {}


def point(relation: Relation, survivor: int, absorbed: int, _choices: dict) -> Undo:
    """Point the rows at the survivor."""
    rows = list(relation.manager.filter(**{f"{relation.field}_id": absorbed}).values_list("pk", flat=True))
    relation.manager.filter(pk__in=rows).update(**{f"{relation.field}_id": survivor})
    return {"rows": [str(pk) for pk in rows]}


def point_back(relation: Relation, survivor: int, absorbed: int, undo: Undo) -> None:
    """Point those rows back that still are the survivor's; what was added since stays."""
    relation.manager.filter(pk__in=undo["rows"], **{f"{relation.field}_id": survivor}).update(
        **{f"{relation.field}_id": absorbed}
    )


def register(
    model: str,
    field_name: str,
    *,
    merge: Callable[[Relation, int, int, dict], Undo] = point,
    unmerge: Callable[[Relation, int, int, Undo], None] = point_back,
    follows: str = "",
    words: str = "",
) -> None:
    """Say what happens to `model.field_name` when the person or household it points at is merged."""
    RELATIONS[(model, field_name)] = Relation(model, field_name, merge, unmerge, follows, words)


def of(target: type[models.Model]) -> list[Relation]:
    """Return the registered relations to a person or to a household, in a fixed order."""
    found = []
    for (model, name), relation in sorted(RELATIONS.items()):
        if apps.get_model(model)._meta.get_field(name).related_model is target:  # noqa: SLF001
            found.append(relation)
    return found


def unhandled(target: type[models.Model]) -> list[str]:
    """Return the foreign keys to `target` that nobody registered: a merge would lose or break them."""
    known = {(relation.model.lower(), relation.field) for relation in of(target)}
    missing = []
    for model in apps.get_models(include_auto_created=True):
        for part in model._meta.get_fields():  # noqa: SLF001
            if not part.concrete or part.related_model is not target or not (part.many_to_one or part.one_to_one):
                continue
            if (model._meta.label_lower, part.name) not in known:  # noqa: SLF001
                missing.append(f"{model._meta.label}.{part.name}")  # noqa: SLF001
    return missing


SUCCESSORS: list[Callable[[type[models.Model], int], int | None]] = []


def successor(target: type[models.Model], identity: int) -> int | None:
    """Return who took over a person or household that was merged away, None when nobody did."""
    return next((found for ask in SUCCESSORS if (found := ask(target, identity)) is not None), None)


FORMER_NUMBERS: list[Callable[[type[models.Model], str], int | None]] = []


def holder_of(target: type[models.Model], number: str) -> int | None:
    """Return who took over the person or household that bore a number, None when nobody did."""
    return next((found for ask in FORMER_NUMBERS if (found := ask(target, number)) is not None), None)
