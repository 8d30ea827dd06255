"""Application configuration."""

from django.apps import AppConfig


class RepertoireConfig(AppConfig):
    """Registers the module."""

    name = "sias.repertoire"
    label = "repertoire"

    def ready(self) -> None:
        """Register the duties of this module."""
        from sias.repertoire import duties  # noqa: F401, PLC0415 - models are ready now
