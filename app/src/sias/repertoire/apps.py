"""Application configuration."""

from django.apps import AppConfig


class RepertoireConfig(AppConfig):
    """Registers the module."""

    name = "sias.repertoire"
    label = "repertoire"

    def ready(self) -> None:
        """Register the duties and the entry of the navigation."""
        from sias.habilitations import menu  # noqa: PLC0415 - models are ready now
        from sias.repertoire import duties, protection  # noqa: F401, PLC0415

        menu.register("Nouvelle personne", "repertoire:create", ("repertoire", "creer"), order=20)
