"""What a merge of households does with their evaluations."""

from django.utils import timezone

from sias.repertoire import relations


def _merge(relation: relations.Relation, survivor: int, absorbed: int, choices: dict) -> relations.Undo:
    """Move them all; of two situations the survivor's goes on, the other is kept closed beside it."""
    ended = []
    if relation.manager.filter(household_id=survivor, living=True).exists():
        ended = list(relation.manager.filter(household_id=absorbed, living=True).values_list("pk", flat=True))
        relation.manager.filter(pk__in=ended).update(living=False, closed_at=timezone.now())
    return relations.point(relation, survivor, absorbed, choices) | {"ended": ended}


def _unmerge(relation: relations.Relation, survivor: int, absorbed: int, undo: relations.Undo) -> None:
    relations.point_back(relation, survivor, absorbed, undo)
    relation.manager.filter(pk__in=undo["ended"], household_id=absorbed).update(living=True, closed_at=None)


relations.register("evaluations.Evaluation", "household", merge=_merge, unmerge=_unmerge, words="évaluations")
relations.register("evaluations.Answer", "household")
