"""Agents of the Département."""

from django.contrib.auth.models import AbstractUser
from django.db import models


class Agent(AbstractUser):
    """Someone who signs in. A model of our own from the start: habilitations and the directory will extend it."""

    service = models.CharField("service", max_length=100, blank=True)

    class Meta:
        """Options."""

        verbose_name = "agent"

    def __str__(self) -> str:
        return self.get_full_name() or self.username
