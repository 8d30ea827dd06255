"""Changes told in words: who, what, when, before, after. Tables and columns get theirs from the models."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import groupby

from django.apps import apps
from django.db import models
from django.http import HttpRequest

from sias.history.models import Change

SECRET = {"nir_encrypted", "nir_index", "iban_index"}  # that it changed may be told, its value not
# Columns that say nothing to a reader.
SILENT = {"id", "version", "created_at", "updated_at", "updated_by_id", "created_by_id", "nir_index", "search"}
SILENT_ENDINGS = ("_norm",)
EMPTY = "(vide)"
# Where the reader's word is not the model's.
WORDS = {
    "household": "ménage",
    "household_id": "ménage",
    "person_id": "personne",
    "role": "place",
    "membership": "présence dans le ménage",
    "number": "numéro",
}

# Who may read a change: by table, given by the module that owns it. Without an entry: whoever may read the file.
Readable = Callable[[HttpRequest, list[Change]], set[int]]
_READABLE: dict[str, Readable] = {}
# What a row is called, when its table's name does not say it (an answer is called by its question).
Label = Callable[[Change], str]
_LABELS: dict[str, Label] = {}


def readable_by(table: str) -> Callable[[Readable], Readable]:
    """Register who may read the changes of `table`: the function returns the ids of those that may be shown."""

    def register(function: Readable) -> Readable:
        _READABLE[table] = function
        return function

    return register


def called(table: str) -> Callable[[Label], Label]:
    """Register what a row of `table` is called."""

    def register(function: Label) -> Label:
        _LABELS[table] = function
        return function

    return register


@dataclass(frozen=True)
class Line:
    """One column of a change."""

    label: str
    before: str
    after: str


@dataclass(frozen=True)
class Told:
    """A change, ready for a page."""

    change: Change
    what: str
    lines: list[Line]

    @property
    def who(self) -> str:
        """The agent, or the program that changed the row by itself."""
        return str(self.change.agent) if self.change.agent_id and self.change.agent else "Hors de l'application"


@cache
def _model(table: str) -> type[models.Model] | None:
    return next((model for model in apps.get_models() if model._meta.db_table == table), None)  # noqa: SLF001


@cache
def _field(table: str, column: str) -> models.Field | None:
    model = _model(table)
    if model is None:
        return None
    return next((field for field in model._meta.concrete_fields if field.column == column), None)  # noqa: SLF001


def _value(table: str, column: str, value: object) -> str:
    if value in (None, "", [], {}):
        return EMPTY
    field = _field(table, column)
    words = str(value)
    if isinstance(value, bool):
        words = "oui" if value else "non"
    elif field is not None and field.choices:
        words = str(dict(field.flatchoices).get(value, value))
    elif isinstance(field, models.DateField) and isinstance(value, str):
        words = date.fromisoformat(value[:10]).strftime("%d/%m/%Y")
    elif isinstance(field, models.ForeignKey):
        other = field.related_model.objects.filter(pk=value).first()
        words = str(other) if other else f"n° {value}"
    elif isinstance(value, list):
        words = ", ".join(str(item) for item in value)
    return words


def _label(table: str, column: str) -> str:
    field = _field(table, column)
    words = WORDS.get(column) or (str(field.verbose_name) if field is not None else column)
    return words[:1].upper() + words[1:]


def _lines(change: Change) -> Iterator[Line]:
    before, after = change.before or {}, change.after or {}
    for column in [*before, *(name for name in after if name not in before)]:
        if column in SILENT or column.endswith(SILENT_ENDINGS):
            continue
        if column in SECRET:
            if before.get(column) != after.get(column):
                yield Line(
                    "NIR", "(masqué)" if before.get(column) else EMPTY, "(masqué)" if after.get(column) else EMPTY
                )
            continue
        old, new = (
            _value(change.table_name, column, before.get(column)),
            _value(change.table_name, column, after.get(column)),
        )
        if old != new:
            yield Line(_label(change.table_name, column), old, new)


def tell(request: HttpRequest, changes: Iterable[Change]) -> list[Told]:
    """Return the changes that the agent may read, in words, in their order."""
    changes = list(changes)
    shown = set()
    for table, group in groupby(
        sorted(changes, key=lambda change: change.table_name), lambda change: change.table_name
    ):
        rows = list(group)
        rule = _READABLE.get(table)
        shown |= rule(request, rows) if rule else {row.pk for row in rows}
    told = []
    for change in changes:
        if change.pk not in shown:
            continue
        model = _model(change.table_name)
        name = change.table_name
        if model is not None:
            name = WORDS.get(model._meta.model_name) or str(model._meta.verbose_name)  # noqa: SLF001
        if label := _LABELS.get(change.table_name):
            name = label(change) or name
        told.append(Told(change, name[:1].upper() + name[1:], list(_lines(change))))
    return told
