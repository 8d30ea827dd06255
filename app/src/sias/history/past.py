"""Rows as they were recorded at a moment: today's rows, with the changes since then taken back one by one."""

import json
from collections import defaultdict
from datetime import datetime

from django.db import connections, models
from django.db.models import Q

from sias.history.models import Change
from sias.platform.routing import reads

MOST = 20_000  # changes that are taken back for one question


class TooFarError(Exception):
    """More changes lie between then and now than one page may undo."""


def rows_at(model: type[models.Model], moment: datetime, **which: int) -> list[dict]:
    """Return the rows (columns as JSON gives them) whose columns had the values `which` at `moment`.

    `which` is `household_id=…`, `person_id=…`, or `id=…`. Rows that were there before history began (a loaded
    population) count as having always been as their first change found them.
    """
    table = model._meta.db_table  # noqa: SLF001 - documented by Django
    (column, value), *rest = which.items()
    if rest:
        raise ValueError("one column at a time")
    concerned = {
        "id": Q(row_id=str(value)),
        "person_id": Q(person_id=value),
        "household_id": Q(household_id=value) | Q(left_household_id=value),
    }[column]
    later = Change.objects.filter(table_name=table, at__gt=moment)
    # A row that moved away and changed there since: all of its later changes are needed, not only ours.
    ids = set(later.filter(concerned).values_list("row_id", flat=True)[: MOST + 1])
    quoted = connections[reads()].ops.quote_name
    with connections[reads()].cursor() as cursor:
        cursor.execute(
            f"SELECT to_jsonb(t)::text FROM {quoted(table)} t WHERE t.{quoted(column)} = %s OR t.id::text = ANY(%s)",  # noqa: S608
            [value, list(ids)],
        )
        rows = {str(row["id"]): row for row in (json.loads(text) for (text,) in cursor.fetchall())}
    since = defaultdict(list)
    changes = list(later.filter(row_id__in=ids | rows.keys()).order_by("-id")[: MOST + 1])
    if len(changes) > MOST:
        raise TooFarError
    for change in changes:
        since[change.row_id].append(change)
    found = []
    for row_id in rows.keys() | since.keys():
        row = rows.get(row_id)
        for change in since[row_id]:
            row = _taken_back(row, change)
        if row is not None and row.get(column) == value:
            found.append(row)
    return sorted(found, key=lambda row: row["id"])


def _taken_back(row: dict | None, change: Change) -> dict | None:
    if change.operation == Change.Operation.INSERT:
        return None
    if change.operation == Change.Operation.DELETE:
        return dict(change.before)
    return {**row, **change.before} if row is not None else None
