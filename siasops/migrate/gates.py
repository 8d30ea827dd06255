"""Gates before a migration: what logical replication or the next version would lose, found before anything is touched.

Each gate is a line: what was looked at, what was found, what to do. `frozen` and `thaw` hold the schema still meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from siasops.cluster.check import Line
from siasops.migrate.database import Database
from siasops.migrate.sequences import MARGIN, sequences
from siasops.migrate.tables import SYSTEM

SHOWN = 10
"""Names that a line shows, at most."""
SCHEMA = "sias_migration"
"""Where the migration keeps its own: the freeze, and the row that marks the cutover."""
GONE = {
    "16": {"promote_trigger_file": "pg_ctl promote", "vacuum_defer_cleanup_age": "hot_standby_feedback and slots",
           "force_parallel_mode": "debug_parallel_query", "lc_collate": "nothing: it is the database's",
           "lc_ctype": "nothing: it is the database's"},
    "17": {"old_snapshot_threshold": "nothing", "db_user_namespace": "nothing", "trace_recovery_messages": "nothing"},
}  # fmt: skip
"""By major version, settings that it no longer knows, and what to use instead (release notes of 16 and 17, “Migration”)."""
_FREEZE = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE OR REPLACE FUNCTION {SCHEMA}.refuse() RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  IF pg_catalog.current_setting('sias.migration', true) IS DISTINCT FROM 'on' THEN
    RAISE EXCEPTION 'the schema is frozen: a migration to another major version runs'
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Wait until it has ended, or take it back.';
  END IF;
END $$;
DROP EVENT TRIGGER IF EXISTS {SCHEMA}_freeze;
CREATE EVENT TRIGGER {SCHEMA}_freeze ON ddl_command_start WHEN TAG IN ({{tags}})
  EXECUTE FUNCTION {SCHEMA}.refuse();
"""
_TAGS = [f"{verb} {what}" for what in ("TABLE", "INDEX", "SEQUENCE", "VIEW", "MATERIALIZED VIEW", "FUNCTION", "PROCEDURE",
         "TRIGGER", "TYPE", "DOMAIN", "SCHEMA", "EXTENSION", "POLICY", "AGGREGATE", "OPERATOR", "COLLATION", "STATISTICS")
         for verb in ("CREATE", "ALTER", "DROP")] + ["CREATE TABLE AS", "SELECT INTO", "GRANT", "REVOKE",
         "ALTER DEFAULT PRIVILEGES", "COMMENT"]  # fmt: skip
"""What changes a schema; temporary tables are refused as well, which no part of the platform makes."""


def freeze(database: Database) -> None:
    """Refuse every change of the schema; harmless when it is frozen. A session that sets `sias.migration = on` may."""
    tags = ", ".join(f"'{tag}'" for tag in _TAGS)
    database.do("BEGIN; SET LOCAL sias.migration = 'on'; " + _FREEZE.format(tags=tags) + " COMMIT;")


def thaw(database: Database) -> None:
    """Let the schema be changed again; harmless when it is not frozen."""
    database.do(f"BEGIN; SET LOCAL sias.migration = 'on'; DROP EVENT TRIGGER IF EXISTS {SCHEMA}_freeze; COMMIT;")


def frozen(database: Database) -> Line:
    """Whether the schema is held still."""
    rows = database.ask(f"SELECT evtenabled::text AS how FROM pg_event_trigger WHERE evtname = '{SCHEMA}_freeze'")
    ok = [row["how"] for row in rows] in (["O"], ["A"])
    return Line(ok, f"The schema of {database.name} is frozen", "an event trigger refuses changes" if ok else "it is not",
                "" if ok else "The migration's first phase freezes it.")  # fmt: skip


def gates(source: Database, target_extensions: Mapping[str, str] | None = None, *, target: str = "17") -> list[Line]:
    """Go or no-go for one database.

    Args:
        source: the database to migrate.
        target_extensions: name and default version of what the target's packages offer; None when not known, which is no-go.
        target: its major version.
    """
    found = [_empty(source, *gate) for gate in _GATES]
    found += [_extensions(source, target_extensions), _settings(source, target), _room_in_sequences(source)]
    return found


