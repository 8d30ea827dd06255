"""Third parties are under history; the IBAN's ciphertext is not copied into it."""

from django.db import migrations

from sias.history.tracking import track


class Migration(migrations.Migration):
    dependencies = [("thirdparties", "0001_initial"), ("history", "0002_trigger")]

    operations = [track("thirdparties_thirdparty", person="person_id", ignore=("iban_encrypted",))]
