"""Who plays in the demonstration, and where it may be played."""

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.db import transaction

from sias.platform.demonstration import Scene, play
from sias.repertoire.models import Person
from sias.tasks.models import Task

IMAGINARY = {"dev", "test", "lab", "formation"}  # environments whose persons are all imaginary
CAST = 24


def refuse_elsewhere(allowed: set[str]) -> None:
    """Raise CommandError, code 3, when this environment is not one of `allowed`."""
    if settings.ENVIRONMENT not in allowed:
        raise CommandError(
            f"Refusé : l'environnement est « {settings.ENVIRONMENT} » (SIAS_ENVIRONMENT), cette commande n'agit que sur "
            f"{', '.join(sorted(allowed))}.",
            returncode=3,
        )


def load() -> bool:
    """Make the demonstration data; False when they are there already."""
    users = get_user_model().objects.using("default")
    agent = users.filter(username="demo").first()
    if agent is None:
        raise CommandError("Le compte demo manque : lancez create_accounts d'abord.")
    with transaction.atomic():
        if Task.objects.using("default").filter(application="SIAS", external_key__startswith="demonstration:").exists():
            return False
        persons = list(Person.objects.using("default").order_by("pk")[:CAST])
        if len(persons) < CAST:
            raise CommandError(f"Il faut au moins {CAST} personnes : lancez load_population d'abord.")
        colleague, _made = users.get_or_create(
            username="collegue", defaults={"first_name": "Claude", "last_name": "Collègue", "service": agent.service}
        )
        play(Scene(agent, colleague, persons))
    return True
