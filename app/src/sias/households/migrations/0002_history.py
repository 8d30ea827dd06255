"""Persons, households, memberships, moves and keys are under history."""

from django.db import migrations

from sias.history.tracking import track


class Migration(migrations.Migration):
    dependencies = [
        ("households", "0001_initial"),
        ("history", "0002_trigger"),
        ("crossdomain", "0001_initial"),
        ("repertoire", "0002_search_and_household"),
    ]

    operations = [
        track(
            "repertoire_person",
            person="id",
            ignore=(
                "birth_norm",
                "usage_norm",
                "first_norm",
                "address_norm",
                "updated_at",
                "updated_by_id",
                "nir_index",
            ),
        ),
        track("repertoire_household", household="id"),
        track("repertoire_membership", person="person_id", household="household_id"),
        track("crossdomain_involvement", person="person_id", ignore=("updated_at",)),
        track("households_externalkey", household="household_id"),
    ]
