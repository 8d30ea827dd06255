"""`sias-manage directory_sample`: an imaginary directory as LDIF, for the lab and for development."""

import sys

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from sias.directory.sample import ldif, rules

IMAGINARY = {"dev", "test", "lab", "lab-full", "formation"}


class Command(BaseCommand):
    """Print it, or give its groups their rights. Never touches a directory."""

    help = "Écrit un annuaire imaginaire (agents et groupes) en LDIF sur la sortie standard."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--agents", type=int, default=3000, help="nombre d'agents (3000)")
        parser.add_argument("--seed", type=int, default=57, help="la même graine donne les mêmes gens")
        parser.add_argument("--base", default="", help="racine de l'annuaire, par exemple dc=sias,dc=internal")
        parser.add_argument(
            "--rules", action="store_true", help="donne plutôt à ses groupes leurs habilitations (jamais en production)"
        )
        parser.add_argument(
            "--password", action="store_true", help="lit sur l'entrée standard le mot de passe, haché, de tous"
        )

    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        if options["rules"]:
            if settings.ENVIRONMENT not in IMAGINARY:
                raise CommandError("Refusé : ces habilitations sont pour des gens imaginaires.", returncode=3)
            self.stdout.write("changed" if rules() else "unchanged")
            return
        if not options["base"]:
            raise CommandError("Indiquez --base.", returncode=2)
        password = sys.stdin.readline().strip() if options["password"] else ""
        for line in ldif(options["agents"], options["base"], seed=options["seed"], password=password):
            self.stdout.write(line)
