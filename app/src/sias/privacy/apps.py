"""Application configuration."""

from django.apps import AppConfig


class PrivacyConfig(AppConfig):
    """Registers the module."""

    name = "sias.privacy"
    label = "privacy"

    def ready(self) -> None:
        """Register the panel, the guard, the relations and the kind of task of this module."""
        from sias.habilitations import menu, rights  # noqa: PLC0415 - models are ready now
        from sias.habilitations.views import SENTENCES  # noqa: PLC0415
        from sias.privacy import panels, services  # noqa: F401, PLC0415
        from sias.repertoire import relations  # noqa: PLC0415
        from sias.tasks.services import register  # noqa: PLC0415

        rights.GUARDS.append(services.limited)
        SENTENCES["limitation"] = (
            "Le traitement des données de cette personne est limité à sa demande (RGPD, article 18) : sa fiche se consulte "
            "et ne se modifie pas. Le délégué à la protection des données peut lever la limitation."
        )
        menu.register("RGPD", "privacy:index", ("rgpd", "lire"), order=40)
        relations.register("privacy.RightsRequest", "person", words="demandes RGPD")
        relations.register("privacy.Restriction", "person", words="restrictions RGPD")
        register("rgpd", "Demande d'exercice de droits", days=30)
