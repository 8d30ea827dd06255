"""Third parties, and what Finance says of them."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from sias.repertoire.models import Person
from sias.thirdparties import bank


class ThirdParty(models.Model):
    """Someone the Département pays: a landlord, an establishment, a person. Nothing is paid before Finance validated."""

    class State(models.TextChoices):
        """What Finance said of the present version."""

        WAITING = "attente", "À valider par les Finances"
        VALID = "valide", "Validé"
        REFUSED = "refuse", "Refusé"

    name = models.CharField("nom ou raison sociale", max_length=150)
    siret = models.CharField("SIRET", max_length=14, blank=True)
    person = models.ForeignKey(
        Person, on_delete=models.PROTECT, null=True, related_name="third_parties", verbose_name="personne"
    )
    address = models.CharField("adresse", max_length=200, blank=True)
    iban_encrypted = models.BinaryField("IBAN chiffré")
    iban_index = models.BinaryField("index aveugle de l'IBAN")
    state = models.CharField("état", max_length=8, choices=State.choices, default=State.WAITING)
    finance_number = models.CharField("numéro de tiers des Finances", max_length=30, blank=True)
    refusal = models.CharField("motif du refus", max_length=300, blank=True)
    version = models.PositiveIntegerField(default=1)
    changed_at = models.DateTimeField("modifié le", auto_now=True)
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    decided_at = models.DateTimeField("décidé le", null=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        """Options."""

        verbose_name = "tiers"
        constraints = (
            models.UniqueConstraint(fields=["siret"], name="third_party_siret", condition=~Q(siret="")),
            models.UniqueConstraint(
                fields=["finance_number"], name="third_party_number", condition=~Q(finance_number="")
            ),
            models.CheckConstraint(
                condition=~Q(state="valide") | ~Q(finance_number=""), name="third_party_valid_has_number"
            ),
        )
        indexes = (models.Index(fields=["state", "id"], name="third_party_state"),)

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Page of the third party."""
        return reverse("thirdparties:show", args=[self.pk])

    @property
    def iban(self) -> str:
        """The IBAN in clear."""
        return bank.decrypt(self.iban_encrypted)

    @property
    def iban_masked(self) -> str:
        """The IBAN as screens show it."""
        return bank.mask(self.iban)

    def set_iban(self, clear: str) -> None:
        """Set the IBAN (checked before)."""
        self.iban_encrypted, self.iban_index = bank.encrypt(clear), bank.blind_index(clear)


class FinanceRecord(models.Model):
    """A third party as Finance last sent it."""

    number = models.CharField("numéro de tiers", max_length=30, unique=True)
    name = models.CharField("nom", max_length=150)
    siret = models.CharField("SIRET", max_length=14, blank=True)
    iban_index = models.BinaryField("index aveugle de l'IBAN")
    active = models.BooleanField("actif")
    received_at = models.DateTimeField("reçu le")

    def __str__(self) -> str:
        return self.number
