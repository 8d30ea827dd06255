"""Documents of persons."""

import uuid

from django.conf import settings
from django.db import models
from django.urls import reverse

from sias.repertoire.models import Person


class Document(models.Model):
    """A file attached to a person. The row exists only after the file is durable in the volume."""

    class Check(models.TextChoices):
        """What the worker found when it read the file back."""

        PENDING = "attente", "vérification en attente"
        OK = "ok", "vérifié"
        MISSING = "absent", "fichier absent"
        CORRUPT = "altéré", "fichier altéré"

    person_path = "person"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    person = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="documents")
    name = models.CharField("nom du fichier", max_length=200)
    content_type = models.CharField(max_length=100)
    size = models.PositiveBigIntegerField("taille")
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField("ajouté le", auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    check_state = models.CharField(max_length=10, choices=Check.choices, default=Check.PENDING)
    checked_at = models.DateTimeField(null=True)

    class Meta:
        """Options."""

        ordering = ("-created_at", "id")
        indexes = (
            models.Index(fields=["sha256"], name="document_sha256"),
            models.Index(fields=["created_at"], name="document_unchecked", condition=models.Q(check_state="attente")),
        )

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Address of the download."""
        return reverse("documents:download", args=[self.pk])
