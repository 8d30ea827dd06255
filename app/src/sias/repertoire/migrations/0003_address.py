"""Search by address: a column without a default (no rewrite), filled by the worker; indexes built beside the traffic."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("repertoire", "0002_search_and_household")]

    operations = [
        migrations.AddField(
            "person",
            "address_norm",
            models.CharField(db_collation="C", editable=False, max_length=200, null=True),
        ),
        AddIndexConcurrently("person", models.Index(fields=["address_norm"], name="person_address")),
        AddIndexConcurrently(
            "person",
            models.Index(
                condition=models.Q(("address_norm__isnull", True)), fields=["id"], name="person_address_unmade"
            ),
        ),
    ]
