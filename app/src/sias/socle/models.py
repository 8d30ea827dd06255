"""Dictionaries that every module shares."""

from django.db import models


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
