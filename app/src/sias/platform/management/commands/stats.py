"""`sias-manage stats --json`: how much there is."""

import json

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from sias.documents.models import Document
from sias.population.models import Load
from sias.repertoire.models import Household, NameForm, Person


class Command(BaseCommand):
    """Print counts."""

    help = "Compte les personnes, les foyers, les noms et les documents."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--json", action="store_true", help="une ligne JSON, pour un programme")

    @transaction.atomic
    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        load = Load.objects.order_by("-id").first()
        counts = {
            "persons": Person.objects.count(),
            "households": Household.objects.count(),
            "names": NameForm.objects.count(),
            "documents": Document.objects.count(),
            "load": {
                "persons": load.persons,
                "seed": load.seed,
                "digest": load.digest,
                "seconds": round(load.seconds, 1),
            }
            if load
            else None,
        }
        if options["json"]:
            self.stdout.write(json.dumps(counts))
        else:
            for name, value in counts.items():
                self.stdout.write(f"{name}: {value}")
