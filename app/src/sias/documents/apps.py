"""Application configuration."""

from django.apps import AppConfig


class DocumentsConfig(AppConfig):
    """Registers the module."""

    name = "sias.documents"
    label = "documents"

    def ready(self) -> None:
        """Register the duties and the panel of this module."""
        from sias.documents import duties, panels  # noqa: F401, PLC0415 - models are ready now
