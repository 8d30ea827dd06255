"""What Django's models cannot say without django.contrib.postgres: an agent has one appointment at a time."""

from django.db import migrations

from sias.history.tracking import track

ONE_AT_A_TIME = """
ALTER TABLE reception_appointment ADD CONSTRAINT appointment_one_at_a_time
  EXCLUDE USING gist (agent_id WITH =, tstzrange(starts_at, ends_at) WITH &&) WHERE (state = 'prevu')
"""


class Migration(migrations.Migration):
    dependencies = [
        ("reception", "0001_initial"),
        ("repertoire", "0002_search_and_household"),
        ("history", "0002_trigger"),
    ]

    operations = [
        migrations.RunSQL(ONE_AT_A_TIME, "ALTER TABLE reception_appointment DROP CONSTRAINT appointment_one_at_a_time"),
        track("reception_contact", person="person_id"),
        track("reception_appointment", person="person_id"),
        track("reception_referral", person="person_id"),
    ]
