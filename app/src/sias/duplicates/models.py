"""Pairs that may be one, what was decided about them, and merges with what undoes them."""

from django.conf import settings
from django.db import models
from django.db.models import F
from django.db.models.functions import Now

from sias.repertoire.models import Household, Person


class Kind(models.TextChoices):
    """Of what."""

    PERSON = "P", "Personnes"
    HOUSEHOLD = "M", "Ménages"

    @property
    def model(self) -> type[models.Model]:
        """The model that is merged."""
        return Person if self is Kind.PERSON else Household


class Candidate(models.Model):
    """Two files that may be one. No foreign keys: a decision outlives the files it speaks of."""

    class State(models.TextChoices):
        """What became of it."""

        OPEN = "ouvert", "À examiner"
        DISMISSED = "ecarte", "Pas un doublon"
        MERGED = "fusionne", "Fusionné"
        GONE = "sans objet", "Sans objet"  # one of the two was merged with a third

    kind = models.CharField("nature", max_length=1, choices=Kind.choices)
    left = models.BigIntegerField("première fiche")
    right = models.BigIntegerField("seconde fiche")
    score = models.PositiveSmallIntegerField("score")
    reasons = models.JSONField("raisons")
    state = models.CharField("état", max_length=10, choices=State.choices, default=State.OPEN)
    found_at = models.DateTimeField("trouvé le", db_default=Now())
    decided_at = models.DateTimeField("décidé le", null=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name="décidé par"
    )
    decision = models.CharField("motif", max_length=300, blank=True)

    class Meta:
        """Options."""

        verbose_name = "doublon possible"
        constraints = (
            models.UniqueConstraint(fields=["kind", "left", "right"], name="candidate_pair"),
            models.CheckConstraint(condition=models.Q(left__lt=F("right")), name="candidate_order"),
        )
        indexes = (
            models.Index(fields=["kind", "-score", "id"], name="candidate_queue", condition=models.Q(state="ouvert")),
            models.Index(fields=["right"], name="candidate_right"),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.left} et {self.right}"


class Merge(models.Model):
    """A file that was merged into another."""

    kind = models.CharField("nature", max_length=1, choices=Kind.choices)
    survivor = models.BigIntegerField("fiche gardée")
    absorbed = models.BigIntegerField("fiche absorbée")
    absorbed_label = models.CharField("nom de la fiche absorbée", max_length=200)
    absorbed_number = models.CharField("numéro de la fiche absorbée", max_length=10)
    reason = models.CharField("motif", max_length=300, blank=True)
    undo = models.JSONField("de quoi séparer")
    made_at = models.DateTimeField("fait le", db_default=Now())
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name="fait par"
    )
    undone_at = models.DateTimeField("annulé le", null=True)
    undone_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name="annulé par"
    )

    class Meta:
        """Options."""

        verbose_name = "fusion"
        ordering = ("-id",)
        indexes = (
            models.Index(fields=["kind", "absorbed"], name="merge_absorbed"),
            models.Index(fields=["kind", "survivor"], name="merge_survivor"),
            models.Index(fields=["absorbed_number"], name="merge_absorbed_number"),
        )

    def __str__(self) -> str:
        return f"{self.absorbed_label} ({self.absorbed_number})"
