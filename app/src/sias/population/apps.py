"""Application configuration."""

from django.apps import AppConfig


class PopulationConfig(AppConfig):
    """Registers the module."""

    name = "sias.population"
    label = "population"
