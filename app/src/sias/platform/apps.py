"""Application configuration."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class PlatformConfig(AppConfig):
    """Grants the application's role its rights after each migration."""

    name = "sias.platform"
    label = "platform"

    def ready(self) -> None:
        """Connect the signal."""
        from sias.platform.grants import grant_application_role  # noqa: PLC0415 - models are ready now

        post_migrate.connect(grant_application_role, sender=self, dispatch_uid="sias-grants")
