"""Application configuration."""

from django.apps import AppConfig


class JournalConfig(AppConfig):
    """Registers the module, and what the application's role may not do to the log."""

    name = "sias.journal"
    label = "journal"
    sias_revokes = (
        "REVOKE UPDATE, DELETE ON journal_entry FROM {role}",
        "REVOKE ALL ON journal_head, journal_policy FROM {role}",
        "REVOKE UPDATE, DELETE ON journal_anchor FROM {role}",
        # Rights on a partition would go round the policies of the whole: the table is reached by its own name only.
        "SELECT public.journal_close_partitions()",
    )

    def ready(self) -> None:
        """Register the duties and the signals."""
        from sias.journal import duties, signals  # noqa: F401, PLC0415 - models are ready now
