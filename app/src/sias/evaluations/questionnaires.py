"""Questionnaires: data files of the release, published once per version, and how an answer is read and shown."""

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

from django.db import connections

DATA = Path(__file__).parent / "data"
LONGEST = {"texte": 200, "long": 10_000}
MOST = Decimal(10_000_000)  # euros


class PublishedDiffersError(Exception):
    """A data file was edited after its version was published: give it the next version instead."""


def files() -> Iterator[tuple[dict, str]]:
    """Yield each definition of this release with its digest."""
    for path in sorted(DATA.glob("*.v*.json")):
        definition = json.loads(path.read_text())
        canonical = json.dumps(definition, ensure_ascii=False, sort_keys=True)
        yield definition, hashlib.sha256(canonical.encode()).hexdigest()


def publish(using: str = "default", **_kwargs: object) -> None:
    """Publish what is new; refuse a published version that differs."""
    from sias.evaluations.models import Questionnaire  # noqa: PLC0415 - called after migrations

    if using != "default" or Questionnaire._meta.db_table not in connections[using].introspection.table_names():  # noqa: SLF001
        return
    known = {(row.code, row.version): row.digest for row in Questionnaire.objects.using(using)}
    for definition, digest in files():
        key = (definition["code"], definition["version"])
        if key not in known:
            Questionnaire.objects.using(using).create(
                code=key[0], version=key[1], title=definition["title"], definition=definition, digest=digest
            )
        elif known[key] != digest:
            raise PublishedDiffersError(f"{key[0]} v{key[1]} is published and differs from its file")


def questions(definition: dict) -> dict[str, dict]:
    """Return the questions by code, in their order."""
    return {question["code"]: question for section in definition["sections"] for question in section["questions"]}


def read(question: dict, values: list[str]) -> object:
    """Return the answer that was typed, None for none; raise ValueError with a French sentence."""
    values = [value.strip() for value in values if value.strip()]
    if not values:
        return None
    kind, value = question["type"], values[0]
    if kind in LONGEST:
        if len(value) > LONGEST[kind]:
            raise ValueError(f"{len(value)} caractères : {LONGEST[kind]} au plus.")
        return value
    return {"date": _date, "montant": _amount}.get(kind, lambda _value: _choice(question, values))(value)


def _date(value: str) -> str:
    match = re.fullmatch(r"(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})", value)
    try:
        day = date(*(int(part) for part in match.groups()[::-1])) if match else date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"« {value} » n'est pas une date. Écrivez-la comme 31/12/2025.") from None
    return day.isoformat()


def _amount(value: str) -> str:
    try:
        amount = Decimal(re.sub(r"[\s€]", "", value).replace(",", "."))
    except InvalidOperation:
        raise ValueError(f"« {value} » n'est pas un montant. Écrivez-le comme 1 234,50.") from None
    if not amount.is_finite() or not 0 <= amount < MOST:
        raise ValueError("Le montant doit être positif et inférieur à dix millions.")
    return f"{amount:.2f}"


def _choice(question: dict, values: list[str]) -> object:
    allowed = dict(choices(question))
    for value in values:
        if value not in allowed:
            raise ValueError(f"« {value} » n'est pas une réponse proposée.")
    return sorted(set(values)) if question["type"] == "plusieurs" else values[0]


def choices(question: dict) -> list[list[str]]:
    """Return value and words of each possible answer."""
    return (
        [["oui", "Oui"], ["non", "Non"], ["nsp", "Ne sait pas"]]
        if question["type"] == "ouinon"
        else question["choices"]
    )


def show(question: dict | None, value: object) -> str:
    """Return an answer as people read it, "" for none."""
    if value in (None, "", []):
        return ""
    if question is None:
        return str(value)
    kind = question["type"]
    if kind == "date":
        return date.fromisoformat(value).strftime("%d/%m/%Y")
    if kind == "montant":
        return f"{Decimal(value):,.2f} €".replace(",", " ").replace(".", ",")
    if kind in LONGEST:
        return value
    words = dict(choices(question))
    return ", ".join(words.get(item, item) for item in (value if isinstance(value, list) else [value]))
