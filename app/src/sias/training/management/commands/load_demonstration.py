"""`sias-manage load_demonstration`: something in every screen, about imaginary persons."""

from django.core.management.base import BaseCommand

from sias.training import scenes


class Command(BaseCommand):
    """Make demonstration data; says `changed` or `unchanged`."""

    help = "Remplit chaque écran de données de démonstration (jamais en production)."

    def handle(self, *_args: object, **_options: object) -> None:
        """Do it."""
        scenes.refuse_elsewhere(scenes.IMAGINARY)
        self.stdout.write("state=changed" if scenes.load() else "state=unchanged")
