"""Cantons and the budget nomenclature as shipped. A nature and a function may bear the same code."""

from datetime import date

from django.db import migrations

from sias.socle import organisation

SINCE = date(2015, 3, 22)  # first elections in the cantons of decree 2014-213
TABLE, NAME = "socle_budgetline", "socle_budgetline_one_version"


def _key(expression: str) -> str:
    return (
        f"ALTER TABLE {TABLE} DROP CONSTRAINT {NAME};"
        f"ALTER TABLE {TABLE} ADD CONSTRAINT {NAME}"
        f"  EXCLUDE USING gist (({expression}) WITH =, daterange(since, until) WITH &&);"
    )


def load(apps, _schema_editor):
    territory, sector, line = (
        apps.get_model("socle", name) for name in ("Territory", "TerritoryCommune", "BudgetLine")
    )
    cantons = organisation.cantons()
    territory.objects.bulk_create(
        [territory(code=code, kind="canton", name=name, since=SINCE) for code, name, _communes in cantons]
    )
    sector.objects.bulk_create(
        [
            sector(territory=code, commune_id=commune, since=SINCE)
            for code, _name, communes in cantons
            for commune in communes
        ]
    )
    line.objects.bulk_create(
        [
            line(kind=axis, code=code, parent=above, label=label)
            for axis, code, above, label in organisation.nomenclature()
        ]
    )


class Migration(migrations.Migration):
    dependencies = [("socle", "0004_organisation")]

    operations = [
        migrations.RunSQL(_key("kind || ' ' || code"), _key("code")),
        migrations.RunPython(load, migrations.RunPython.noop),
    ]