_Gate = tuple[str, str, str]
_TABLES = f"FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {SYSTEM} AND c.relpersistence <> 't'"
_GATES: Sequence[_Gate] = (
    (
        "Every table's rows can be told apart",
        f"""SELECT n.nspname || '.' || c.relname AS name {_TABLES} AND c.relkind = 'r' AND NOT EXISTS (
            SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid
            AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END)""",
        "Give it a primary key (or REPLICA IDENTITY USING INDEX): its updates would fail as soon as it is published.",
    ),
    (
        "No large objects",
        "SELECT 'large object ' || oid || ' of ' || lomowner::regrole AS name FROM pg_largeobject_metadata",
        "Logical replication does not carry them: move them into a bytea column or to the documents' storage.",
    ),
    (
        "No unlogged tables or sequences",
        f"SELECT n.nspname || '.' || c.relname AS name {_TABLES} AND c.relpersistence = 'u' AND c.relkind IN ('r', 'S')",
        "They are not in the log, so green never sees them: ALTER ... SET LOGGED.",
    ),
    (
        "No prepared transactions",
        "SELECT gid || ' of ' || owner AS name FROM pg_prepared_xacts",
        "COMMIT PREPARED or ROLLBACK PREPARED: it is invisible to the proof and holds everything back.",
    ),
    (
        "No foreign tables, and no materialised view that a proof would miss",
        f"SELECT n.nspname || '.' || c.relname AS name {_TABLES} AND c.relkind IN ('f', 'm')",
        "Their content is not replicated: drop it, and make it again after the migration.",
    ),
    (
        "No logical replication of someone else",
        """SELECT 'slot ' || slot_name AS name FROM pg_replication_slots WHERE slot_type = 'logical'
           AND database = current_database() AND slot_name !~ '^sias_' UNION ALL
           SELECT 'subscription ' || subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
           WHERE d.datname = current_database() AND subname !~ '^sias_'""",
        "It would not follow to green: end it, and begin it again there.",
    ),
    (
        "Functions in indexes and constraints name their schemas",
        f"""SELECT DISTINCT f.proname || ' in ' || u.what AS name FROM (
              SELECT i.indexrelid AS id, 'index ' || n.nspname || '.' || c.relname AS what, 'pg_class'::regclass AS class
                FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE {SYSTEM}
              UNION ALL SELECT o.oid, 'constraint ' || n.nspname || '.' || o.conname, 'pg_constraint'::regclass
                FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace WHERE {SYSTEM}
              UNION ALL SELECT d.oid, 'column ' || n.nspname || '.' || c.relname || '.' || a.attname, 'pg_attrdef'::regclass
                FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated <> ''
                JOIN pg_class c ON c.oid = d.adrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {SYSTEM}) u
            JOIN pg_depend p ON p.classid = u.class AND p.objid = u.id AND p.refclassid = 'pg_proc'::regclass
            JOIN pg_proc f ON f.oid = p.refobjid JOIN pg_language l ON l.oid = f.prolang
            WHERE l.lanname IN ('sql', 'plpgsql') AND f.prosqlbody IS NULL
              AND NOT EXISTS (SELECT FROM unnest(f.proconfig) s WHERE s LIKE 'search_path=%')""",
        "From 17 on, maintenance runs with an empty search path: ALTER FUNCTION ... SET search_path, or write BEGIN ATOMIC.",
    ),
    (
        "Every index and constraint is valid",
        f"""SELECT n.nspname || '.' || c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT (i.indisvalid AND i.indisready) AND {SYSTEM}
            UNION ALL SELECT n.nspname || '.' || o.conname FROM pg_constraint o
            JOIN pg_namespace n ON n.oid = o.connamespace WHERE NOT o.convalidated AND {SYSTEM}""",
        "DROP or REINDEX it, or VALIDATE CONSTRAINT: pg_upgrade would carry the damage.",
    ),
    (
        "No type that pg_upgrade refuses",
        f"""SELECT n.nspname || '.' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, NULL) AS name
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'm') AND {SYSTEM}
            AND a.atttypid IN ('aclitem'::regtype, 'regcollation'::regtype, 'regconfig'::regtype, 'regdictionary'::regtype,
              'regnamespace'::regtype, 'regoper'::regtype, 'regoperator'::regtype, 'regproc'::regtype,
              'regprocedure'::regtype)""",
        "Store the name as text.",
    ),
)  # fmt: skip


def _empty(source: Database, what: str, query: str, action: str) -> Line:
    rows = source.ask(f"{query} ORDER BY 1")
    names = [str(row["name"]) for row in rows]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return Line(not names, what, (", ".join(names[:SHOWN]) + more) or "none", action if names else "")


def _extensions(source: Database, offered: Mapping[str, str] | None) -> Line:
    what = "Every extension exists on the target"
    if offered is None:
        return Line(False, what, "the target's packages could not be asked", "Install the target's packages first.")
    used = {
        row["name"]: row["version"]
        for row in source.ask("SELECT extname AS name, extversion AS version FROM pg_extension")
    }
    absent = sorted(used.keys() - offered.keys())
    return Line(bool(used) and not absent, what, f"missing: {', '.join(absent)}" if absent else f"{', '.join(sorted(used))}",
                "Install its package for the target's version on every database host." if absent else "")  # fmt: skip


def _settings(source: Database, target: str) -> Line:
    gone = {
        name: instead
        for version, names in GONE.items()
        if int(version) <= int(target)
        for name, instead in names.items()
    }
    rows = source.ask("SELECT name FROM pg_settings WHERE source NOT IN ('default', 'override')"
                      " UNION SELECT split_part(s, '=', 1) FROM pg_db_role_setting, unnest(setconfig) s")  # fmt: skip
    named = {row["name"] for row in rows}
    found = [f"{name} (instead: {gone[name]})" for name in sorted(named & gone.keys())]
    return Line(not found, f"No setting that {target} does not know", ", ".join(found) or f"{len(named)} settings, all known",
                "Take it out of the configuration, or of the role (ALTER ROLE ... RESET)." if found else "")  # fmt: skip


def _room_in_sequences(source: Database) -> Line:
    short = [s.title for s in sequences(source).values() if s.left <= 2 * MARGIN and not s.cycles]
    found = ", ".join(short) or f"more than {2 * MARGIN} values left in each"
    return Line(not short, "Every sequence has room for the margin", found,
                "Make the column and its sequence bigint." if short else "")  # fmt: skip
