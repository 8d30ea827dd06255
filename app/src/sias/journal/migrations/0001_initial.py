"""The access log: partitioned by month, append-only, chained, readable only under `sias.journal = 'lecture'`.

A chain per month and stream. The stream is the server process modulo 64: a process is in one transaction at a time, so
two writers meet only when their numbers collide, and never deadlock. A month's chains start from a constant, so a month
whose retention has ended is dropped whole and the others still verify.
"""

from django.db import migrations

TABLES = """
CREATE SEQUENCE public.journal_entry_id_seq AS bigint CACHE 1;
CREATE TABLE public.journal_entry (
  id bigint NOT NULL DEFAULT nextval('public.journal_entry_id_seq'),
  at timestamptz NOT NULL DEFAULT now(),
  happened_at timestamptz NOT NULL DEFAULT now(),
  agent_id bigint,
  agent varchar(150) NOT NULL,
  profiles varchar(200) NOT NULL DEFAULT '',
  action varchar(30) NOT NULL,
  domain varchar(40) NOT NULL DEFAULT '',
  object_type varchar(60) NOT NULL DEFAULT '',
  object_id varchar(60) NOT NULL DEFAULT '',
  label varchar(200) NOT NULL DEFAULT '',
  person_id bigint,
  reason varchar(500) NOT NULL DEFAULT '',
  detail jsonb NOT NULL DEFAULT '{}',
  origin inet,
  host varchar(100) NOT NULL DEFAULT '',
  stream smallint NOT NULL,
  seq bigint NOT NULL,
  previous bytea NOT NULL,
  hash bytea NOT NULL,
  PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
ALTER SEQUENCE public.journal_entry_id_seq OWNED BY public.journal_entry.id;
CREATE INDEX journal_entry_person ON public.journal_entry (person_id, at DESC) WHERE person_id IS NOT NULL;
CREATE INDEX journal_entry_agent ON public.journal_entry (agent_id, at DESC);
CREATE INDEX journal_entry_chain ON public.journal_entry (stream, seq);
CREATE TABLE public.journal_head (
  month date NOT NULL, stream smallint NOT NULL, seq bigint NOT NULL, hash bytea NOT NULL, PRIMARY KEY (month, stream)
) WITH (fillfactor = 40);
CREATE TABLE public.journal_policy (
  one boolean PRIMARY KEY DEFAULT TRUE CHECK (one),
  -- CNIL: six months to a year; up to three when justified.
  keep_months integer NOT NULL DEFAULT 12 CHECK (keep_months BETWEEN 6 AND 36)
);
INSERT INTO public.journal_policy DEFAULT VALUES;
"""

CHAIN = """
CREATE FUNCTION public.journal_canonical(e public.journal_entry) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
  SELECT convert_to(jsonb_build_array(
    e.stream, e.seq, e.id, extract(epoch FROM e.at), extract(epoch FROM e.happened_at), e.agent_id, e.agent, e.profiles,
    e.action, e.domain, e.object_type, e.object_id, e.label, e.person_id, e.reason, e.detail, host(e.origin), e.host
  )::text, 'UTF8')
$$;
CREATE FUNCTION public.journal_genesis(month date, stream smallint) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS $$
  SELECT sha256(convert_to('sias journal ' || (month - date '2000-01-01') || ' ' || stream, 'UTF8'))
$$;
CREATE FUNCTION public.journal_chain() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
  its_month date := date_trunc('month', NEW.at AT TIME ZONE 'UTC')::date;
  head public.journal_head;
BEGIN
  IF NEW.at IS DISTINCT FROM now() THEN
    RAISE EXCEPTION 'the access log dates its entries itself' USING ERRCODE = 'insufficient_privilege';
  END IF;
  NEW.stream := pg_backend_pid() % 64;
  SELECT * INTO head FROM public.journal_head WHERE month = its_month AND stream = NEW.stream FOR UPDATE;
  IF NOT FOUND THEN
    INSERT INTO public.journal_head
      VALUES (its_month, NEW.stream, 0, public.journal_genesis(its_month, NEW.stream)) ON CONFLICT DO NOTHING;
    SELECT * INTO head FROM public.journal_head WHERE month = its_month AND stream = NEW.stream FOR UPDATE;
  END IF;
  NEW.seq := head.seq + 1;
  NEW.previous := head.hash;
  NEW.hash := sha256(NEW.previous || public.journal_canonical(NEW));
  UPDATE public.journal_head SET seq = NEW.seq, hash = NEW.hash WHERE month = its_month AND stream = NEW.stream;
  RETURN NEW;
END $$;
CREATE TRIGGER journal_chain BEFORE INSERT ON public.journal_entry
  FOR EACH ROW EXECUTE FUNCTION public.journal_chain();
CREATE FUNCTION public.journal_refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  RAISE EXCEPTION 'the access log only grows' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER journal_only_grows BEFORE UPDATE OR DELETE ON public.journal_entry
  FOR EACH ROW EXECUTE FUNCTION public.journal_refuse();
CREATE TRIGGER journal_never_emptied BEFORE TRUNCATE ON public.journal_entry
  FOR EACH STATEMENT EXECUTE FUNCTION public.journal_refuse();
"""

