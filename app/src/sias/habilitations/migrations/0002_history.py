"""Rights and exceptional accesses are under history: who gave what to whom stays known."""

from django.db import migrations

from sias.history.tracking import track


class Migration(migrations.Migration):
    dependencies = [("habilitations", "0001_initial"), ("history", "0002_trigger")]

    operations = [
        track("habilitations_assignment"),
        track("habilitations_confidentialperson", person="person_id"),
        track("habilitations_breakglass", person="person_id"),
    ]
