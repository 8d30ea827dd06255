"""One database of one cluster, asked for rows as plain data, in a session whose text forms are the same everywhere.

The controller reaches no database port: questions travel over SSH to the database host and are put there by psql, as the
system user postgres, through the local socket.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from siasops.errors import UserError
from siasops.remote import Fleet, RemoteError, Talk

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
AS_POSTGRES = ("runuser", "-u", "postgres", "--")
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

    def later(self, statements: str) -> None:
        """Start statements in a session that lives on by itself; nobody waits for it, and nobody sees its end."""
        ...


def as_json(query: str) -> str:
    """Wrap a query so that it answers one JSON array of objects; integers of any size stay exact."""
    return f"SELECT coalesce(json_agg(to_json(answer)), '[]')::text FROM ({query}) AS answer"


class _ByPsql(abc.ABC):
    """Puts questions to psql; how psql is reached is the heirs' own."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """How sentences call it."""

    @abc.abstractmethod
    def _psql(self, text: str) -> list[str]:
        """Run text; the first column of every row that it answers."""

    def ask(self, query: str) -> list[dict[str, Any]]:
        """See `Database.ask`."""
        (row,) = self._psql(f"{PREAMBLE}{as_json(query)};\n")
        answer: list[dict[str, Any]] = json.loads(row)
        return answer

    def do(self, statements: str) -> None:
        """See `Database.do`."""
        self.raw(statements)

    def raw(self, statements: str) -> list[str]:
        """See `Database.raw`."""
        # The semicolon at the end: a session would wait for the rest of a statement that lacks it, and run nothing.
        return self._psql(f"SET client_min_messages = warning; RESET search_path;\n{statements}\n;\n")


@dataclass(frozen=True)
class Psql(_ByPsql):
    """A database of a cluster that runs on a host of the platform; each question is a command of its own."""

    fleet: Fleet
    host: str
    port: int
    database: str
    limit: float = LIMIT
    """Seconds that one question may take; a short one where clients wait."""

    @property
    def name(self) -> str:
        """How sentences call it."""
        return f"{self.database} on {self.host}:{self.port}"

    @property
    def command(self) -> list[str]:
        """The psql that is asked: rows end with a zero byte, because an answer may have many lines."""
        return ["psql", "-X", "-q", "-A", "-t", "-0", "-v", "ON_ERROR_STOP=1", "-h", "/var/run/postgresql",
                "-p", str(self.port), "-d", self.database]  # fmt: skip

    def later(self, statements: str) -> None:
        """See `Database.later`."""
        unit = ["systemd-run", "--quiet", "--collect", "--uid=postgres", "--property=StandardOutput=null"]
        self.fleet.run(self.host, [*unit, *self.command, "-c", statements], timeout=self.limit, check=True)

    def _psql(self, text: str) -> list[str]:
        # The text goes by standard input: a command line is seen by everyone on the host.
        result = self.fleet.run(self.host, [*AS_POSTGRES, *self.command], stdin=text, timeout=self.limit)
        if not result.ok:
            said = (result.stderr or result.stdout).strip()
            raise UserError(f"{self.name} refused or did not answer: {said[-600:]}")
        return result.stdout.split("\0")[:-1]


class Session(_ByPsql):
    """The same through one psql that stays: a question costs milliseconds, not the start of a command on a busy host.

    For one thread at a time. After an error the next question gets a psql of its own; a host that did not answer in time is
    not asked again: clients may be waiting, and whoever leads by then is somebody else's question.
    """

    _MARK = "-- sias: answered --"

    def __init__(self, place: Psql) -> None:
        """Nothing is started yet; `place.limit` bounds every answer."""
        self.place = place
        self._open = ExitStack()
        self._talk: Talk | None = None
        self._lost = ""

    @property
    def name(self) -> str:
        """How sentences call it."""
        return self.place.name

    def later(self, statements: str) -> None:
        """See `Database.later`."""
        self.place.later(statements)

    def close(self) -> None:
        """End the psql; harmless when there is none."""
        self._talk = None
        self._open.close()

    def _psql(self, text: str) -> list[str]:
        place = self.place
        if self._lost:
            raise UserError(self._lost)
        try:
            if self._talk is None:
                self._talk = self._open.enter_context(place.fleet.talk(place.host, [*AS_POSTGRES, *place.command]))
            answer = self._talk.ask(f"{text}\n\\echo '{self._MARK}'\n", f"{self._MARK}\n", timeout=place.limit)
        except RemoteError as error:
            self.close()
            said = f"{self.name} refused or did not answer: {error}"
            if isinstance(error.__cause__, OSError):  # the link, and not psql
                self._lost = said
            raise UserError(said) from error
        return answer.split("\0")[:-1]


@contextmanager
def session(place: Psql) -> Iterator[Session]:
    """Open a session for a block."""
    opened = Session(place)
    try:
        yield opened
    finally:
        opened.close()


def literal(text: str | None) -> str:
    """Quote a value for SQL."""
    if text is None:
        return "NULL"
    # A backslash needs nothing: standard_conforming_strings is on in every supported version.
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'
