"""One version of a code at a time, by the database; then the organisation that is shipped."""

from django.db import migrations

from sias.socle import organisation

# table -> what tells two entries apart
KEYS = {
    "socle_territory": "code",
    "socle_service": "code",
    "socle_budgetline": "code",
    "socle_territorycommune": "territory || ' ' || commune_id",
}
ADD = "CREATE EXTENSION IF NOT EXISTS btree_gist WITH SCHEMA public;" + "".join(
    f"ALTER TABLE {table} ADD CONSTRAINT {table}_one_version"
    f"  EXCLUDE USING gist (({key}) WITH =, daterange(since, until) WITH &&);"
    for table, key in KEYS.items()
)
DROP = "".join(f"ALTER TABLE {table} DROP CONSTRAINT {table}_one_version;" for table in KEYS)


def load(apps, _schema_editor):
    territory, sector, service = (
        apps.get_model("socle", name) for name in ("Territory", "TerritoryCommune", "Service")
    )
    territory.objects.bulk_create(
        [territory(code=code, kind=kind, name=name) for code, kind, name in organisation.territories()]
    )
    sector.objects.bulk_create([sector(territory=code, commune_id=commune) for code, commune in organisation.sectors()])
    service.objects.bulk_create(
        [
            service(code=code, kind=kind, parent=parent, name=name, territory=where)
            for code, kind, parent, name, where in organisation.services()
        ]
    )


class Migration(migrations.Migration):
    dependencies = [("socle", "0003_dictionaries")]

    operations = [migrations.RunSQL(ADD, DROP), migrations.RunPython(load, migrations.RunPython.noop)]
