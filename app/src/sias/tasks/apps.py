"""Application configuration."""

from django.apps import AppConfig


class TasksConfig(AppConfig):
    """Registers the module."""

    name = "sias.tasks"
    label = "tasks"

    def ready(self) -> None:
        """Register duties, the panel and relations of this module."""
        from sias.habilitations import menu  # noqa: PLC0415 - models are ready now
        from sias.tasks import duties, panels, relations  # noqa: F401, PLC0415
        from sias.tasks.services import register  # noqa: PLC0415

        menu.register("Tâches", "tasks:inbox", ("tache", "lire"), order=10)
        register("remplacant", "Remplaçant à désigner", days=0)
