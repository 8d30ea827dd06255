"""Requests of persons about their data, and restrictions in force."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from sias.repertoire.models import Person
from sias.tasks.models import Task


class RightsRequest(models.Model):
    """A person uses a right; the Département has a month to answer (RGPD, article 12)."""

    person_path = "person"

    class Kind(models.TextChoices):
        """Which right (RGPD, articles 15, 16, 18, 21)."""

        ACCESS = "acces", "Accès : une copie de ses données"
        RECTIFICATION = "rectification", "Rectification"
        LIMITATION = "limitation", "Limitation du traitement"
        OBJECTION = "opposition", "Opposition"

    class State(models.TextChoices):
        """Where it stands."""

        OPEN = "ouverte", "À traiter"
        GRANTED = "acceptee", "Acceptée"
        REFUSED = "refusee", "Refusée"

    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="rights_requests")
    kind = models.CharField("droit", max_length=13, choices=Kind.choices)
    detail = models.CharField("demande", max_length=1000, blank=True)
    channel = models.CharField("reçue par", max_length=50, blank=True)
    received_on = models.DateField("reçue le")
    due = models.DateField("réponse due le")
    state = models.CharField("état", max_length=8, choices=State.choices, default=State.OPEN)
    answer = models.CharField("réponse", max_length=1000, blank=True)
    closed_at = models.DateTimeField("répondue le", null=True)
    closed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    task = models.OneToOneField(Task, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    version = models.PositiveIntegerField(default=1)

    class Meta:
        """Options."""

        verbose_name = "demande RGPD"
        ordering = ("state", "due", "id")

    def __str__(self) -> str:
        return f"{self.get_kind_display()} du {self.received_on:%d/%m/%Y}"

    def get_absolute_url(self) -> str:
        """Page of the request."""
        return reverse("privacy:show", args=[self.pk])


class Restriction(models.Model):
    """What may not be done with a person's data for some time: limited, objected to, or kept for a dispute."""

    person_path = "person"

    class Kind(models.TextChoices):
        """Why."""

        LIMITATION = "limitation", "Traitement limité"
        OBJECTION = "opposition", "Opposition"
        HOLD = "litige", "Conservation pour litige"

    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="restrictions")
    kind = models.CharField("nature", max_length=10, choices=Kind.choices)
    reason = models.CharField("motif", max_length=500)
    since = models.DateField("depuis le", default=timezone.localdate)
    until = models.DateField("jusqu'au", null=True)
    request = models.OneToOneField(RightsRequest, on_delete=models.SET_NULL, null=True, related_name="restriction")
    set_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        """Options."""

        verbose_name = "restriction"
        constraints = (
            models.CheckConstraint(
                condition=Q(until__isnull=True) | Q(until__gte=F("since")), name="restriction_dates"
            ),
        )

    def __str__(self) -> str:
        return self.get_kind_display()
