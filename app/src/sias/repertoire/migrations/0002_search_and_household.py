"""What Django's models cannot say: trigram and form indexes of the dictionary, one household per person at a time."""

from django.db import migrations

EXTENSIONS = "CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public; CREATE EXTENSION IF NOT EXISTS btree_gist WITH SCHEMA public"

# No GiST index beside the GIN one: the planner would pick it, and it is slower.
DICTIONARY = """
CREATE INDEX name_form_trigram_last ON repertoire_nameform USING gin (norm public.gin_trgm_ops) WHERE kind = 'N';
CREATE INDEX name_form_trigram_first ON repertoire_nameform USING gin (norm public.gin_trgm_ops) WHERE kind = 'P';
CREATE INDEX name_form_variants ON repertoire_nameform USING gin (string_to_array(variants, ' '));
"""

ONE_HOUSEHOLD = """
ALTER TABLE repertoire_membership ADD CONSTRAINT membership_one_household
  EXCLUDE USING gist (person_id WITH =, daterange(since, until) WITH &&);
"""

# At the end of each transaction: a person who was created or whose membership changed is in a household today or later.
# Everything is schema-qualified: maintenance of PostgreSQL 17 runs with a restricted search_path.
SOME_HOUSEHOLD = """
CREATE FUNCTION public.repertoire_person_has_household() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  who bigint;
BEGIN
  IF TG_TABLE_NAME = 'repertoire_person' THEN who := NEW.id;
  ELSIF TG_OP = 'DELETE' THEN who := OLD.person_id;
  ELSE who := NEW.person_id;
  END IF;
  IF EXISTS (SELECT FROM public.repertoire_person WHERE id = who)
     AND NOT EXISTS (SELECT FROM public.repertoire_membership WHERE person_id = who AND until IS NULL) THEN
    RAISE EXCEPTION 'person % is in no household', who
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'person_has_household';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER person_has_household AFTER INSERT ON repertoire_person
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.repertoire_person_has_household();
CREATE CONSTRAINT TRIGGER membership_keeps_household AFTER UPDATE OR DELETE ON repertoire_membership
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.repertoire_person_has_household();
"""


class Migration(migrations.Migration):
    dependencies = [("repertoire", "0001_initial"), ("socle", "0002_communes")]

    operations = [
        migrations.RunSQL(EXTENSIONS, migrations.RunSQL.noop),
        migrations.RunSQL(DICTIONARY, "DROP INDEX name_form_trigram_last, name_form_trigram_first, name_form_variants"),
        migrations.RunSQL(ONE_HOUSEHOLD, "ALTER TABLE repertoire_membership DROP CONSTRAINT membership_one_household"),
        migrations.RunSQL(SOME_HOUSEHOLD, "DROP FUNCTION public.repertoire_person_has_household() CASCADE"),
    ]
