-- One known write a minute, for the proofs that backups restore (sias-restore). Run on every database host; only the
-- primary writes. Table and schema are made where they are missing, as after a migration to a new cluster.
SET client_min_messages = warning;
SELECT pg_is_in_recovery() AS standby \gset
\if :standby
\quit
\endif
BEGIN;
CREATE SCHEMA IF NOT EXISTS sias_restore;
-- source: 'beat', or the run of a restore drill. sent and lsn are taken before the commit, never after it.
CREATE TABLE IF NOT EXISTS sias_restore.ledger (
  n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source text NOT NULL,
  number integer NOT NULL DEFAULT 0,
  sent timestamptz NOT NULL DEFAULT clock_timestamp(),
  lsn pg_lsn NOT NULL DEFAULT pg_current_wal_insert_lsn(),
  payload text NOT NULL DEFAULT '');
COMMIT;
DELETE FROM sias_restore.ledger WHERE sent < now() - interval '35 days';
INSERT INTO sias_restore.ledger (source) VALUES ('beat');
