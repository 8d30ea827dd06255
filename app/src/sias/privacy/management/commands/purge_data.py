"""`sias-manage purge_data`: what the retention rules say is due; does it only with --wet-run."""

import json
from datetime import date

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from sias.privacy import retention


class Command(BaseCommand):
    """Say what is due, or do it."""

    help = "Liste ce que les durées de conservation condamnent ; ne l'efface ou ne l'anonymise qu'avec --wet-run."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--wet-run", action="store_true", help="agit (rôle propriétaire requis)")
        parser.add_argument(
            "--on", type=date.fromisoformat, default=None, help="jour où compter les durées (AAAA-MM-JJ)"
        )
        parser.add_argument("--json", action="store_true")

    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        today = timezone.localdate()
        on = options["on"] or today
        if options["wet_run"] and on > today:
            raise CommandError("Une purge réelle ne se fait pas à une date future.")
        try:
            report = retention.run(on, wet=options["wet_run"])
        except PermissionError as refused:
            raise CommandError(str(refused), returncode=3) from refused
        if options["json"]:
            facts = {"wet": options["wet_run"], "on": str(on), "deleted": report.deleted}
            self.stdout.write(json.dumps(facts | {"anonymised": report.anonymised, "held": report.held}))
            return
        self.stdout.write("Fait :" if options["wet_run"] else "À sec, rien n'est touché. Serait fait :")
        for label, count in sorted(report.deleted.items()):
            self.stdout.write(f"  {count:8} effacés     {label}")
        self.stdout.write(f"  {report.anonymised:8} anonymisées personnes")
        for label, count in sorted(report.held.items()):
            self.stdout.write(f"  {count:8} retenues    personnes : {label}")
