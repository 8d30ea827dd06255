"""The hard fence: nobody but a superuser reaches a database, whatever a session may set for itself.

CONNECT is taken from everyone who has it, the database takes no connection of others, and who was there is cut off. The soft
fence (`default_transaction_read_only`) is of no use here: any session can lift it. Logical replication's own workers go on.
"""

from __future__ import annotations

import time
from typing import Any

from siasops.errors import UserError
from siasops.migrate.database import Database, identifier, literal

_ACCESS = """
SELECT datname AS name, datconnlimit AS connections,
       (SELECT coalesce(json_agg(CASE a.grantee WHEN 0 THEN NULL ELSE a.grantee::regrole::text END ORDER BY a.grantee), '[]')
          FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) a WHERE a.privilege_type = 'CONNECT') AS may
  FROM pg_database WHERE datname = current_database()
"""
_OTHERS = """FROM pg_stat_activity a JOIN pg_roles r ON r.rolname = a.usename WHERE a.datname = current_database()
 AND a.backend_type = 'client backend' AND NOT r.rolsuper"""


def access(database: Database) -> dict[str, Any]:
    """Who may come in, as plain data: to be kept before `close`, for `open_again`."""
    (row,) = database.ask(_ACCESS)
    return row


def close(database: Database, before: dict[str, Any], *, deadline: float = 2.0) -> None:
    """Shut everyone out and cut everyone off; harmless when it is closed.

    Raises:
        UserError: somebody is still there.
    """
    name = identifier(before["name"])
    cut = f"SELECT count(pg_terminate_backend(a.pid)) {_OTHERS};"
    database.do(
        f"BEGIN; REVOKE CONNECT ON DATABASE {name} FROM {_grantees(before)}; ALTER DATABASE {name} CONNECTION LIMIT 0; COMMIT;"
        f" {cut}"
    )
    end = time.monotonic() + deadline
    while True:
        left = database.ask(
            f"SELECT a.usename || ' from ' || coalesce(a.client_addr::text, 'this host') AS who {_OTHERS}"
        )
        if not left:
            return
        if time.monotonic() > end:
            raise UserError(f"{database.name} is closed, and still there: {', '.join(row['who'] for row in left[:5])}.")
        time.sleep(0.02)
        database.do(cut)


def opening(before: dict[str, Any]) -> list[str]:
    """Statements that let in who came in before; harmless when it is open."""
    name = identifier(before["name"])
    return [
        f"GRANT CONNECT ON DATABASE {name} TO {_grantees(before)}",
        f"ALTER DATABASE {name} CONNECTION LIMIT {int(before['connections'])}",
    ]


def open_again(database: Database, before: dict[str, Any]) -> None:
    """Let in who came in before; harmless when it is open."""
    database.do("BEGIN; " + "; ".join(opening(before)) + "; COMMIT;")


def closed(database: Database) -> bool:
    """Whether nobody but a superuser can come in."""
    (row,) = database.ask(_ACCESS)
    return bool(row["connections"] == 0 and row["may"] == [])


def _grantees(before: dict[str, Any]) -> str:
    if not before["may"]:
        raise UserError(f"Nobody may connect to {literal(before['name'])}: who should come in again is not known.")
    # regrole's text is quoted where it must be.
    return ", ".join("PUBLIC" if role is None else role for role in before["may"])
