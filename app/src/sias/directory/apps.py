"""Application configuration."""

from django.apps import AppConfig


class DirectoryConfig(AppConfig):
    """Registers the module."""

    name = "sias.directory"
    label = "directory"

    def ready(self) -> None:
        """Register the entry of the navigation, the duty and the other way in."""
        from django.conf import settings  # noqa: PLC0415 - models are ready now

        from sias.accounts import ways  # noqa: PLC0415
        from sias.directory import duties, oidc  # noqa: F401, PLC0415
        from sias.habilitations import menu  # noqa: PLC0415

        menu.register("Annuaire", "directory:index", ("annuaire", "lire"), order=57)
        ways.register(settings.OIDC_LABEL, "directory:oidc", oidc.enabled)
