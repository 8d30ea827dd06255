"""Application configuration."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Registers the module."""

    name = "sias.accounts"
    label = "accounts"
