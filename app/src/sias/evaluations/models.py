"""Questionnaires as they were published, evaluations, and one row per answer."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

from sias.repertoire.models import Household


class Questionnaire(models.Model):
    """A version of a questionnaire. Published, it never changes: answers keep the meaning they were given with."""

    code = models.CharField("code", max_length=40)
    version = models.PositiveSmallIntegerField("version")
    title = models.CharField("titre", max_length=120)
    definition = models.JSONField("définition")
    digest = models.CharField(max_length=64)
    published_at = models.DateTimeField("publié le", db_default=Now())

    class Meta:
        """Options."""

        verbose_name = "questionnaire"
        ordering = ("code", "-version")
        constraints = (models.UniqueConstraint(fields=["code", "version"], name="questionnaire_version"),)

    def __str__(self) -> str:
        return f"{self.title} v{self.version}"


class Evaluation(models.Model):
    """Answers of a household to one version of a questionnaire. The situation is one that is never closed."""

    household = models.ForeignKey(
        Household, on_delete=models.PROTECT, related_name="evaluations", verbose_name="ménage"
    )
    questionnaire = models.ForeignKey(
        Questionnaire, on_delete=models.PROTECT, related_name="+", verbose_name="questionnaire"
    )
    living = models.BooleanField("situation du ménage", default=False)
    started_at = models.DateTimeField("commencée le", db_default=Now())
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name="commencée par"
    )
    closed_at = models.DateTimeField("close le", null=True)
    closed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name="close par"
    )

    class Meta:
        """Options."""

        verbose_name = "évaluation"
        ordering = ("-started_at", "-id")
        constraints = (
            models.UniqueConstraint(
                fields=["household"], name="evaluation_one_situation", condition=models.Q(living=True)
            ),
        )

    def __str__(self) -> str:
        return f"{self.questionnaire.title} du {self.started_at:%d/%m/%Y}"

    def get_absolute_url(self) -> str:
        """Page of the evaluation."""
        return reverse("evaluations:evaluation", args=[self.pk])


class Answer(models.Model):
    """The answer to one question: saved, locked and told in history by itself."""

    evaluation = models.ForeignKey(
        Evaluation, on_delete=models.CASCADE, related_name="answers", verbose_name="évaluation"
    )
    # Again, so that history finds the answers of a household without a join.
    household = models.ForeignKey(Household, on_delete=models.PROTECT, related_name="+", verbose_name="ménage")
    question = models.CharField("question", max_length=60)
    value = models.JSONField("réponse")
    updated_at = models.DateTimeField("modifiée le", auto_now=True)
    updated_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name="modifiée par"
    )

    class Meta:
        """Options."""

        verbose_name = "réponse"
        constraints = (models.UniqueConstraint(fields=["evaluation", "question"], name="answer_unique"),)

    def __str__(self) -> str:
        return self.question
