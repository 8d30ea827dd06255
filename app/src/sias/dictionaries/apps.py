"""Application configuration."""

from django.apps import AppConfig


class DictionariesConfig(AppConfig):
    """Registers the module."""

    name = "sias.dictionaries"
    label = "dictionaries"

    def ready(self) -> None:
        """Register the entry of the navigation."""
        from sias.habilitations import menu  # noqa: PLC0415 - models are ready now

        menu.register("Dictionnaires", "dictionaries:index", ("socle", "lire"), order=55)
