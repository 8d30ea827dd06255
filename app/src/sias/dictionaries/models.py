"""Imports: what a file said, row by row, and what became of it."""

from django.conf import settings
from django.db import models


class Import(models.Model):
    """A file that was staged; it changes the dictionary once somebody has looked at it."""

    class State(models.TextChoices):
        """Where it stands."""

        STAGED = "apercu", "À vérifier"
        APPLIED = "applique", "Appliqué"
        ABANDONED = "abandonne", "Abandonné"

    dictionary = models.CharField("dictionnaire", max_length=20)
    name = models.CharField("fichier", max_length=200)
    sha256 = models.CharField(max_length=64)
    headers = models.JSONField(default=list)
    since = models.DateField("applicable à partir du")
    complete = models.BooleanField("liste complète", default=False)
    state = models.CharField("état", max_length=10, choices=State.choices, default=State.STAGED)
    staged_at = models.DateTimeField("déposé le", auto_now_add=True)
    staged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", verbose_name="déposé par"
    )
    decided_at = models.DateTimeField(null=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", verbose_name="décidé par"
    )

    class Meta:
        """Options."""

        verbose_name = "import de dictionnaire"
        ordering = ("-staged_at", "-id")

    def __str__(self) -> str:
        return f"Import {self.name}"


class ImportRow(models.Model):
    """A line of the file, what it would do, and why not."""

    class Verdict(models.TextChoices):
        """What the line does to the dictionary."""

        NEW = "nouvelle", "Nouvelle"
        CHANGED = "modifiee", "Modifiée"
        SAME = "inchangee", "Inchangée"
        ENDED = "fermee", "Fermée"
        REJECTED = "rejetee", "Rejetée"

    batch = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="rows")
    line = models.PositiveIntegerField("ligne")  # of the file; 0: an entry that a complete list no longer names
    given = models.JSONField("reçu")  # header -> text
    verdict = models.CharField("sort", max_length=10, choices=Verdict.choices)
    reason = models.CharField("motif", max_length=300, blank=True)
    differences = models.JSONField("différences", default=list)  # [label, before, after]

    class Meta:
        """Options."""

        ordering = ("line", "id")
        indexes = (models.Index(fields=["batch", "verdict", "line"], name="import_rows"),)

    def __str__(self) -> str:
        return f"ligne {self.line}"
