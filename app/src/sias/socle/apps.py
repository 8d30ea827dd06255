"""Application configuration."""

from django.apps import AppConfig


class SocleConfig(AppConfig):
    """Registers the module."""

    name = "sias.socle"
    label = "socle"
