"""Persons, households, and the dictionary of names that search stands on."""

from datetime import date

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone

from sias.repertoire import names, nir
from sias.socle.models import Commune
from sias.socle.text import compact

ADULT = 18


class Sex(models.TextChoices):
    """As the registry of identity has it."""

    FEMALE = "F", "Femme"
    MALE = "M", "Homme"


class Household(models.Model):
    """Ménage: the persons who ask together."""

    person_path = "memberships__person"  # see sias.habilitations.rights
    person_filter = models.Q(memberships__until__isnull=True)

    number = models.CharField("numéro de foyer", max_length=9)
    created_at = models.DateTimeField("créé le")

    class Meta:
        """Options."""

        verbose_name = "foyer"
        constraints = (models.UniqueConstraint(fields=["number"], name="household_number"),)

    def __str__(self) -> str:
        return f"Ménage {self.number}"

    def get_absolute_url(self) -> str:
        """Page of the household."""
        return reverse("households:file", args=[self.pk])

    def habilitation_persons(self) -> list["Person"]:
        """Return the members of today: one whom an agent may open is enough to open the household."""
        return [member.person for member in self.memberships.filter(until=None).select_related("person")]


class Person(models.Model):
    """Usager: limited identity, common to every domain of social action."""

    person_path = ""

    number = models.CharField("numéro de dossier", max_length=10)
    birth_name = models.CharField("nom de naissance", max_length=80)
    usage_name = models.CharField("nom d'usage", max_length=80, blank=True)
    first_names = models.CharField("prénoms", max_length=120)
    sex = models.CharField("sexe", max_length=1, choices=Sex.choices)
    birth_date = models.DateField("date de naissance")
    birth_place = models.CharField("lieu de naissance", max_length=100, blank=True)
    address = models.CharField("adresse", max_length=200, blank=True)
    postal_code = models.CharField("code postal", max_length=5, blank=True)
    # Indexes stand in Meta: those that Django adds by itself come with a second one for LIKE, which nothing here uses.
    commune = models.ForeignKey(
        Commune, on_delete=models.PROTECT, null=True, verbose_name="commune", related_name="+", db_index=False
    )
    phone = models.CharField("téléphone", max_length=20, blank=True)
    email = models.EmailField("courriel", blank=True)
    nir_encrypted = models.BinaryField("NIR chiffré", null=True)
    nir_index = models.BinaryField("index aveugle du NIR", null=True, unique=True)
    # Compared forms, made in Python (sias.socle.text). Collation C: comparisons of bytes, the same everywhere.
    birth_norm = models.CharField(max_length=80, db_collation="C", editable=False)
    usage_norm = models.CharField(max_length=80, db_collation="C", blank=True, editable=False)
    first_norm = models.CharField(max_length=80, db_collation="C", editable=False)
    # NULL until the worker has made it: rows of before the column, or of a release that does not know it.
    address_norm = models.CharField(max_length=200, db_collation="C", null=True, editable=False)
    version = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField("créée le", auto_now_add=True)
    updated_at = models.DateTimeField("modifiée le", auto_now=True)
    updated_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name="modifiée par"
    )

    class Meta:
        """Options."""

        verbose_name = "personne"
        indexes = (
            models.Index(fields=["birth_norm", "first_norm", "birth_date"], name="person_birth_name"),
            models.Index(
                fields=["usage_norm", "first_norm", "birth_date"],
                name="person_usage_name",
                condition=~models.Q(usage_norm=""),
            ),
            models.Index(fields=["first_norm", "birth_date"], name="person_first_name"),
            models.Index(fields=["birth_date"], name="person_birth_date"),
            models.Index(fields=["commune"], name="person_commune"),
            models.Index(fields=["phone"], name="person_phone", condition=~models.Q(phone="")),
            models.Index(fields=["address_norm"], name="person_address"),
            models.Index(fields=["id"], name="person_address_unmade", condition=models.Q(address_norm__isnull=True)),
        )
        constraints = (
            models.UniqueConstraint(fields=["number"], name="person_number"),
            models.CheckConstraint(condition=models.Q(sex__in=["F", "M"]), name="person_sex"),
            models.CheckConstraint(condition=models.Q(birth_date__gte=date(1880, 1, 1)), name="person_birth_date_sane"),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.first_name}"

    def get_absolute_url(self) -> str:
        """Page of the person."""
        return reverse("repertoire:person", args=[self.pk])

    @property
    def name(self) -> str:
        """The name the person goes by."""
        return self.usage_name or self.birth_name

    @property
    def first_name(self) -> str:
        """The usual first name."""
        return self.first_names.split(" ")[0] if self.first_names else ""

    @property
    def title(self) -> str:
        """Civility."""
        return "Mme" if self.sex == Sex.FEMALE else "M."

    @property
    def nir(self) -> str:
        """The national identifier in clear, "" when unknown."""
        return nir.decrypt(self.nir_encrypted) if self.nir_encrypted else ""

    @property
    def nir_masked(self) -> str:
        """The national identifier, masked but for what the identity already shows."""
        return nir.mask(self.nir) if self.nir_encrypted else ""

    def age(self, on: date | None = None) -> int:
        """Years on a day (today by default)."""
        on = on or timezone.localdate()
        return on.year - self.birth_date.year - ((on.month, on.day) < (self.birth_date.month, self.birth_date.day))

    @property
    def phone_spaced(self) -> str:
        """The telephone number as people read it: `03 87 00 00 00`."""
        return " ".join(self.phone[place : place + 2] for place in range(0, len(self.phone), 2))

    def set_nir(self, clear: str) -> None:
        """Set or clear the national identifier (13 characters and key, checked before)."""
        self.nir_encrypted = nir.encrypt(clear) if clear else None
        self.nir_index = nir.blind_index(clear) if clear else None

    def compute_norms(self) -> None:
        """Make the compared forms."""
        self.birth_norm = compact(self.birth_name)
        self.usage_norm = compact(self.usage_name)
        self.first_norm = compact(self.first_name)
        self.address_norm = names.street(self.address)

    def name_forms(self) -> list["NameForm"]:
        """Return the dictionary entries that this person needs."""
        last = {self.birth_norm, self.usage_norm} - {""}
        return [NameForm.of(NameForm.LAST, norm) for norm in sorted(last)] + [
            NameForm.of(NameForm.FIRST, norm) for norm in [self.first_norm] if norm
        ]


