"""Dictionaries that every module shares. Entries are dated: what was in force on a day can be asked (`.on(day)`)."""

from datetime import date

from django.db import models
from django.utils import timezone


class Commune(models.Model):
    """A commune of the Moselle, present or merged into another (delegated, associated)."""

    code = models.CharField("code INSEE", max_length=5, primary_key=True)
    name = models.CharField("nom", max_length=100)
    kind = models.CharField("nature", max_length=30)
    postal_codes = models.CharField("codes postaux", max_length=200, blank=True)
    population = models.PositiveIntegerField("population municipale", default=0)
    parent = models.CharField("commune nouvelle", max_length=5, blank=True)
    arrondissement = models.CharField(max_length=60)
    epci = models.CharField("EPCI", max_length=9, blank=True)
    epci_name = models.CharField("nom de l'EPCI", max_length=100, blank=True)
    vintage = models.PositiveSmallIntegerField("millésime")

    class Meta:
        """Options."""

        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


ALWAYS = date(1900, 1, 1)  # entries whose beginning nobody recorded


class DatedQuerySet(models.QuerySet):
    """Entries that are in force for some time."""

    def on(self, day: date | None = None) -> "DatedQuerySet":
        """Return what was in force on a day (today by default)."""
        day = day or timezone.localdate()
        return self.filter(since__lte=day).exclude(until__lte=day)


class Dated(models.Model):
    """A version of an entry. Others refer to its `code`; the database allows one version of a code at a time."""

    since = models.DateField("depuis le", default=ALWAYS)
    until = models.DateField("jusqu'au", null=True, blank=True)  # the first day it is no longer in force

    objects = DatedQuerySet.as_manager()

    class Meta:
        """Options."""

        abstract = True


class Territory(Dated):
    """A part of the department that rights and organisation refer to."""

    class Kind(models.TextChoices):
        """From the widest to the narrowest."""

        DEPARTMENT = "departement", "Département"
        UTAS = "utas", "UTAS"
        EPCI = "epci", "EPCI"
        CANTON = "canton", "Canton"
        COMMUNE = "commune", "Commune"

    WHOLE = "57"  # code of the department

    code = models.CharField("code", max_length=30)
    kind = models.CharField("nature", max_length=12, choices=Kind.choices)
    name = models.CharField("nom", max_length=100)

    class Meta:
        """Options."""

        verbose_name = "territoire"
        ordering = ("kind", "name")

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.name}" if self.kind != self.Kind.COMMUNE else self.name


class TerritoryCommune(Dated):
    """A commune's time in a territory."""

    territory = models.CharField("code du territoire", max_length=30)
    commune = models.ForeignKey(Commune, on_delete=models.PROTECT, related_name="+")

    class Meta:
        """Options."""

        verbose_name = "secteur"
        indexes = (models.Index(fields=["territory"], name="territory_communes"),)

    def __str__(self) -> str:
        return f"{self.commune_id} dans {self.territory}"


class Service(Dated):
    """A unit of the organisation; together they are a tree."""

    code = models.CharField("code", max_length=30)
    name = models.CharField("nom", max_length=150)
    kind = models.CharField("nature", max_length=30)
    parent = models.CharField("service supérieur", max_length=30, blank=True)
    territory = models.CharField("territoire", max_length=30, blank=True)

    class Meta:
        """Options."""

        verbose_name = "service"
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class BudgetLine(Dated):
    """A line of the budget nomenclature (departments use M57 since 2024, M52 before)."""

    class Kind(models.TextChoices):
        """The two axes of the nomenclature."""

        NATURE = "nature", "Nature"
        FUNCTION = "fonction", "Fonction"

    code = models.CharField("code", max_length=12)
    label = models.CharField("libellé", max_length=200)
    kind = models.CharField("axe", max_length=10, choices=Kind.choices)
    parent = models.CharField("compte supérieur", max_length=12, blank=True)
    nomenclature = models.CharField("nomenclature", max_length=4, default="M57")

    class Meta:
        """Options."""

        verbose_name = "ligne budgétaire"
        ordering = ("code",)

    def __str__(self) -> str:
        return f"{self.code} {self.label}"
