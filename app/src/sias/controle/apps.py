"""Application configuration."""

from django.apps import AppConfig

OFFICER = "Délégué à la protection des données"  # the service that tasks of control go to


class ControleConfig(AppConfig):
    """Registers the module."""

    name = "sias.controle"
    label = "controle"

    def ready(self) -> None:
        """Register the entries of the navigation and the panel, and hear of exceptional accesses."""
        from sias.controle import confidential, notices  # noqa: F401, PLC0415 - models are ready now
        from sias.habilitations import menu  # noqa: PLC0415
        from sias.tasks.services import register  # noqa: PLC0415

        menu.register("Habilitations", "controle:assignments", ("habilitation", "lire"), order=60)
        menu.register("Accès exceptionnels", "controle:exceptional", ("acces_exceptionnel", "examiner"), order=61)
        menu.register("Journal", "controle:log", ("journal", "lire"), order=62)
        register("acces-exceptionnel", "Accès exceptionnel à examiner", days=7)
