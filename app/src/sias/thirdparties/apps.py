"""Application configuration."""

from django.apps import AppConfig


class ThirdpartiesConfig(AppConfig):
    """Registers the module."""

    name = "sias.thirdparties"
    label = "thirdparties"

    def ready(self) -> None:
        """Register the relations, the resources of the API and the kind of task of this module."""
        from sias.habilitations import menu  # noqa: PLC0415 - models are ready now
        from sias.repertoire import relations  # noqa: PLC0415
        from sias.tasks.services import register  # noqa: PLC0415
        from sias.thirdparties import resources  # noqa: F401, PLC0415

        menu.register("Tiers", "thirdparties:index", ("tiers", "lire"), order=30)
        relations.register("thirdparties.ThirdParty", "person", words="tiers")
        register("tiers-a-valider", "Tiers à valider", days=5)
