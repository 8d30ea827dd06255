"""Documents are under history; what the worker finds when it reads a file back is not a change of the file."""

from django.db import migrations

from sias.history.tracking import track


class Migration(migrations.Migration):
    dependencies = [("documents", "0001_initial"), ("history", "0002_trigger")]

    operations = [track("documents_document", person="person_id", ignore=("check_state", "checked_at"))]
