"""Contacts, appointments, referrals."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from sias.repertoire.models import Person
from sias.tasks.models import Task


class Contact(models.Model):
    """Someone came, called or wrote."""

    person_path = "person"

    class Channel(models.TextChoices):
        """How."""

        DESK = "accueil", "À l'accueil"
        PHONE = "telephone", "Téléphone"
        EMAIL = "courriel", "Courriel"
        LETTER = "courrier", "Courrier"
        HOME = "domicile", "Visite à domicile"

    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="contacts", db_index=False)
    channel = models.CharField("canal", max_length=10, choices=Channel.choices)
    subject = models.CharField("objet", max_length=100)
    summary = models.CharField("suite donnée", max_length=1000, blank=True)
    service = models.CharField("service", max_length=100, blank=True)
    at = models.DateTimeField("le", auto_now_add=True)
    agent = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        """Options."""

        verbose_name = "contact"
        ordering = ("-at", "-id")
        indexes = (
            models.Index(fields=["person", "-at"], name="contact_person"),
            models.Index(fields=["service", "-at"], name="contact_service"),
        )

    def __str__(self) -> str:
        return self.subject


class Appointment(models.Model):
    """A person and an agent meet. The database refuses two at once for one agent (see the second migration)."""

    person_path = "person"
    owner_path = "agent"

    class State(models.TextChoices):
        """What became of it."""

        PLANNED = "prevu", "Prévu"
        KEPT = "honore", "Honoré"
        MISSED = "absent", "Personne absente"
        CANCELLED = "annule", "Annulé"

    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="appointments", db_index=False)
    agent = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="appointments")
    service = models.CharField("service", max_length=100, blank=True)
    starts_at = models.DateTimeField("début")
    ends_at = models.DateTimeField("fin")
    place = models.CharField("lieu", max_length=100, blank=True)
    subject = models.CharField("objet", max_length=100)
    state = models.CharField("état", max_length=8, choices=State.choices, default=State.PLANNED)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        """Options."""

        verbose_name = "rendez-vous"
        ordering = ("starts_at", "id")
        constraints = (models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="appointment_times"),)
        indexes = (
            models.Index(fields=["person", "-starts_at"], name="appointment_person"),
            models.Index(fields=["service", "starts_at"], name="appointment_service"),
        )

    def __str__(self) -> str:
        return self.subject


class Referral(models.Model):
    """A person is sent to another service, which accepts or refuses."""

    person_path = "person"

    class State(models.TextChoices):
        """Where it stands."""

        SENT = "envoyee", "Envoyée"
        ACCEPTED = "acceptee", "Acceptée"
        REFUSED = "refusee", "Refusée"

    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="referrals", db_index=False)
    from_service = models.CharField("de", max_length=100, blank=True)
    to_service = models.CharField("vers", max_length=100)
    reason = models.CharField("motif", max_length=500)
    urgent = models.BooleanField("urgente", default=False)
    state = models.CharField("état", max_length=8, choices=State.choices, default=State.SENT)
    answer = models.CharField("réponse", max_length=500, blank=True)
    task = models.OneToOneField(Task, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    answered_at = models.DateTimeField(null=True)
    answered_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        """Options."""

        verbose_name = "orientation"
        ordering = ("-created_at", "-id")
        indexes = (models.Index(fields=["person", "-created_at"], name="referral_person"),)

    def __str__(self) -> str:
        return f"vers {self.to_service}"
