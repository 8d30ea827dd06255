"""Application configuration."""

from django.apps import AppConfig


class DocumentsConfig(AppConfig):
    """Registers the module."""

    name = "sias.documents"
    label = "documents"

    def ready(self) -> None:
        """Register the duties, the panel and the relations of this module."""
        from sias.documents import duties, panels, relations  # noqa: F401, PLC0415 - models are ready now
