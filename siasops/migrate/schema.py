"""Everything of a database but its rows, as names and texts that two major versions write alike, and what differs.

pg_dump's text is of no use here: it differs between versions where nothing does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from siasops.cluster.check import Line
from siasops.migrate.database import Database
from siasops.migrate.tables import SYSTEM

SHOWN = 8
"""Differences that are shown, at most."""
# A number alone is no identity: after pg_upgrade an extension's function may bear that of a table.
_OURS = f"{SYSTEM} AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = o.tableoid AND e.objid = o.oid AND e.deptype = 'e')"


def _grants(acl: str, kind: str = "", owner: str = "") -> str:
    """SQL that writes a list of grants as text.

    Without MAINTAIN, which 17 adds to whoever had everything. No list means the default one of that kind of thing, and a
    dump leaves a list out that says the same: both are written alike.
    """
    listed = f"coalesce({acl}, acldefault({kind}, {owner}))" if kind else acl
    return f"""(SELECT string_agg(concat_ws(' ', g.grantee::regrole, g.privilege_type, g.is_grantable), ', '
   ORDER BY g.grantee::regrole::text, g.privilege_type) FROM aclexplode({listed}) g WHERE g.privilege_type <> 'MAINTAIN')"""


_OF_RELATION = _grants("o.relacl", """CASE o.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END""", "o.relowner")
_OF_FUNCTION = _grants("o.proacl", "'f'", "o.proowner")
_OF_SCHEMA = _grants("n.nspacl", "'n'", "n.nspowner")
_OF_DATABASE = _grants("d.datacl", "'d'", "d.datdba")
_LIST = re.compile(r"\(ARRAY\[((?:'(?:[^']|'')*'::character varying(?:, )?)+)\]\)::text\[\]")
_ELEMENT = re.compile(r"'(?:[^']|'')*'::character varying")
PARTS: Mapping[str, str] = {
    "relation": f"""SELECT n.nspname || '.' || o.relname AS name, concat_ws(' ', o.relkind, o.relpersistence, o.relreplident,
        o.relrowsecurity,
        o.relowner::regrole, o.reloptions, {_OF_RELATION}) AS text
        FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace WHERE o.relkind IN ('r', 'p', 'v', 'm', 'S') AND {_OURS}""",
    "column": f"""SELECT n.nspname || '.' || o.relname || '.' || a.attname AS name, concat_ws(' ',
        format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attstorage, a.attcompression,
        c.collname, pg_get_expr(d.adbin, d.adrelid), {_grants('a.attacl')}) AS text FROM pg_class o
        JOIN pg_namespace n ON n.oid = o.relnamespace JOIN pg_attribute a ON a.attrelid = o.oid
        LEFT JOIN pg_attrdef d ON d.adrelid = o.oid AND d.adnum = a.attnum LEFT JOIN pg_collation c ON c.oid = a.attcollation
        WHERE o.relkind IN ('r', 'p', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped AND {_OURS}""",
    "constraint": f"""SELECT n.nspname || '.' || coalesce(nullif(o.conrelid, 0)::regclass::text, '') || '.' || o.conname AS name,
        concat_ws(' ', pg_get_constraintdef(o.oid), o.convalidated, o.condeferrable, o.condeferred) AS text
        FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace WHERE {_OURS}""",
    "index": f"""SELECT n.nspname || '.' || o.relname AS name, concat_ws(' ', pg_get_indexdef(o.oid), i.indisvalid, i.indisready,
        i.indisreplident) AS text FROM pg_index i JOIN pg_class o ON o.oid = i.indexrelid
        JOIN pg_namespace n ON n.oid = o.relnamespace WHERE {_OURS}""",
    "view": f"""SELECT n.nspname || '.' || o.relname AS name, pg_get_viewdef(o.oid) AS text FROM pg_class o
        JOIN pg_namespace n ON n.oid = o.relnamespace WHERE o.relkind IN ('v', 'm') AND {_OURS}""",
    "function": f"""SELECT n.nspname || '.' || o.proname || '(' || pg_get_function_identity_arguments(o.oid) || ')' AS name,
        concat_ws(' ', pg_get_function_result(o.oid), o.prokind, o.provolatile, o.proisstrict, o.prosecdef, o.proparallel,
        o.proconfig, o.proowner::regrole, {_OF_FUNCTION}, o.prosrc) AS text FROM pg_proc o
        JOIN pg_namespace n ON n.oid = o.pronamespace WHERE {_OURS}""",
    "trigger": f"""SELECT n.nspname || '.' || c.relname || '.' || o.tgname AS name,
        pg_get_triggerdef(o.oid) || ' ' || o.tgenabled::text AS text FROM pg_trigger o JOIN pg_class c ON c.oid =
        o.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT o.tgisinternal AND {_OURS}""",
    "policy": f"""SELECT n.nspname || '.' || c.relname || '.' || o.polname AS name, concat_ws(' ', o.polcmd, o.polpermissive,
        o.polroles::regrole[], pg_get_expr(o.polqual, c.oid), pg_get_expr(o.polwithcheck, c.oid)) AS text FROM pg_policy o
        JOIN pg_class c ON c.oid = o.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_OURS}""",
    "type": f"""SELECT n.nspname || '.' || o.typname AS name, concat_ws(' ', o.typtype, format_type(o.typbasetype, o.typtypmod),
        o.typnotnull, o.typdefault, (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e
        WHERE e.enumtypid = o.oid)) AS text FROM pg_type o JOIN pg_namespace n ON n.oid = o.typnamespace
        WHERE o.typtype IN ('e', 'd', 'r', 'm') AND {_OURS}""",
    "schema": f"""SELECT n.nspname AS name, concat_ws(' ', n.nspowner::regrole, {_OF_SCHEMA}) AS text
        FROM pg_namespace n WHERE {SYSTEM}""",
    "extension": "SELECT extname AS name, '' AS text FROM pg_extension",
    "default privilege": f"""SELECT concat_ws(' ', d.defaclrole::regrole,
        d.defaclnamespace::regnamespace, d.defaclobjtype) AS name,
        {_grants('d.defaclacl')} AS text FROM pg_default_acl d""",
    "role": """SELECT rolname AS name, concat_ws(' ', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin,
        rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil,
        md5(rolpassword)) AS text FROM pg_authid WHERE rolname !~ '^pg_'""",
    "membership": """SELECT roleid::regrole || ' ' || member::regrole AS name, max(admin_option::text) AS text
        FROM pg_auth_members WHERE member >= 16384 GROUP BY 1""",
    "setting of a role": """SELECT concat_ws(' ', d.datname, nullif(s.setrole, 0)::regrole) AS name, s.setconfig::text AS text
        FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase
        WHERE s.setdatabase = 0 OR d.datname = current_database()""",
    "database": f"""SELECT d.datname AS name, concat_ws(' ', d.datdba::regrole, pg_encoding_to_char(d.encoding), d.datconnlimit,
        {_OF_DATABASE}) AS text FROM pg_database d WHERE d.datname = current_database()""",
}  # fmt: skip
"""What is compared: for each kind of thing, a query of names and texts."""
_SETTINGS = """SELECT name, setting || coalesce(unit, '') AS text, boot_val IS DISTINCT FROM setting AS ours FROM pg_settings
 WHERE context <> 'internal'"""
OWN = frozenset({
    "application_name", "archive_command", "archive_mode", "cluster_name", "config_file", "data_directory", "event_source",
    "external_pid_file", "hba_file", "ident_file", "listen_addresses", "port", "primary_conninfo", "primary_slot_name",
    "recovery_target_timeline", "restore_command", "synchronous_standby_names", "unix_socket_directories", "log_directory",
    "log_file_mode", "transaction_isolation", "transaction_read_only", "client_encoding", "client_min_messages",
})  # fmt: skip
"""Settings that are each cluster's, or each session's, own."""


def things(database: Database) -> dict[str, str]:
    """Everything that is compared: `kind name` to text."""
    found = {}
    for kind, query in PARTS.items():
        for row in database.ask(query):
            text = row["text"] or ""
            if kind != "function":  # a function's text is kept as it was written
                text = _parsed_again(text)
            found[f"{kind} {row['name']}"] = _plain(text) if kind in {"view", "policy"} else text
    return found


def same(source: Database, target: Database, *, expected: frozenset[str] = frozenset()) -> Line:
    """Judge the schema, the roles and the grants of one database against another's.

    Args:
        source: the truth.
        target: the other.
        expected: `kind name` of what may differ.
    """
    what, here, there = "Schema, roles and grants are the same", things(source), things(target)
    differ = [_say(key, here.get(key), there.get(key)) for key in sorted(here.keys() | there.keys())
              if here.get(key) != there.get(key) and key not in expected]  # fmt: skip
    if differ:
        more = f"; and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
        return Line(
            False,
            what,
            "; ".join(differ[:SHOWN]) + more,
            "The schema is frozen during a migration: find who changed it.",
        )
    return Line(bool(here), what, f"{len(here)} things compared", "" if here else "Nothing was compared.")


def valid(database: Database) -> Line:
    """Judge indexes and constraints: none may be invalid or not validated."""
    rows = database.ask(
        f"""SELECT 'index ' || n.nspname || '.' || c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT (i.indisvalid AND i.indisready) AND {SYSTEM}
            UNION ALL SELECT 'constraint ' || n.nspname || '.' || o.conname FROM pg_constraint o
            JOIN pg_namespace n ON n.oid = o.connamespace WHERE NOT o.convalidated AND {SYSTEM} ORDER BY 1"""
    )
    names = ", ".join(row["name"] for row in rows)
    return Line(not rows, "Every index and constraint is valid", names or "all are",
                "REINDEX CONCURRENTLY, or VALIDATE CONSTRAINT." if rows else "")  # fmt: skip


def settings(source: Database, target: Database, accepted: Mapping[str, str]) -> Line:
    """Judge settings: what somebody set on the source must count on the target.

    Args:
        source: the truth.
        target: the other.
        accepted: by name, why a setting differs.
    """
    what = "What was set on the former cluster is set on the new one"
    here = {row["name"]: row for row in source.ask(_SETTINGS)}
    there = {row["name"]: row["text"] for row in target.ask(_SETTINGS)}
    ours = {name: row["text"] for name, row in here.items() if row["ours"] and name not in OWN}
    differ = [f"{name}: {text} here, {there.get(name, 'unknown')} there" for name, text in ours.items()
              if there.get(name) != text and name not in accepted]  # fmt: skip
    if differ:
        return Line(False, what, "; ".join(differ), "Carry it over, or accept it with a reason.")
    return Line(
        bool(ours), what, f"{len(ours)} settings compared" + (f", accepted: {', '.join(accepted)}" if accepted else "")
    )


def _say(key: str, here: str | None, there: str | None) -> str:
    if there is None:
        return f"{key} is missing"
    if here is None:
        return f"{key} is too many"
    if key.startswith("role "):
        return f"{key} differs"  # a text of it speaks of its password
    return f"{key}: {here[:160]} here, {there[:160]} there"


def _parsed_again(text: str) -> str:
    """A rule's text as PostgreSQL writes it once it was read from a dump: an IN list of strings is cast element by element."""

    def each(found: re.Match[str]) -> str:
        return f"ARRAY[{', '.join(f'({element})::text' for element in _ELEMENT.findall(found[1]))}]"

    return _LIST.sub(each, text)


def _plain(text: str) -> str:
    """The text of a rule without what versions write differently: blanks, parentheses, and names of tables before columns."""
    return re.sub(r"[\s()]+", " ", re.sub(r'\b(?:\w+|"[^"]+")\.', "", text)).strip()
