"""`sias-manage schema --json`: which migrations are to be done and what they would send; changes nothing."""

import json

from django.core.management.base import BaseCommand, CommandParser
from django.db import connection

from sias.platform.schema import describe


class Command(BaseCommand):
    """Print what lies between this release and the database."""

    help = "Dit quelles migrations restent à faire, et ce qu'elles enverraient à la base."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--json", action="store_true", help="une ligne JSON, pour un programme")

    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        found = describe(connection)
        if options["json"]:
            self.stdout.write(json.dumps(found))
            return
        for migration in found["pending"]:
            self.stdout.write(self.style.MIGRATE_HEADING(migration["name"]))
            self.stdout.write("\n".join(migration["sql"] + [f"-- {what}" for what in migration["python"]]))
        self.stdout.write(f"{len(found['pending'])} migrations à faire ; manquent : {found['missing'] or 'rien'}")
