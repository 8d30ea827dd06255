"""Load the communes that are shipped with the application."""

from django.db import migrations

from sias.socle.geography import places, source


def load(apps, _schema_editor):
    model = apps.get_model("socle", "Commune")
    vintage = int(source()["provenance"]["vintage"])
    rows = [
        model(
            code=place.code,
            name=place.name,
            kind=place.kind,
            postal_codes=" ".join(place.postal_codes),
            population=place.population,
            parent=place.parent,
            arrondissement=place.arrondissement,
            epci=place.epci,
            epci_name=place.epci_name,
            vintage=vintage,
        )
        for place in places().values()
    ]
    model.objects.bulk_create(rows, ignore_conflicts=True)


class Migration(migrations.Migration):
    dependencies = [("socle", "0001_initial")]

    operations = [migrations.RunPython(load, migrations.RunPython.noop)]
