"""Tables of the platform itself."""

from django.conf import settings
from django.db import models


class IdempotencyKey(models.Model):
    """A write that was done, under the key that its form carried, and the answer it got."""

    agent = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=100)
    fingerprint = models.BinaryField()
    status = models.PositiveSmallIntegerField(null=True)
    location = models.CharField(max_length=500, blank=True)
    replays = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    last_seen = models.DateTimeField(auto_now=True)

    class Meta:
        """Options."""

        constraints = (models.UniqueConstraint(fields=["agent", "key"], name="idempotency_key_unique"),)

    def __str__(self) -> str:
        return self.key


class Duty(models.Model):
    """A recurring duty of the workers: whoever locks its row does it."""

    name = models.CharField(max_length=50, primary_key=True)
    next_run = models.DateTimeField()
    last_run = models.DateTimeField(null=True)
    last_seconds = models.FloatField(null=True)
    last_host = models.CharField(max_length=100, blank=True)
    last_result = models.CharField(max_length=500, blank=True)
    failures = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.name
