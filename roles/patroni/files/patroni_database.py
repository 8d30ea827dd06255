#!/usr/bin/env python3
"""Make the database, its roles and its grants as they should be, on the primary, as the system user postgres.

Reads one JSON object on standard input (passwords come this way and no other):

    {"database": "sias", "owner": "sias_owner", "application": "sias_app", "monitor": "sias_monitor",
     "drill": "sias_drill" or null,
     "passwords": {"sias_app": "…", …}, "connection_limits": {"sias_app": 120, …}, "check": false}

Prints {"changed": true|false, "what": […]}. A password is compared with the verifier that PostgreSQL keeps, and sent as
a verifier: it never appears in a statement, so that no journal can hold it. Grants are applied in one transaction that
is rolled back when it changes nothing, so that a second run writes nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

ITERATIONS = 4096
"""Rounds of PBKDF2, PostgreSQL's own number."""
UNLIMITED = -1
SOCKET = "/var/run/postgresql"
ATTRIBUTES = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolcanlogin", "rolreplication", "rolbypassrls")
AMCHECK = sql.SQL("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA pg_catalog")
"""Says whether indexes are whole, for superusers. In every database that holds data: a standby cannot make it when asked."""
MAINTAINED = ("postgres", "replicator", "rewinder")
"""Roles that Patroni makes; only their passwords are kept here."""


def scram_verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """The verifier that PostgreSQL keeps of a password (RFC 5803 form)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def matches(verifier: str | None, password: str) -> bool:
    """Whether a kept verifier is that of the password."""
    if verifier is None or not verifier.startswith("SCRAM-SHA-256$"):
        return False
    try:
        rounds, salt = verifier.split("$")[1].split(":")
        return hmac.compare_digest(verifier, scram_verifier(password, base64.b64decode(salt), int(rounds)))
    except (ValueError, IndexError):
        return False


@dataclass
class Change:
    """Applies statements and remembers what they changed."""

    check: bool
    what: list[str] = field(default_factory=list)

    def do(self, connection: psycopg.Connection[Any], statement: sql.Composed, what: str) -> None:
        """Run a statement unless only checking."""
        self.what.append(what)
        if not self.check:
            connection.execute(statement)


def keep_role(connection: psycopg.Connection[Any], name: str, password: str, limit: int, change: Change) -> None:
    """Make a role, or mend its attributes, its limit and its password."""
    query = sql.SQL("SELECT {}, rolconnlimit, rolpassword FROM pg_authid WHERE rolname = %s").format(
        sql.SQL(", ").join(map(sql.Identifier, ATTRIBUTES))
    )
    found = connection.execute(query, (name,)).fetchone()
    role = sql.Identifier(name)
    if found is None:
        change.do(connection, sql.SQL("CREATE ROLE {} LOGIN").format(role), f"role {name} made")
        plain, current_limit, verifier = True, -1, None
    else:
        expected = tuple(attribute == "rolcanlogin" for attribute in ATTRIBUTES)
        plain, current_limit, verifier = found[: len(ATTRIBUTES)] == expected, found[-2], found[-1]
    if name not in MAINTAINED:
        if not plain:
            options = sql.SQL("ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS")
            change.do(connection, options.format(role), f"role {name}: attributes mended")
        if current_limit != limit:
            statement = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(role, sql.Literal(limit))
            change.do(connection, statement, f"role {name}: {limit} connections")
    if not matches(verifier, password):
        fresh = scram_verifier(password, os.urandom(16))
        statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(fresh))
        change.do(connection, statement, f"role {name}: password set")


def state_of(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Everything that `grants` may change, to see whether it did."""
    queries = (
        "SELECT datname::text, datacl::text FROM pg_database WHERE datname = current_database()",
        "SELECT nspname::text, nspowner::text, nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)' ORDER BY 1",
        "SELECT defaclrole::text, defaclnamespace::text, defaclobjtype::text, defaclacl::text"
        " FROM pg_default_acl ORDER BY 1, 2, 3",
        "SELECT setdatabase::text, setrole::text, setconfig::text FROM pg_db_role_setting ORDER BY 1, 2",
        "SELECT roleid::text, member::text FROM pg_auth_members ORDER BY 1, 2",
        "SELECT extname::text FROM pg_extension ORDER BY 1",
    )
    return [row for query in queries for row in connection.execute(query.encode()).fetchall()]


