"""Notes are under history."""

from django.db import migrations

from sias.history.tracking import track


class Migration(migrations.Migration):
    dependencies = [("notes", "0001_initial"), ("history", "0002_trigger")]

    operations = [
        track(
            "notes_note",
            person="person_id",
            household="household_id",
            ignore=("version", "updated_at", "updated_by_id"),
        )
    ]
