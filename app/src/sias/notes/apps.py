"""Application configuration."""

from django.apps import AppConfig


class NotesConfig(AppConfig):
    """Registers the module."""

    name = "sias.notes"
    label = "notes"

    def ready(self) -> None:
        """Register tab, head, panel, relations and duty of this module."""
        from sias.notes import duties, panels, relations  # noqa: F401, PLC0415 - models are ready now
