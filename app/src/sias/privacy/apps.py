"""Application configuration."""

from django.apps import AppConfig


class PrivacyConfig(AppConfig):
    """Registers the module."""

    name = "sias.privacy"
    label = "privacy"

    def ready(self) -> None:
        """Register the panel, the relations and the kind of task of this module."""
        from sias.habilitations import menu  # noqa: PLC0415 - models are ready now
        from sias.privacy import panels  # noqa: F401, PLC0415
        from sias.repertoire import relations  # noqa: PLC0415
        from sias.tasks.services import register  # noqa: PLC0415

        menu.register("RGPD", "privacy:index", ("rgpd", "lire"), order=40)
        relations.register("privacy.RightsRequest", "person", words="demandes RGPD")
        relations.register("privacy.Restriction", "person", words="restrictions RGPD")
        register("rgpd", "Demande d'exercice de droits", days=30)
