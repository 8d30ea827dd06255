"""Application configuration."""

from django.apps import AppConfig


class EndpointsConfig(AppConfig):
    """Registers the module."""

    name = "sias.endpoints"
    label = "endpoints"
