"""Application configuration."""

from django.apps import AppConfig


class CrossdomainConfig(AppConfig):
    """Registers the module."""

    name = "sias.crossdomain"
    label = "crossdomain"

    def ready(self) -> None:
        """Register the panel and relations of this module."""
        from sias.crossdomain import panels, relations  # noqa: F401, PLC0415 - models are ready now
