"""Accounts, cards and what groups give are under history; a password's hash and each sign-in are not."""

from django.db import migrations

from sias.history.tracking import track


class Migration(migrations.Migration):
    dependencies = [
        ("directory", "0001_initial"),
        ("accounts", "0002_posting"),
        ("history", "0002_trigger"),
    ]

    operations = [
        track("accounts_agent", ignore=("password", "last_login")),
        track("directory_card"),
        track("directory_grouprule"),
    ]
