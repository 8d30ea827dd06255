"""`sias-manage create_partner NAME --scopes ...`: a partner of the API, or a new key for one."""

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from sias.api.core import SCOPES
from sias.api.models import Key, Partner


class Command(BaseCommand):
    """Create or correct a partner; prints a new key once, on the standard output alone."""

    help = "Crée ou corrige un partenaire de l'API et affiche une clé neuve, une seule fois."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("name", help="nom de l'application, 40 caractères au plus")
        parser.add_argument(
            "--scopes", nargs="+", choices=sorted(SCOPES), help="droits ; tous ceux d'avant sont remplacés"
        )
        parser.add_argument("--per-minute", type=int, default=None, help="appels par minute et par processus (600)")
        parser.add_argument("--revoke", action="store_true", help="révoque les clés d'avant")
        parser.add_argument("--no-key", action="store_true", help="n'émet pas de clé")

    @transaction.atomic
    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        name = options["name"].strip()
        if not 1 <= len(name) <= 40:  # noqa: PLR2004 - the column's length
            raise CommandError("Le nom compte entre 1 et 40 caractères.")
        partner = Partner.objects.using("default").filter(name=name).first()
        if partner is None:
            if not options["scopes"]:
                raise CommandError("Un partenaire neuf a besoin de --scopes.")
            agent = get_user_model()(username=f"api:{name}"[:150], last_name=name)
            agent.set_unusable_password()
            agent.save()
            partner = Partner(name=name, agent=agent)
        if options["scopes"]:
            partner.scopes = sorted(set(options["scopes"]))
        if options["per_minute"] is not None:
            partner.per_minute = options["per_minute"]
        partner.save()
        if options["revoke"]:
            count = partner.keys.filter(revoked_at=None).update(revoked_at=timezone.now())
            self.stderr.write(f"{count} clés révoquées")
        self.stderr.write(f"{partner} : {' '.join(partner.scopes)}")
        if not options["no_key"]:
            self.stdout.write(Key.issue(partner))
