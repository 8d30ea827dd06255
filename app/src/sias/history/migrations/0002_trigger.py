"""The trigger function, and what keeps the history as it was written."""

from django.db import migrations

# SECURITY DEFINER: the application's role cannot write history, only cause it. Arguments: column of the person, column
# of the household, columns to ignore. Schema-qualified throughout: the search_path is the caller's no more.
RECORD = """
CREATE FUNCTION public.history_record() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  ignored text[] := TG_ARGV[2]::text[];
  olds jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - ignored END;
  news jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - ignored END;
  this_row jsonb := coalesce(to_jsonb(NEW), to_jsonb(OLD));
  former bigint;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    former := nullif(to_jsonb(OLD) ->> TG_ARGV[1], this_row ->> TG_ARGV[1])::bigint;
    SELECT jsonb_object_agg(o.key, o.value), jsonb_object_agg(o.key, n.value) INTO olds, news
      FROM pg_catalog.jsonb_each(olds) o JOIN pg_catalog.jsonb_each(news) n ON n.key = o.key WHERE n.value <> o.value;
    IF olds IS NULL THEN
      RETURN NULL;
    END IF;
  END IF;
  INSERT INTO public.history_change (agent_id, request, reason, origin, operation, table_name, row_id, person_id,
      household_id, left_household_id, before, after)
    VALUES (
      nullif(current_setting('sias.agent', true), '')::bigint,
      coalesce(current_setting('sias.request', true), ''),
      coalesce(current_setting('sias.reason', true), ''),
      session_user || ' ' || current_setting('application_name'),
      left(TG_OP, 1), TG_TABLE_NAME, coalesce(this_row ->> 'id', ''),
      (this_row ->> TG_ARGV[0])::bigint, (this_row ->> TG_ARGV[1])::bigint, former, olds, news);
  RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION public.history_record() FROM PUBLIC;
"""

APPEND_ONLY = """
CREATE FUNCTION public.history_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'history is append only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON public.history_change
  FOR EACH ROW EXECUTE FUNCTION public.history_is_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("history", "0001_initial")]

    operations = [
        migrations.RunSQL(RECORD, "DROP FUNCTION public.history_record()"),
        migrations.RunSQL(APPEND_ONLY, "DROP FUNCTION public.history_is_append_only() CASCADE"),
    ]