def grants(wanted: dict[str, Any]) -> list[sql.Composed]:
    """Statements that give each role what it needs in the database; all of them may be run again."""
    database, owner, application, monitor = (
        sql.Identifier(wanted[key]) for key in ("database", "owner", "application", "monitor")
    )
    defaults = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA public ").format(owner)
    statements = [
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database),
        sql.SQL("GRANT CONNECT ON DATABASE {} TO {}, {}").format(database, application, monitor),
        sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}").format(database, application),
        sql.SQL("REVOKE CREATE ON SCHEMA public FROM PUBLIC").format(),
        sql.SQL("GRANT USAGE ON SCHEMA public TO {}, {}").format(application, monitor),
        defaults + sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {}").format(application),
        defaults + sql.SQL("GRANT USAGE, SELECT ON SEQUENCES TO {}").format(application),
        sql.SQL("GRANT pg_monitor TO {}").format(monitor),
        sql.SQL("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").format(),
        AMCHECK.format(),
    ]
    if wanted["drill"]:
        drill = sql.Identifier(wanted["drill"])
        statements += [
            sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, drill),
            sql.SQL("CREATE SCHEMA IF NOT EXISTS drill AUTHORIZATION {}").format(drill),
            sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = drill").format(drill, database),
        ]
    return statements


def connect(database: str) -> psycopg.Connection[Any]:
    """Open the local socket as postgres; synchronous replication may make a commit wait, but not for ever."""
    return psycopg.connect(host=SOCKET, user="postgres", dbname=database, connect_timeout=10, autocommit=True)


def apply(wanted: dict[str, Any]) -> list[str]:
    """Make everything so.

    Returns:
        What was changed (or, when checking, would be), in words.
    """
    change = Change(check=bool(wanted["check"]))
    with connect("postgres") as connection:
        for name, password in wanted["passwords"].items():
            keep_role(connection, name, password, int(wanted["connection_limits"].get(name, UNLIMITED)), change)
        exists = connection.execute("SELECT FROM pg_database WHERE datname = %s", (wanted["database"],)).fetchone()
        if exists is None:
            statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(
                sql.Identifier(wanted["database"]), sql.Identifier(wanted["owner"])
            )
            change.do(connection, statement, f"database {wanted['database']} made")
            if change.check:
                return change.what
    keep(wanted["database"], grants(wanted), "grants", change)
    keep("postgres", [AMCHECK.format()], "extensions", change)
    return change.what


def keep(database: str, statements: list[sql.Composed], what: str, change: Change) -> None:
    """Apply statements in one transaction, which is rolled back when it changes nothing, or only checks.

    Raises:
        psycopg.Error: it would change a schema that a migration has frozen, and that another cluster follows.
    """
    with connect(database) as connection:
        connection.execute("SET client_min_messages = warning")
        frozen = connection.execute("SELECT FROM pg_event_trigger WHERE evtname = 'sias_migration_freeze'").fetchone()
        connection.execute("SET sias.migration = on")  # to look; what would change something is refused below
        connection.execute("BEGIN")
        before = state_of(connection)
        for statement in statements:
            connection.execute(statement)
        differs = state_of(connection) != before
        if differs and frozen is not None and not change.check:
            connection.execute("ROLLBACK")
            raise psycopg.Error(
                f"{what} in {database} would change, and a migration has frozen it: settle it or take it back"
            )
        connection.execute("COMMIT" if differs and not change.check else "ROLLBACK")
        if differs:
            change.what.append(f"{what} in {database}")


def main() -> int:
    """Read what is wanted from standard input."""
    try:
        what = apply(json.load(sys.stdin))
    except psycopg.Error as error:
        print(f"the database was not made as it should be: {str(error).strip()}", file=sys.stderr)
        return 1
    print(json.dumps({"changed": bool(what), "what": what}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