# The worker runs as the application's role: it may ask for partitions and for the end of retention, nothing else.
PARTITIONS = """
CREATE FUNCTION public.journal_close_partitions() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE part regclass;
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sias_app') THEN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'public.journal_entry'::regclass LOOP
      EXECUTE format('REVOKE ALL ON %s FROM %I', part, 'sias_app');
    END LOOP;
  END IF;
END $$;
CREATE FUNCTION public.journal_make_partitions(ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
  first date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
  month date;
  part text;
  made integer := 0;
BEGIN
  FOR step IN 0 .. least(ahead, 24) LOOP
    month := (first + make_interval(months => step))::date;
    part := 'journal_entry_' || to_char(month, 'YYYY_MM');
    CONTINUE WHEN to_regclass('public.' || part) IS NOT NULL;
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.journal_entry FOR VALUES FROM (%L) TO (%L)',
      part, to_char(month, 'YYYY-MM-DD') || ' 00:00:00+00',
      to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00');
    EXECUTE format('CREATE TRIGGER journal_never_emptied BEFORE TRUNCATE ON public.%I
      FOR EACH STATEMENT EXECUTE FUNCTION public.journal_refuse()', part);
    made := made + 1;
  END LOOP;
  IF made > 0 THEN PERFORM public.journal_close_partitions(); END IF;
  RETURN made;
END $$;
CREATE FUNCTION public.journal_drop_expired() RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
  part text;
  oldest date;
  dropped text[] := '{}';
BEGIN
  SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => keep_months))::date INTO oldest
    FROM public.journal_policy;
  FOR part IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'public.journal_entry'::regclass
                 AND to_date(right(c.relname, 7), 'YYYY_MM') < oldest ORDER BY 1 LOOP
    EXECUTE format('DROP TABLE public.%I', part);
    DELETE FROM public.journal_head WHERE month = to_date(right(part, 7), 'YYYY_MM');
    dropped := dropped || part;
  END LOOP;
  RETURN dropped;
END $$;
CREATE FUNCTION public.journal_heads() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
  SELECT coalesce(jsonb_object_agg(to_char(month, 'YYYY-MM') || '/' || stream,
                                   jsonb_build_array(seq, encode(hash, 'hex'))), '{}') FROM public.journal_head
$$;
REVOKE ALL ON FUNCTION public.journal_close_partitions() FROM PUBLIC;
SELECT public.journal_make_partitions(3);
"""

POLICIES = """
ALTER TABLE public.journal_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.journal_entry FORCE ROW LEVEL SECURITY;
CREATE POLICY journal_write ON public.journal_entry FOR INSERT WITH CHECK (TRUE);
CREATE POLICY journal_read ON public.journal_entry FOR SELECT
  USING ((SELECT current_setting('sias.journal', TRUE)) = 'lecture');
"""

UNDO = """
DROP TABLE public.journal_entry, public.journal_head, public.journal_policy CASCADE;
DROP FUNCTION public.journal_chain(), public.journal_genesis(date, smallint), public.journal_refuse(),
  public.journal_close_partitions(), public.journal_make_partitions(integer), public.journal_drop_expired(),
  public.journal_heads();
"""


class Migration(migrations.Migration):
    initial = True
    dependencies = []

    operations = [
        migrations.RunSQL(TABLES, UNDO),
        migrations.RunSQL(CHAIN, migrations.RunSQL.noop),
        migrations.RunSQL(PARTITIONS, migrations.RunSQL.noop),
        migrations.RunSQL(POLICIES, migrations.RunSQL.noop),
    ]
