"""Requests of persons about their data, and limitations, are under history."""

from django.db import migrations

from sias.history.tracking import track


class Migration(migrations.Migration):
    dependencies = [("privacy", "0001_initial"), ("history", "0002_trigger")]

    operations = [
        track("privacy_rightsrequest", person="person_id"),
        track("privacy_restriction", person="person_id"),
    ]
