"""History obeys row-level security, so that what a protected table holds is not read in its past.

Everything is visible until `protect` adds a restriction for its table. The trigger that writes history acts as the owner
of the tables, who obeys too (FORCE): writing is not restricted.
"""

from django.db import migrations

from sias.history.tracking import track

ENABLE = (
    "ALTER TABLE public.history_change ENABLE ROW LEVEL SECURITY;"
    "ALTER TABLE public.history_change FORCE ROW LEVEL SECURITY;"
    "CREATE POLICY history_change_all ON public.history_change USING (TRUE) WITH CHECK (TRUE);"
)
DISABLE = (
    "DROP POLICY history_change_all ON public.history_change;"
    "ALTER TABLE public.history_change NO FORCE ROW LEVEL SECURITY;"
    "ALTER TABLE public.history_change DISABLE ROW LEVEL SECURITY;"
)


class Migration(migrations.Migration):
    dependencies = [("habilitations", "0002_history"), ("history", "0002_trigger")]

    operations = [
        migrations.RunSQL(ENABLE, DISABLE),
        # Who may open a confidential file, and since when.
        track("habilitations_confidentialperson_allowed"),
    ]
