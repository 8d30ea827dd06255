"""`sias-manage reset_training`: the training instance as on its first day."""

from django.apps import apps
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import connections, transaction

from sias.training import scenes

PERSONS, SEED = 20_000, 2008
# Whatever trainees wrote and the loading of a population does not empty, because it points at no person.
EMPTIED = (
    "tasks.Task",
    "tasks.Absence",
    "thirdparties.ThirdParty",
    "thirdparties.FinanceRecord",
    "dictionaries.Import",
)


class Command(BaseCommand):
    """Put the training instance back: population, demonstration, nobody signed in."""

    help = "Remet l'instance de formation dans son état de départ (SIAS_ENVIRONMENT=formation seulement, rôle propriétaire)."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--persons", type=int, default=PERSONS, help=f"nombre de personnes ({PERSONS})")

    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        scenes.refuse_elsewhere({"formation"})
        call_command(
            "load_population", persons=options["persons"], seed=SEED, replace=True, stdout=self.stdout, processes=1
        )
        with transaction.atomic(), connections["default"].cursor() as cursor:
            tables = ", ".join(apps.get_model(label)._meta.db_table for label in EMPTIED)  # noqa: SLF001 - documented
            cursor.execute(f"TRUNCATE {tables} CASCADE")
            Session.objects.using("default").all().delete()
            scenes.load()
        self.stdout.write("Instance de formation remise à neuf ; tout le monde se reconnecte.")
