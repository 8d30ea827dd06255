"""One database of one cluster, asked for rows as plain data, in a session whose text forms are the same everywhere.

The controller reaches no database port: questions travel over SSH to the database host and are put there by psql, as the
system user postgres, through the local socket.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from siasops.errors import UserError
from siasops.remote import Fleet

SESSION = {
    "datestyle": "ISO, YMD",
    "timezone": "UTC",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "xmloption": "content",
    "search_path": "pg_catalog",
    "row_security": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""What turns a value into text, so that equal rows have equal text on both sides; and nothing that cuts a long reading."""
PREAMBLE = "".join(f"SET {name} = '{value}';\n" for name, value in SESSION.items())
LIMIT = 3600.0
"""Seconds that one question may take: a hash of the largest table, on a busy host."""


class Database(Protocol):
    """Where questions are put. `name` is how sentences call it, such as “sias on db-a1:5432”."""

    @property
    def name(self) -> str:
        """How sentences call it."""
        ...

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Put one SELECT, in a session as `SESSION` says; rows as dictionaries of JSON's types.

        Raises:
            UserError: it cannot be answered.
        """
        ...

    def do(self, statements: str) -> None:
        """Run statements, each in a transaction of its own, until one fails.

        Raises:
            UserError: one failed, with its error.
        """
        ...

    def raw(self, statements: str) -> list[str]:
        """Run statements in one session until one fails; the first column of every row that any of them answers.

        Raises:
            UserError: one failed, with its error.
        """
        ...


def as_json(query: str) -> str:
    """Wrap a query so that it answers one JSON array of objects; integers of any size stay exact."""
    return f"SELECT coalesce(json_agg(to_json(answer)), '[]')::text FROM ({query}) AS answer"


@dataclass(frozen=True)
class Psql:
    """A database of a cluster that runs on a host of the platform."""

    fleet: Fleet
    host: str
    port: int
    database: str

    @property
    def name(self) -> str:
        """How sentences call it."""
        return f"{self.database} on {self.host}:{self.port}"

    def ask(self, query: str) -> list[dict[str, Any]]:
        """See `Database.ask`."""
        answer: list[dict[str, Any]] = json.loads(self._psql(f"{PREAMBLE}{as_json(query)};\n"))
        return answer

    def do(self, statements: str) -> None:
        """See `Database.do`."""
        self._psql(f"SET client_min_messages = warning;\n{statements}\n")

    def raw(self, statements: str) -> list[str]:
        """See `Database.raw`."""
        # Rows end with a zero byte: an answer may have many lines.
        return self._psql(f"SET client_min_messages = warning;\n{statements}\n", "-0").split("\0")[:-1]

    def _psql(self, text: str, *options: str) -> str:
        # The text goes by standard input: a command line is seen by everyone on the host.
        command = ["runuser", "-u", "postgres", "--", "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
                   "-h", "/var/run/postgresql", "-p", str(self.port), "-d", self.database, *options]  # fmt: skip
        result = self.fleet.run(self.host, command, stdin=text, timeout=LIMIT)
        if not result.ok:
            said = (result.stderr or result.stdout).strip()
            raise UserError(f"{self.name} refused or did not answer: {said[-600:]}")
        return result.stdout


def literal(text: str | None) -> str:
    """Quote a value for SQL."""
    if text is None:
        return "NULL"
    # A backslash needs nothing: standard_conforming_strings is on in every supported version.
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'
