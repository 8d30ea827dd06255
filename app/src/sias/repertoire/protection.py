"""What a merge of persons does with confidential files and exceptional accesses: confidential stays confidential."""

from sias.repertoire import relations
from sias.repertoire.relations import Relation, Undo


def _merge(relation: Relation, survivor: int, absorbed: int, _choices: dict) -> Undo:
    """The survivor becomes confidential when either was; who could open both files still can, nobody else."""
    row = relation.manager.filter(person_id=absorbed).first()
    if row is None:
        return {}
    if relation.manager.filter(person_id=survivor).exists():
        allowed = list(row.allowed.values_list("pk", flat=True))
        undo = {"removed": {"reason": row.reason, "set_by_id": row.set_by_id, "allowed": allowed}}
        row.delete()
        return undo
    relation.manager.filter(pk=row.pk).update(person_id=survivor)
    return {"moved": row.pk}


def _unmerge(relation: Relation, _survivor: int, absorbed: int, undo: Undo) -> None:
    if "moved" in undo:
        relation.manager.filter(pk=undo["moved"]).update(person_id=absorbed)
    elif removed := undo.get("removed"):
        row = relation.manager.create(person_id=absorbed, reason=removed["reason"], set_by_id=removed["set_by_id"])
        row.allowed.set(removed["allowed"])


relations.register("habilitations.ConfidentialPerson", "person", merge=_merge, unmerge=_unmerge)
relations.register("habilitations.BreakGlass", "person", words="accès exceptionnels")
