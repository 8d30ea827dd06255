"""Dictionaries are under history: rights and statistics follow from them."""

from django.db import migrations

from sias.history.tracking import track

TABLES = ("socle_territory", "socle_territorycommune", "socle_service", "socle_budgetline", "accounts_posting")


class Migration(migrations.Migration):
    dependencies = [
        ("dictionaries", "0001_initial"),
        ("socle", "0005_cantons_and_nomenclature"),
        ("accounts", "0002_posting"),
        ("history", "0002_trigger"),
    ]

    operations = [track(table) for table in TABLES]
