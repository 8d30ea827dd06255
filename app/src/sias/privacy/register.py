"""What each field is for and how long it is kept: files `donnees.toml`, one per module.

    [modele.Task]
    regle = "dossier"            a rule of RULES
    echeance = "closed_at"       from which the rule counts, for rules that delete
    activite = "closed_at"       tells of a recent activity of the person; empty means going on
    avec_la_personne = "effacer" when the person is made anonymous: effacer, garder, retenir (the person waits)
    suivi = "kind title ..."     the fields of each purpose of PURPOSES

Every field has one purpose: a test fails for a field without.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import models

FILE = "donnees.toml"
PURPOSES = {
    "identification": "Identifier la personne sans la confondre",
    "contact": "Joindre la personne",
    "suivi": "Instruire les demandes et suivre l'accompagnement",
    "paiement": "Payer les tiers",
    "droits": "Répondre aux droits de la personne",
    "organisation": "Organiser le travail des agents",
    "securite": "Sécurité et traçabilité",
    "technique": "Fonctionnement de l'application",
    "referentiel": "Référentiel public, sans donnée personnelle",
}


@dataclass(frozen=True)
class Rule:
    """How long and what then; days None: not by this engine."""

    label: str
    days: int | None


RULES = {
    "usager": Rule("2 ans après la dernière activité de la personne, puis anonymisation", 730),
    "dossier": Rule("2 ans après la clôture, puis effacement", 730),
    "comptable": Rule("10 ans après le dernier mouvement, puis effacement", 3653),
    "trace": Rule("1 an, puis effacement", 365),
    "exploitation": Rule("7 jours, effacement par les tâches de fond", None),
    "journal": Rule("1 an, jusqu'à 3 ans sur justification, par le journal des accès lui-même", None),
    "agent": Rule("1 an après le départ, à la main de l'administrateur", None),
    "parent": Rule("comme l'objet auquel il est rattaché", None),
    "referentiel": Rule("sans limite : aucune donnée personnelle", None),
}
FATES = {"effacer", "garder", "retenir"}


@dataclass(frozen=True)
class Declaration:
    """What a module says of a model."""

    model: type[models.Model]
    rule: str
    due_from: str
    activity: str
    fate: str
    purposes: dict[str, str]  # field -> purpose

    @property
    def missing(self) -> set[str]:
        """Fields that nobody said the purpose of."""
        return {field.name for field in self.model._meta.concrete_fields} - set(self.purposes)  # noqa: SLF001


def _read(model: type[models.Model], lines: dict, path: Path) -> Declaration:
    where = f"{path}: {model.__name__}"
    purposes: dict[str, str] = {}
    known = {field.name for field in model._meta.concrete_fields}  # noqa: SLF001 - documented
    for purpose in PURPOSES.keys() & lines.keys():
        for name in lines[purpose].split():
            if name in purposes:
                raise ImproperlyConfigured(f"{where}: {name} has two purposes")
            purposes[name] = purpose
    if unknown := (set(purposes) | {lines.get("echeance", ""), lines.get("activite", "")}) - known - {""}:
        raise ImproperlyConfigured(f"{where} has no field {sorted(unknown)}")
    if lines.get("regle") not in RULES:
        raise ImproperlyConfigured(f"{where}: regle is one of {sorted(RULES)}")
    if (fate := lines.get("avec_la_personne", "")) and fate not in FATES:
        raise ImproperlyConfigured(f"{where}: avec_la_personne is one of {sorted(FATES)}")
    if unknown := set(lines) - set(PURPOSES) - {"regle", "echeance", "activite", "avec_la_personne"}:
        raise ImproperlyConfigured(f"{where}: unknown lines {sorted(unknown)}")
    return Declaration(model, lines["regle"], lines.get("echeance", ""), lines.get("activite", ""), fate, purposes)


@cache
def declarations() -> dict[type[models.Model], Declaration]:
    """Read the files of every module. Raises ImproperlyConfigured naming file, model and field of what is wrong."""
    found: dict[type[models.Model], Declaration] = {}
    for config in ours():
        path = Path(config.path) / FILE
        if not path.exists():
            continue
        for name, lines in tomllib.loads(path.read_text(encoding="utf-8")).get("modele", {}).items():
            try:
                model = config.get_model(name)
            except LookupError as missing:
                raise ImproperlyConfigured(f"{path}: there is no model {name}") from missing
            found[model] = _read(model, lines, path)
    return found


def ours() -> list:
    """Return the configurations of our own applications."""
    return [config for config in apps.get_app_configs() if config.name.startswith("sias.")]
