"""`sias-manage verify_journal`: whether the access log is whole."""

import json

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from sias.journal.access import Action, record_access
from sias.journal.chain import verify


class Command(BaseCommand):
    """Verify every chain and every anchor; exit code 1 when something is missing or changed."""

    help = "Vérifie le journal des accès : chaînes, fins de chaîne, scellés. La vérification y est elle-même inscrite."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--json", action="store_true", help="une ligne JSON, pour un programme")

    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        with transaction.atomic():
            report = verify()
        record_access(
            None, None, Action.LOG, "vérification", domain="journal", detail={"anomalies": len(report.problems)}
        )
        if options["json"]:
            self.stdout.write(json.dumps(vars(report), ensure_ascii=False))
        else:
            self.stdout.write(f"{report.entries} entrées, {report.chains} chaînes, {report.anchors} scellés")
            for problem in report.problems:
                self.stdout.write(problem)
        if report.problems:
            raise CommandError(f"{len(report.problems)} anomalie(s) dans le journal des accès.", returncode=1)
