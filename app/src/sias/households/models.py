"""What is kept about a household beside its members."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from sias.repertoire.models import Household, Person


class ExternalKey(models.Model):
    """The key under which another system knows a household (clé famille DELTA).

    It belongs to the household that holds it now: a merge moves it, and never leaves a key that leads nowhere or twice.
    """

    household = models.ForeignKey(
        Household, on_delete=models.PROTECT, related_name="external_keys", verbose_name="ménage"
    )
    system = models.CharField("système", max_length=20)
    key = models.CharField("clé", max_length=60)
    created_at = models.DateTimeField("enregistrée le", db_default=Now())

    class Meta:
        """Options."""

        verbose_name = "clé externe"
        ordering = ("system", "key")
        constraints = (models.UniqueConstraint(fields=["system", "key"], name="external_key_unique"),)

    def __str__(self) -> str:
        return f"{self.system} {self.key}"


class Move(models.Model):
    """Persons who left a household for another, on a day, for a reason; and what is needed to undo it."""

    class Reason(models.TextChoices):
        """Why."""

        SEPARATION = "separation", "Séparation"
        UNION = "union", "Mise en couple ou mariage"
        MAJORITY = "autonomie", "Prise d'autonomie"
        CUSTODY = "garde", "Changement de garde d'un enfant"
        HOUSING = "hebergement", "Hébergement chez un tiers ou fin d'hébergement"
        MISTAKE = "erreur", "Composition mal saisie"
        OTHER = "autre", "Autre (à préciser)"

    source = models.ForeignKey(
        Household, on_delete=models.PROTECT, related_name="departures", verbose_name="ménage quitté"
    )
    target = models.ForeignKey(
        Household, on_delete=models.PROTECT, related_name="arrivals", verbose_name="ménage rejoint"
    )
    effective_on = models.DateField("date d'effet")
    reason = models.CharField("motif", max_length=20, choices=Reason.choices)
    comment = models.CharField("précision", max_length=300, blank=True)
    persons = models.ManyToManyField(Person, related_name="moves", verbose_name="personnes")
    made_at = models.DateTimeField("fait le", db_default=Now())
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name="fait par"
    )
    undo = models.JSONField("de quoi annuler")
    undone_at = models.DateTimeField("annulé le", null=True)
    undone_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name="annulé par"
    )

    class Meta:
        """Options."""

        verbose_name = "changement de ménage"
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"De {self.source} à {self.target}"
