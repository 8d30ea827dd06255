"""One small record per case of a module."""

from django.conf import settings
from django.db import models

from sias.repertoire.models import Person


class Involvement(models.Model):
    """A domain follows a person: domain, status, service, referent, dates. The case itself stays in its module."""

    person_path = "person"  # whose territory decides who may read it

    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="involvements", db_index=False)
    domain = models.CharField("domaine", max_length=30)
    reference = models.CharField("référence du dossier", max_length=64)
    status = models.CharField("situation", max_length=80)
    service = models.CharField("service", max_length=150, blank=True)
    referent = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name="référent"
    )
    since = models.DateField("depuis le")
    until = models.DateField("jusqu'au", null=True)
    updated_at = models.DateTimeField("mis à jour le", auto_now=True)

    class Meta:
        """Options."""

        verbose_name = "suivi"
        ordering = ("-since", "domain", "id")
        constraints = (
            models.UniqueConstraint(fields=["domain", "reference"], name="involvement_case"),
            models.CheckConstraint(
                condition=models.Q(until__isnull=True) | models.Q(until__gte=models.F("since")),
                name="involvement_dates",
            ),
        )
        indexes = (models.Index(fields=["person", "-since"], name="involvement_person"),)

    def __str__(self) -> str:
        return f"{self.domain} {self.reference}"


class Signpost(models.Model):
    """What others than a protected domain learn of it: somebody follows this person, and which service to call.

    The record itself is hidden by the database from whoever may not read its domain; this row names neither.
    """

    person_path = "person"

    involvement = models.OneToOneField(Involvement, on_delete=models.CASCADE, related_name="+", primary_key=True)
    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="+")
    service = models.CharField("service", max_length=150, blank=True)

    class Meta:
        """Options."""

        verbose_name = "suivi protégé"

    def __str__(self) -> str:
        return f"suivi protégé, {self.service}"
