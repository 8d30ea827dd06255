"""`sias-manage create_accounts`: the accounts of an environment, from its credential files."""

import json

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from sias.platform.credentials import credential

ACCOUNTS = (
    ("demo", "demo_password", {"first_name": "Camille", "last_name": "Démonstration", "service": "UTAS de Metz"}),
    ("sonde", "probe_password", {"first_name": "Sonde", "last_name": "technique", "service": "Exploitation"}),
)


class Command(BaseCommand):
    """Create or correct the accounts `demo` and `sonde`; says `changed` or `unchanged` for each."""

    help = "Crée ou corrige les comptes demo et sonde ; mots de passe dans les fichiers demo_password, probe_password."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--json", action="store_true", help="une ligne JSON, pour un programme")

    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        report = {name: self.ensure(name, credential(secret), facts) for name, secret, facts in ACCOUNTS}
        changed = any(state != "unchanged" for state in report.values())
        if options["json"]:
            self.stdout.write(json.dumps({"changed": changed, "accounts": report}))
        else:
            for name, state in report.items():
                self.stdout.write(f"{name}: {state}")

    @transaction.atomic
    def ensure(self, name: str, password: str, facts: dict) -> str:
        """Return `created`, `changed` or `unchanged`."""
        model = get_user_model()
        agent = model.objects.using("default").select_for_update().filter(username=name).first()
        if agent is None:
            model.objects.create_user(name, password=password, **facts)
            return "created"
        wanted = {**facts, "is_active": True}
        stale = {field: value for field, value in wanted.items() if getattr(agent, field) != value}
        if not stale and agent.check_password(password):
            return "unchanged"
        for field, value in stale.items():
            setattr(agent, field, value)
        agent.set_password(password)
        agent.save()
        return "changed"
