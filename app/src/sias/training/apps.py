"""Application configuration."""

from django.apps import AppConfig


class TrainingConfig(AppConfig):
    """Registers the module."""

    name = "sias.training"
    label = "training"
