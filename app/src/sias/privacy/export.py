"""Everything that is kept about a person, for the person (RGPD, article 15)."""

from datetime import datetime
from typing import Any

from django.db import models
from django.utils import timezone

from sias.habilitations.protection import acting_for_nobody
from sias.privacy.register import PURPOSES, RULES, declarations
from sias.repertoire.models import Person

HIDDEN = {"technique", "securite"}


def _value(row: models.Model, part: models.Field) -> Any:
    value = getattr(row, part.name)
    if part.choices and value:
        return str(getattr(row, f"get_{part.name}_display")())
    if isinstance(part, models.ForeignKey):
        return str(value) if value is not None else None
    return value.isoformat() if hasattr(value, "isoformat") else value


def _row(row: models.Model) -> dict:
    declaration = declarations().get(type(row))
    purposes = declaration.purposes if declaration else {}
    values = {}
    for part in row._meta.concrete_fields:  # noqa: SLF001 - documented
        if purposes.get(part.name) in HIDDEN or isinstance(part, models.BinaryField) or part.related_model is Person:
            continue
        values[str(part.verbose_name)] = _value(row, part)
    return values


def export(person: Person, at: datetime | None = None) -> dict:
    """Return the person's data, by kind, with purposes and durations. Numbers that are encrypted at rest are in clear.

    Protected domains are in it: the copy is the person's, whatever its maker may read.
    """
    with acting_for_nobody():
        return _export(person, at)


def _export(person: Person, at: datetime | None) -> dict:
    about = {}
    for model, declaration in declarations().items():
        for part in model._meta.concrete_fields:  # noqa: SLF001
            if part.related_model is Person:
                rows = model._base_manager.using("default").filter(**{part.name: person}).order_by("pk")  # noqa: SLF001
                about[str(model._meta.verbose_name)] = {  # noqa: SLF001
                    "conservation": RULES[declaration.rule].label,
                    "finalites": sorted({PURPOSES[one] for one in declaration.purposes.values() if one not in HIDDEN}),
                    "enregistrements": [_row(row) for row in rows],
                }
    return {
        "edite_le": (at or timezone.now()).isoformat(),
        "responsable": "Département de la Moselle, délégué à la protection des données",
        "personne": _row(person) | {"NIR": person.nir},
        "donnees": about,
    }
