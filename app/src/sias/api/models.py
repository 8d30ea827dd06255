"""Partners, their keys, and what they wrote."""

import hashlib
import hmac
import secrets
from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone

KEY_AGE = timedelta(days=365)


class Partner(models.Model):
    """An application or an organisation that calls the API, with the account that its acts are signed with."""

    name = models.CharField("nom", max_length=40, unique=True)
    agent = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    scopes = models.JSONField("droits", default=list)
    per_minute = models.PositiveIntegerField("appels par minute", default=600)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Key(models.Model):
    """A secret of a partner, kept as its SHA-256: 256 random bits need no slow hash."""

    partner = models.ForeignKey(Partner, on_delete=models.CASCADE, related_name="keys")
    prefix = models.CharField(max_length=12, unique=True)
    digest = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.prefix

    @classmethod
    def issue(cls, partner: Partner) -> str:
        """Make a key and return the one text of it that will ever be shown."""
        prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        cls.objects.create(partner=partner, prefix=prefix, digest=_digest(secret), expires_at=timezone.now() + KEY_AGE)
        return f"sias_{prefix}_{secret}"

    @classmethod
    def find(cls, text: str) -> "Key | None":
        """Return the usable key that a text is, None for anything else."""
        parts = text.split("_", 2)
        if len(parts) != 3 or parts[0] != "sias" or not parts[1].isalnum():  # noqa: PLR2004 - the three parts above
            return None
        key = (
            cls.objects.using("default")
            .select_related("partner__agent")
            .filter(prefix=parts[1][:12], revoked_at=None, expires_at__gt=timezone.now())
            .filter(partner__active=True, partner__agent__is_active=True)
            .first()
        )
        return key if key is not None and hmac.compare_digest(bytes(key.digest), _digest(parts[2])) else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Write(models.Model):
    """A write that a partner sent, under its idempotency key, and the answer it got."""

    partner = models.ForeignKey(Partner, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=100)
    fingerprint = models.BinaryField()
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    replays = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        """Options."""

        constraints = (models.UniqueConstraint(fields=["partner", "key"], name="api_write_unique"),)

    def __str__(self) -> str:
        return self.key


class Usage(models.Model):
    """How many calls of a partner a thread of a host counted in its last minute."""

    partner = models.ForeignKey(Partner, on_delete=models.CASCADE, related_name="+")
    worker = models.CharField(max_length=80)
    calls = models.PositiveIntegerField()
    at = models.DateTimeField()

    class Meta:
        """Options."""

        constraints = (models.UniqueConstraint(fields=["partner", "worker"], name="api_usage_worker"),)

    def __str__(self) -> str:
        return f"{self.worker}: {self.calls}"
