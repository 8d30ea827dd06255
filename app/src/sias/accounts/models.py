"""Agents of the Département, and where they served when."""

from django.contrib.auth.models import AbstractUser
from django.db import models

from sias.socle.models import Dated


class Agent(AbstractUser):
    """Someone who signs in. A model of our own from the start: habilitations and the directory extend it."""

    # Name of the unit of today, which tasks and notes compare; made from the postings of agents who have any.
    service = models.CharField("service", max_length=100, blank=True)

    class Meta:
        """Options."""

        verbose_name = "agent"

    def __str__(self) -> str:
        return self.get_full_name() or self.username


class Posting(Dated):
    """An agent's time in a unit of the organisation. The database allows one unit at a time."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="postings", verbose_name="agent")
    service = models.CharField("code du service", max_length=30)
    function = models.CharField("fonction", max_length=100, blank=True)
    source = models.CharField("origine", max_length=20, default="saisie")  # saisie, import, annuaire

    class Meta:
        """Options."""

        verbose_name = "affectation"
        indexes = (models.Index(fields=["service"], name="posting_service"),)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(until__isnull=True) | models.Q(until__gt=models.F("since")), name="posting_dates"
            ),
        )

    def __str__(self) -> str:
        return f"{self.agent} : {self.service}"
