"""Decisions about duplicates, merges and their undoing are under history."""

from django.db import migrations

from sias.history.tracking import track


class Migration(migrations.Migration):
    dependencies = [("duplicates", "0001_initial"), ("history", "0002_trigger")]

    operations = [track("duplicates_candidate"), track("duplicates_merge", ignore=("undo",))]
