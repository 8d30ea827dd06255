"""Merge one file into another over every relation, and separate them again.

The absorbed row goes, so that no query anywhere has to know of merges; all of it is kept in the merge, and every module
says through `sias.repertoire.relations` what its rows do. A relation that nobody handled makes the merge fail.
"""

import json

from django.db import connections, models
from django.db.models import Q
from django.utils import timezone

from sias.duplicates.models import Candidate, Kind, Merge
from sias.habilitations.protection import acting_for_nobody
from sias.history.context import because
from sias.repertoire import relations
from sias.repertoire.models import Household, Person
from sias.repertoire.services import learn_names

# Fields of a person that are picked from one or the other.
PICKED = (
    "birth_name",
    "usage_name",
    "first_names",
    "sex",
    "birth_date",
    "birth_place",
    "address",
    "postal_code",
    "commune_id",
    "phone",
    "email",
)
NIR = "nir"


class MergeRefusedError(Exception):
    """The merge or its undoing cannot be done; the message says why, and what to do."""


def _row(model: type[models.Model], identity: int) -> dict:
    with connections["default"].cursor() as cursor:
        table = connections["default"].ops.quote_name(model._meta.db_table)  # noqa: SLF001
        cursor.execute(f"SELECT to_jsonb(t)::text FROM {table} t WHERE id = %s", [identity])  # noqa: S608
        return json.loads(cursor.fetchone()[0])


def _insert(model: type[models.Model], row: dict) -> None:
    with connections["default"].cursor() as cursor:
        table = connections["default"].ops.quote_name(model._meta.db_table)  # noqa: SLF001
        cursor.execute(
            f"INSERT INTO {table} SELECT (jsonb_populate_record(NULL::{table}, %s::jsonb)).*",
            [json.dumps(row)],
        )


def _locked(kind: Kind, *identities: int) -> dict[int, models.Model]:
    rows = kind.model.objects.using("default").select_for_update().filter(pk__in=identities).order_by("pk")
    return {row.pk: row for row in rows}


def merge(
    kind: Kind,
    survivor: int,
    absorbed: int,
    *,
    agent: object,
    reason: str = "",
    picks: tuple[str, ...] = (),
    choices: dict | None = None,
    versions: dict[int, int] | None = None,
) -> Merge:
    """Merge `absorbed` into `survivor`. `picks` names the fields taken from the absorbed person.

    `choices` goes to the handlers of relations (`household`: whose household counts). `versions` are those that the page
    showed: a file that was edited since is not merged unseen. Raises MergeRefusedError.
    """
    if survivor == absorbed:
        raise MergeRefusedError("Une fiche ne se fusionne pas avec elle-même.")
    # Also the rows of protected domains, which the agent who merges may not see: none is left behind.
    with because(f"Fusion – {reason}" if reason else "Fusion"), acting_for_nobody():
        rows = _locked(kind, survivor, absorbed)
        if len(rows) != 2:  # noqa: PLR2004
            raise MergeRefusedError("L'une des deux fiches n'existe plus : elle a été fusionnée entre-temps.")
        for identity, version in (versions or {}).items():
            if rows[identity].version != version:
                raise MergeRefusedError(
                    f"{rows[identity]} a été modifié par quelqu'un d'autre pendant que vous compariez. "
                    "Rien n'est fusionné : relisez les deux fiches."
                )
        kept, gone = rows[survivor], rows[absorbed]
        undo = {"row": _row(kind.model, absorbed), "relations": [], "fields": {}}
        for relation in relations.of(kind.model):
            undo["relations"].append(
                [relation.model, relation.field, relation.merge(relation, survivor, absorbed, choices or {})]
            )
        kind.model._base_manager.using("default").filter(pk=absorbed)._raw_delete("default")  # noqa: SLF001 - no cascade: a relation that nobody handled must fail
        if kind is Kind.PERSON:
            undo["fields"] = _take(kept, gone, picks, agent)
        made = Merge.objects.create(
            kind=kind,
            survivor=survivor,
            absorbed=absorbed,
            absorbed_label=str(gone),
            absorbed_number=gone.number,
            reason=reason,
            undo=undo,
            made_by=agent,
        )
        _close_candidates(kind, made, agent, reason)
        with connections["default"].cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    return made


def _take(kept: Person, gone: Person, picks: tuple[str, ...], agent: object) -> dict:
    """Give the survivor the picked values; return before and after of each."""
    before = _row(Person, kept.pk)
    for name in picks:
        if name == NIR:
            kept.nir_encrypted, kept.nir_index = gone.nir_encrypted, gone.nir_index
        elif name in PICKED:
            setattr(kept, name, getattr(gone, name))
    kept.compute_norms()
    kept.version += 1
    kept.updated_by = agent
    kept.save()
    learn_names(kept)
    after = _row(Person, kept.pk)
    skipped = {"version", "updated_at", "updated_by_id"}
    return {name: [before[name], after[name]] for name in after if before[name] != after[name] and name not in skipped}


