"""`sias-manage create_accounts`: the accounts of an environment, from its credential files."""

import json

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from sias.habilitations.services import install
from sias.habilitations.table import table
from sias.platform.credentials import credential

ACCOUNTS = (
    ("demo", "demo_password", {"first_name": "Camille", "last_name": "Démonstration", "service": "UTAS de Metz"}, "TS"),
    ("sonde", "probe_password", {"first_name": "Sonde", "last_name": "technique", "service": "Exploitation"}, "SO"),
)


def per_profile() -> list[tuple[str, str, dict, str]]:
    """Return an account per profile, named `demo-<code>`, for whoever wants to see what each one sees."""
    return [
        (
            f"demo-{code.lower()}",
            "demo_password",
            {
                "first_name": "Démo",
                "last_name": profile.name,
                "service": profile.name if profile.family == "Département" else profile.family,
            },
            code,
        )
        for code, profile in table().profiles.items()
    ]


class Command(BaseCommand):
    """Create or correct `demo`, `sonde` and an account per profile; says `changed` or `unchanged` for each."""

    help = "Crée ou corrige les comptes demo, sonde et demo-<profil> ; mots de passe : demo_password, probe_password."

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments."""
        parser.add_argument("--json", action="store_true", help="une ligne JSON, pour un programme")

    def handle(self, *_args: object, **options: object) -> None:
        """Do it."""
        report = {
            name: self.ensure(name, credential(secret), facts, profile)
            for name, secret, facts, profile in (*ACCOUNTS, *per_profile())
        }
        changed = any(state != "unchanged" for state in report.values())
        if options["json"]:
            self.stdout.write(json.dumps({"changed": changed, "accounts": report}))
        else:
            for name, state in report.items():
                self.stdout.write(f"{name}: {state}")

    @transaction.atomic
    def ensure(self, name: str, password: str, facts: dict, profile: str) -> str:
        """Return `created`, `changed` or `unchanged`."""
        model = get_user_model()
        agent = model.objects.using("default").select_for_update().filter(username=name).first()
        if agent is None:
            install(model.objects.create_user(name, password=password, **facts), profile)
            return "created"
        habilitated = install(agent, profile)
        wanted = {**facts, "is_active": True}
        stale = {field: value for field, value in wanted.items() if getattr(agent, field) != value}
        if not stale and agent.check_password(password):
            return "changed" if habilitated else "unchanged"
        for field, value in stale.items():
            setattr(agent, field, value)
        agent.set_password(password)
        agent.save()
        return "changed"
