"""Application configuration."""

from django.apps import AppConfig


class HabilitationsConfig(AppConfig):
    """Registers the module."""

    name = "sias.habilitations"
    label = "habilitations"
