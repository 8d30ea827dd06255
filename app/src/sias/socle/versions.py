"""Versions of dated entries: what is written today does not change what was in force yesterday."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from django.db import models

from sias.socle.models import Dated

Key = tuple


@dataclass(frozen=True)
class Wanted:
    """An entry as it shall be from a day on; `until` is the first day it is no longer in force, None for no end."""

    key: Key
    values: dict[str, object]
    since: date
    until: date | None = None


class VersionError(ValueError):
    """The dates cannot stand; the message says why, in French."""


def of(model: type[Dated], key_fields: tuple[str, ...], keys: Iterable[Key]) -> dict[Key, list[Dated]]:
    """Return every version of the keys, oldest first, locked. Reads the primary."""
    wanted = set(keys)
    rows = model.objects.using("default").select_for_update(of=("self",)).order_by("since")
    rows = rows.filter(**{f"{key_fields[0]}__in": {key[0] for key in wanted}})
    found: dict[Key, list[Dated]] = {key: [] for key in wanted}
    for row in rows:
        key = tuple(getattr(row, name) for name in key_fields)
        if key in found:
            found[key].append(row)
    return found


def put(model: type[Dated], key_fields: tuple[str, ...], wanted: list[Wanted]) -> None:
    """Write the entries: corrected when a version begins that very day, else a new version that ends the former one.

    One entry per key. Raises VersionError before anything is written. In the caller's transaction, under its lock.
    """
    known = of(model, key_fields, [one.key for one in wanted])
    touched, made = [], []
    for one in wanted:
        at = next((row for row in known[one.key] if in_force(row, one.since)), None)
        later = next((row.since for row in known[one.key] if row.since > one.since), None)
        until = one.until or (at.until if at else later)
        if until is not None and until <= one.since:
            raise VersionError(f"La fin ({until:%d/%m/%Y}) doit suivre le début ({one.since:%d/%m/%Y}).")
        if later is not None and (until is None or until > later):
            raise VersionError(f"Une autre version commence le {later:%d/%m/%Y}.")
        if at is not None and at.since == one.since:
            for name, value in {**one.values, "until": until}.items():
                setattr(at, name, value)
            touched.append(at)
            continue
        if at is not None:
            at.until = one.since
            touched.append(at)
        key = dict(zip(key_fields, one.key, strict=True))
        made.append(model(**{**key, **one.values, "since": one.since, "until": until}))
    # What ends first: the database refuses two versions at a time, row by row.
    names = {"until"} | {name for one in wanted for name in one.values}
    if touched:
        model.objects.using("default").bulk_update(touched, sorted(names), batch_size=500)
    model.objects.bulk_create(made, batch_size=500)


def end(model: type[Dated], key_fields: tuple[str, ...], keys: Iterable[Key], day: date) -> None:
    """End entries on a day: the first they are no longer in force. One that began that day never was."""
    ended, never = [], []
    for rows in of(model, key_fields, keys).values():
        for row in rows:
            if in_force(row, day):
                (never if row.since == day else ended).append(row)
    for row in ended:
        row.until = day
    model.objects.using("default").bulk_update(ended, ["until"], batch_size=500)
    model.objects.using("default").filter(pk__in=[row.pk for row in never]).delete()


def in_force(row: Dated, day: date) -> bool:
    """Tell whether a version counts on a day."""
    return row.since <= day and (row.until is None or row.until > day)


def on(rows: models.QuerySet, day: date) -> models.QuerySet:
    """Return the versions in force on a day."""
    return rows.filter(since__lte=day).exclude(until__lte=day)
