"""The one note."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from sias.repertoire.models import Household, Person


class NoteQuerySet(models.QuerySet):
    """Notes, as far as someone may read them."""

    def readable_by(self, agent: object) -> "NoteQuerySet":
        """Return the shared ones, those of the agent's service, and the agent's own."""
        mine = Q(visibility=Note.Visibility.SHARED) | Q(author=agent)
        if agent.service:
            mine |= Q(visibility=Note.Visibility.SERVICE, service=agent.service)
        return self.filter(mine)


class Note(models.Model):
    """A note, an alert, an interview or a social report, about a household or one of its persons."""

    class Kind(models.TextChoices):
        """What it is."""

        NOTE = "note", "Note"
        ALERT = "alerte", "Alerte"
        INTERVIEW = "entretien", "Entretien"
        REPORT = "rapport", "Rapport social"

    class Visibility(models.TextChoices):
        """Who may read it."""

        SHARED = "partagee", "Partagée : qui peut lire la fiche"
        SERVICE = "service", "Mon service seulement"
        PRIVATE = "personnelle", "Moi seulement"

    person_path = "person"
    owner_path = "author"

    household = models.ForeignKey(Household, on_delete=models.PROTECT, related_name="notes", verbose_name="ménage")
    person = models.ForeignKey(
        Person, on_delete=models.PROTECT, null=True, related_name="notes", verbose_name="personne concernée"
    )
    kind = models.CharField("type", max_length=10, choices=Kind.choices)
    visibility = models.CharField("visibilité", max_length=12, choices=Visibility.choices)
    service = models.CharField("service", max_length=100, blank=True)
    happened_on = models.DateField("date")
    body = models.TextField("texte")
    pinned_until = models.DateField("épinglée jusqu'au", null=True)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name="auteur"
    )
    created_at = models.DateTimeField("écrite le", db_default=Now())
    version = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField("modifiée le", auto_now=True)
    updated_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name="modifiée par"
    )
    withdrawn_at = models.DateTimeField("retirée le", null=True)
    withdrawn_reason = models.CharField("motif du retrait", max_length=200, blank=True)

    objects = NoteQuerySet.as_manager()

    class Meta:
        """Options."""

        verbose_name = "note"
        ordering = ("-happened_on", "-id")

    def __str__(self) -> str:
        return f"{self.get_kind_display()} du {self.happened_on:%d/%m/%Y}"

    def get_absolute_url(self) -> str:
        """The note in its household's file."""
        return f"{reverse('households:tab', args=[self.household_id, 'notes'])}#note-{self.pk}"

    @property
    def pinned(self) -> bool:
        """Whether it stands above the file today."""
        return self.withdrawn_at is None and self.pinned_until is not None and self.pinned_until >= timezone.localdate()


class Draft(models.Model):
    """What somebody is typing and has not saved: theirs alone, kept for some days (see duties)."""

    household = models.ForeignKey(Household, on_delete=models.CASCADE, related_name="+")
    note = models.ForeignKey(Note, on_delete=models.CASCADE, null=True, related_name="+")  # None: a note to be
    agent = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    values = models.JSONField("saisie")
    saved_at = models.DateTimeField("gardée le", auto_now=True)

    class Meta:
        """Options."""

        verbose_name = "brouillon de note"
        indexes = (models.Index(fields=["agent", "household", "-saved_at"], name="draft_of_agent"),)

    def __str__(self) -> str:
        return f"brouillon de {self.agent}"
