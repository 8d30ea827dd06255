"""Who holds which profile where and when; which persons are confidential; exceptional accesses."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

LONGEST = timedelta(days=366)  # an assignment ends after a year unless a review prolongs it
REVIEW_EVERY = timedelta(days=183)
BREAK_GLASS_LASTS = timedelta(hours=8)
REASON_LEAST = 15  # characters of a reason that says something


class Assignment(models.Model):
    """A profile that an agent holds, somewhere, for some time. It counts once somebody else has validated it."""

    agent = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="assignments")
    profile = models.CharField("profil", max_length=4)
    territory = models.CharField("territoire", max_length=30)  # code of a territory or of a commune
    service = models.CharField("service", max_length=30, blank=True)
    since = models.DateField("du")
    until = models.DateField("au")  # the first day it no longer counts
    reason = models.CharField("motif", max_length=300, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", verbose_name="demandée par"
    )
    requested_at = models.DateTimeField(auto_now_add=True)
    validated_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", verbose_name="validée par"
    )
    validated_at = models.DateTimeField(null=True)
    reviewed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", verbose_name="revue par"
    )
    reviewed_at = models.DateTimeField(null=True)
    source = models.CharField("origine", max_length=20, default="saisie")  # saisie, annuaire, installation

    class Meta:
        """Options."""

        verbose_name = "habilitation"
        ordering = ("agent", "-since")
        indexes = (models.Index(fields=["until"], name="assignment_until"),)
        constraints = (
            models.CheckConstraint(condition=Q(until__gt=models.F("since")), name="assignment_dates"),
            # Nobody validates what they asked for; an installation's or the directory's own has neither.
            models.CheckConstraint(
                condition=Q(validated_by__isnull=True)
                | Q(requested_by__isnull=True)
                | ~Q(validated_by=models.F("requested_by")),
                name="assignment_two_persons",
            ),
            models.CheckConstraint(
                condition=Q(validated_by__isnull=True) | ~Q(validated_by=models.F("agent")),
                name="assignment_not_oneself",
            ),
        )

    def __str__(self) -> str:
        return f"{self.agent} : {self.profile} {self.territory}"

    @property
    def review_due(self) -> bool:
        """Whether half a year went by since somebody last looked at it."""
        last = self.reviewed_at or self.validated_at
        return last is not None and timezone.now() - last > REVIEW_EVERY


class ConfidentialPerson(models.Model):
    """A person whose file only named agents and profiles with `repertoire.confidentiel` open."""

    person = models.OneToOneField("repertoire.Person", on_delete=models.CASCADE, related_name="+")
    reason = models.CharField("motif", max_length=300)
    since = models.DateTimeField("depuis le", auto_now_add=True)
    set_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    allowed = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="+", blank=True)

    class Meta:
        """Options."""

        verbose_name = "fiche confidentielle"

    def __str__(self) -> str:
        return f"fiche confidentielle {self.person_id}"


class BreakGlass(models.Model):
    """Motivated access to a person outside one's reach: bounded in time, logged, notified, examined afterwards."""

    class Verdict(models.TextChoices):
        """What the examination concluded."""

        JUSTIFIED = "justifie", "Justifié"
        UNJUSTIFIED = "injustifie", "Injustifié"

    agent = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    person = models.ForeignKey("repertoire.Person", on_delete=models.CASCADE, related_name="+")
    reason = models.TextField("motif")
    opened_at = models.DateTimeField("ouvert le", auto_now_add=True)
    until = models.DateTimeField("jusqu'au")
    reviewed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    reviewed_at = models.DateTimeField(null=True)
    verdict = models.CharField(max_length=12, choices=Verdict.choices, blank=True)
    comment = models.CharField("commentaire", max_length=500, blank=True)

    class Meta:
        """Options."""

        verbose_name = "accès exceptionnel"
        ordering = ("-opened_at",)
        indexes = (
            models.Index(fields=["agent", "until"], name="break_glass_of_agent"),
            models.Index(fields=["opened_at"], name="break_glass_unreviewed", condition=Q(reviewed_at__isnull=True)),
        )

    def __str__(self) -> str:
        return f"accès exceptionnel de {self.agent} du {self.opened_at:%d/%m/%Y %H:%M}"