def _close_candidates(kind: Kind, made: Merge, agent: object, reason: str) -> None:
    pair = sorted((made.survivor, made.absorbed))
    now = timezone.now()
    decided = {"decided_at": now, "decided_by": agent, "decision": reason}
    Candidate.objects.filter(kind=kind, left=pair[0], right=pair[1]).update(state=Candidate.State.MERGED, **decided)
    others = Candidate.objects.filter(kind=kind, state=Candidate.State.OPEN).filter(
        Q(left=made.absorbed) | Q(right=made.absorbed)
    )
    made.undo["candidates"] = list(others.values_list("pk", flat=True))
    others.update(state=Candidate.State.GONE)
    made.save(update_fields=["undo"])


def unmerge(made: Merge, agent: object) -> list[str]:
    """Separate two merged files; return the fields that were edited since and stay as they are. Raises MergeRefusedError."""
    kind = Kind(made.kind)
    with because("Annulation d'une fusion"), acting_for_nobody():
        made = Merge.objects.using("default").select_for_update().get(pk=made.pk)
        if made.undone_at is not None:
            raise MergeRefusedError("Cette fusion est déjà annulée.")
        involved = (made.survivor, made.absorbed)
        later = (
            Merge.objects.using("default")
            .filter(kind=kind, undone_at=None, pk__gt=made.pk)
            .filter(Q(survivor__in=involved) | Q(absorbed__in=involved))
            .first()
        )
        if later is not None:
            raise MergeRefusedError(
                f"Une fusion plus récente concerne cette fiche ({later}, le {timezone.localtime(later.made_at):%d/%m/%Y}) : "
                "annulez-la d'abord."
            )
        kept = _locked(kind, made.survivor).get(made.survivor)
        if kept is None:
            raise MergeRefusedError("La fiche gardée n'existe plus.")
        edited = _give_back(kind, kept, made.undo["fields"], agent)
        _insert(kind.model, made.undo["row"])
        try:
            for model, field_name, undo in reversed(made.undo["relations"]):
                relation = relations.RELATIONS[(model, field_name)]
                relation.unmerge(relation, made.survivor, made.absorbed, undo)
        except relations.CannotUndoError as error:
            raise MergeRefusedError(str(error)) from error
        Candidate.objects.filter(pk__in=made.undo["candidates"], state=Candidate.State.GONE).update(
            state=Candidate.State.OPEN
        )
        pair = sorted(involved)
        Candidate.objects.filter(kind=kind, left=pair[0], right=pair[1], state=Candidate.State.MERGED).update(
            state=Candidate.State.OPEN, decided_at=None, decided_by=None, decision=""
        )
        made.undone_at, made.undone_by = timezone.now(), agent
        made.save(update_fields=["undone_at", "undone_by"])
    return edited


def _give_back(kind: Kind, kept: models.Model, fields: dict, agent: object) -> list[str]:
    """Put back what the merge changed, but for what someone edited since."""
    if kind is not Kind.PERSON:
        return []
    now = _row(Person, kept.pk)
    back = {name: old for name, (old, new) in fields.items() if now[name] == new}
    row = now | back | {"version": now["version"] + 1, "updated_by_id": agent.pk}
    row["updated_at"] = timezone.now().isoformat()
    changed = {name for name in row if row[name] != now[name]}
    columns = ", ".join(connections["default"].ops.quote_name(name) for name in sorted(changed))
    with connections["default"].cursor() as cursor:
        cursor.execute(
            f"UPDATE repertoire_person p SET ({columns}) = (SELECT {columns} "  # noqa: S608
            "FROM jsonb_populate_record(NULL::repertoire_person, %s::jsonb)) WHERE p.id = %s",
            [json.dumps(row), kept.pk],
        )
    return sorted(name for name in fields if name not in back and not name.endswith("_norm"))


def successor(target: type[models.Model], identity: int) -> int | None:
    """Return who took over a merged file, at the end of the chain."""
    kind = {Person: Kind.PERSON, Household: Kind.HOUSEHOLD}.get(target)
    found = None
    while True:
        following = (
            Merge.objects.filter(kind=kind, absorbed=identity, undone_at=None)
            .values_list("survivor", flat=True)
            .first()
        )
        if following is None:
            return found
        found = identity = following


def holder_of(target: type[models.Model], number: str) -> int | None:
    """Return who took over the file that bore a number, at the end of the chain."""
    kind = {Person: Kind.PERSON, Household: Kind.HOUSEHOLD}.get(target)
    gone = Merge.objects.filter(kind=kind, absorbed_number=number, undone_at=None).values_list("absorbed", flat=True)
    absorbed = gone.first()
    return successor(target, absorbed) if absorbed is not None else None


relations.SUCCESSORS.append(successor)
relations.FORMER_NUMBERS.append(holder_of)
