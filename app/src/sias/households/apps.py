"""Application configuration."""

from django.apps import AppConfig


class HouseholdsConfig(AppConfig):
    """Registers the module."""

    name = "sias.households"
    label = "households"

    def ready(self) -> None:
        """Register the tabs and relations of this module."""
        from sias.households import relations, views  # noqa: F401, PLC0415 - models are ready now
