"""Application configuration."""

from django.apps import AppConfig


class ReceptionConfig(AppConfig):
    """Registers the module."""

    name = "sias.reception"
    label = "reception"

    def ready(self) -> None:
        """Register panel, sources of the timeline, relations and the kind of task of this module."""
        from sias.habilitations import menu  # noqa: PLC0415 - models are ready now
        from sias.reception import panels, relations, sources  # noqa: F401, PLC0415
        from sias.tasks.services import register  # noqa: PLC0415

        menu.register("Accueil", "reception:desk", ("accueil", "lire"), order=15)
        register("orientation", "Orientation à examiner", days=15)
