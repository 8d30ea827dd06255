"""What a merge does with the rows of this module."""

from django.db.models import Q

from sias.repertoire import relations

relations.register("households.ExternalKey", "household", words="clés externes")
relations.register("households.Move", "source")
relations.register("households.Move", "target")
# One person twice in one move cannot be: the pair (move, person) is unique, so a row that would be there twice goes.


def _merge_moved(relation: relations.Relation, survivor: int, absorbed: int, _choices: dict) -> relations.Undo:
    rows = list(relation.manager.filter(person_id=absorbed).values_list("pk", "move_id"))
    already = set(
        relation.manager.filter(person_id=survivor, move_id__in=[move for _pk, move in rows]).values_list(
            "move_id", flat=True
        )
    )
    moved = [pk for pk, move in rows if move not in already]
    gone = [move for _pk, move in rows if move in already]
    relation.manager.filter(pk__in=moved).update(person_id=survivor)
    relation.manager.filter(person_id=absorbed).delete()
    return {"rows": moved, "gone": gone}


def _unmerge_moved(relation: relations.Relation, survivor: int, absorbed: int, undo: relations.Undo) -> None:
    relation.manager.filter(pk__in=undo["rows"], person_id=survivor).update(person_id=absorbed)
    for move in undo["gone"]:
        relation.manager.create(move_id=move, person_id=absorbed)


relations.register("households.Move_persons", "person", merge=_merge_moved, unmerge=_unmerge_moved)


# --- the time of persons in households: who is merged was in two at once, the agent says which one counts ------------
STAY = "survivor"  # choice "household": whose household counts from now on


def _state(relation: relations.Relation, person: int) -> list[list]:
    return [
        [row.pk, row.household_id, row.role, row.since.isoformat(), row.until and row.until.isoformat()]
        for row in relation.manager.filter(person_id=person).order_by("since")
    ]


def _merge_time(relation: relations.Relation, survivor: int, absorbed: int, choices: dict) -> relations.Undo:
    """Keep the chosen one's time in households whole, and of the other's what lies before it."""
    undo = {"survivor": _state(relation, survivor), "absorbed": _state(relation, absorbed)}
    kept, other = (survivor, absorbed) if choices.get("household", STAY) == STAY else (absorbed, survivor)
    first = relation.manager.filter(person_id=kept).order_by("since").first()
    if first is not None:
        relation.manager.filter(person_id=other, since__gte=first.since).delete()
        relation.manager.filter(person_id=other).filter(Q(until=None) | Q(until__gt=first.since)).update(
            until=first.since
        )
    relation.manager.filter(person_id=absorbed).update(person_id=survivor)
    return undo | {"after": _state(relation, survivor)}


def _unmerge_time(relation: relations.Relation, survivor: int, absorbed: int, undo: relations.Undo) -> None:
    if _state(relation, survivor) != undo["after"]:
        raise relations.CannotUndoError(
            "La personne a changé de ménage depuis la fusion : annulez d'abord ce changement."
        )
    relation.manager.filter(person_id=survivor).delete()
    relation.manager.bulk_create(
        relation.manager.model(pk=pk, person_id=person, household_id=household, role=role, since=since, until=until)
        for person, rows in ((survivor, undo["survivor"]), (absorbed, undo["absorbed"]))
        for pk, household, role, since, until in rows
    )


relations.register("repertoire.Membership", "person", merge=_merge_time, unmerge=_unmerge_time)
relations.register("repertoire.Membership", "household", words="séjours de personnes")
