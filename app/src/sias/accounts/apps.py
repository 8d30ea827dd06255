"""Application configuration."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Registers the module."""

    name = "sias.accounts"
    label = "accounts"

    def ready(self) -> None:
        """Register the duty of this module."""
        from sias.accounts import postings  # noqa: F401, PLC0415 - models are ready now
