"""Application configuration."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class EvaluationsConfig(AppConfig):
    """Registers the module."""

    name = "sias.evaluations"
    label = "evaluations"
    sias_revokes = ("REVOKE INSERT, UPDATE, DELETE ON evaluations_questionnaire FROM {role}",)

    def ready(self) -> None:
        """Register tabs and relations; publish the questionnaires of this release after each migration."""
        from sias.evaluations import questionnaires, relations, views  # noqa: F401, PLC0415 - models are ready now

        post_migrate.connect(questionnaires.publish, sender=self, dispatch_uid="sias-questionnaires")