class Membership(models.Model):
    """A person's time in a household. The database allows one household at a time (see the first migration)."""

    class Role(models.TextChoices):
        """Place of the person in the household."""

        ADULT = "A", "Adulte"
        CHILD = "E", "Enfant"
        OTHER = "X", "Autre"

    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="memberships")
    household = models.ForeignKey(Household, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=1, choices=Role.choices)
    since = models.DateField("depuis le")
    until = models.DateField("jusqu'au", null=True, blank=True)  # the first day outside

    class Meta:
        """Options."""

        constraints = (
            models.CheckConstraint(
                condition=models.Q(until__isnull=True) | models.Q(until__gt=models.F("since")), name="membership_dates"
            ),
        )

    def __str__(self) -> str:
        return f"{self.person_id} dans {self.household_id}"


class NameForm(models.Model):
    """A distinct normalised name: a few tens of thousands of rows that stand before a million persons."""

    LAST, FIRST = "N", "P"

    kind = models.CharField(max_length=1)
    norm = models.CharField(max_length=80, db_collation="C")
    phonetic = models.CharField(max_length=40, db_collation="C")
    # The name and each of its forms with one letter left out, joined by spaces (see names.variants): two names one
    # error apart share one.
    variants = models.TextField(db_collation="C")
    uses = models.PositiveIntegerField(default=0)

    class Meta:
        """Options."""

        constraints = (models.UniqueConstraint(fields=["kind", "norm"], name="name_form_unique"),)
        indexes = (models.Index(fields=["kind", "phonetic"], name="name_form_phonetic"),)

    def __str__(self) -> str:
        return self.norm

    @classmethod
    def of(cls, kind: str, norm: str) -> "NameForm":
        """Make the entry of a normalised name."""
        return cls(kind=kind, norm=norm, phonetic=names.phonetic(norm), variants=" ".join(names.variants(norm)), uses=1)
