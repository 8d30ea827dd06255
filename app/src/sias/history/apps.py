"""Application configuration."""

from django.apps import AppConfig


class HistoryConfig(AppConfig):
    """Registers the module."""

    name = "sias.history"
    label = "history"
    # Written by the trigger alone, which acts as the owner (see sias.platform.grants).
    sias_revokes = ("REVOKE INSERT, UPDATE, DELETE ON history_change FROM {role}",)
