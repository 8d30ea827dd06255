"""Application configuration."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """Registers the module."""

    name = "sias.api"
    label = "api"

    def ready(self) -> None:
        """Register the duties of this module and the resources of the core."""
        from sias.api import duties, resources  # noqa: F401, PLC0415 - models are ready now
