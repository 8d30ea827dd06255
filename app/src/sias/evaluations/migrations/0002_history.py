"""Answers and evaluations are under history; a published questionnaire never changes."""

from django.db import migrations

from sias.history.tracking import track

PUBLISHED = """
CREATE FUNCTION public.evaluations_published() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'a published questionnaire does not change: publish the next version'
    USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER published BEFORE UPDATE OR DELETE ON public.evaluations_questionnaire
  FOR EACH ROW EXECUTE FUNCTION public.evaluations_published();
"""


class Migration(migrations.Migration):
    dependencies = [("evaluations", "0001_initial"), ("history", "0002_trigger")]

    operations = [
        migrations.RunSQL(PUBLISHED, "DROP FUNCTION public.evaluations_published() CASCADE"),
        track("evaluations_evaluation", household="household_id"),
        track("evaluations_answer", household="household_id", ignore=("updated_at", "updated_by_id")),
    ]
