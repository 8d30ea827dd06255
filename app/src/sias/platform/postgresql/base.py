"""PostgreSQL that may move to another host at any moment, reached through the PgBouncer of this host.

Why not psycopg_pool, nor Django's `OPTIONS["pool"]`: PgBouncer already is the pool, a Unix socket away; after a failed
connection psycopg_pool waits 1, 2, 4, 8 s, longer than the failover itself; and Django 5.2 refuses a `check`. Each
thread keeps one connection, proves with the BEGIN of a request that it leads to a primary (a bare `SELECT 1` would accept
a demoted one), and asks for another until a short deadline.

What else differs from Django's engine:

* each transaction starts with its own statement and lock time-outs and with what row-level security must know of the
  agent (`SET LOCAL`: safe under transaction pooling; see session.py), all of it and the proof in one round trip;
* COMMIT has none: a statement_timeout that fires while the commit waits for the other room would cancel the wait, and
  the row would stay in one room only;
* a COMMIT answered with a WARNING of such a cancelled wait is not acknowledged: UnacknowledgedCommitError;
* the position in the write-ahead log after each COMMIT is kept, so that a replica can be asked whether it has it.
"""

import select
import time

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base
from django.db.backends.utils import debug_transaction
from django.db.utils import OperationalError
from psycopg import pq, sql

from sias.platform.postgresql import session

CHECK = b"SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"
REPLAYED = sql.SQL("NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= {}::pg_lsn")


class UnacknowledgedCommitError(OperationalError):
    """The row is durable here, but the other room has not confirmed: the write is not acknowledged."""


def ask(connection: psycopg.Connection, query: bytes, seconds: float | None) -> list[bytes | None]:
    """Return the last row of `query` (one statement or several), or raise psycopg.OperationalError after `seconds`.

    PgBouncer accepts a query while it has no server and answers minutes later; libpq has no time-out for that. None
    waits as long as PgBouncer does.
    """
    link = connection.pgconn
    deadline = None if seconds is None else time.monotonic() + seconds
    link.send_query(query)
    poller = select.poll()
    row: list[bytes | None] | None = None
    while True:
        pending = link.flush()
        poller.register(link.socket, select.POLLIN | (select.POLLOUT if pending else 0))
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poller.poll(left):
            raise psycopg.OperationalError(f"the database gave no answer within {seconds} s")
        link.consume_input()
        while not link.is_busy():
            result = link.get_result()
            if result is None:
                if row is None:
                    raise psycopg.OperationalError("the database closed the connection")
                return row
            if result.status == pq.ExecStatus.TUPLES_OK:
                row = [result.get_value(0, column) for column in range(result.nfields)]
            elif result.status != pq.ExecStatus.COMMAND_OK:
                error = psycopg.errors.error_from_result(result)
                raise error if error.sqlstate else psycopg.OperationalError(str(error))


class DatabaseWrapper(base.DatabaseWrapper):
    """See the module."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.commit_warning: str | None = None
        self.commit_in_doubt = False  # COMMIT was sent and nothing came back yet
        self.deadline: float | None = None  # time.monotonic() until which a connection is worth waiting for
        self.position: str | None = None  # write-ahead log position after the last COMMIT of this connection
        self.wanted: str | None = None  # position that a replica must have replayed for what is read now
        self.replayed = False  # whether it had when the transaction began
        self._due = False  # the next BEGIN has to prove the connection

    @property
    def require_primary(self) -> bool:
        """Whether this alias is for writes."""
        return bool(self.settings_dict["OPTIONS"].get("require_primary"))

    def get_connection_params(self) -> dict:
        """Drop the options that are ours."""
        params = super().get_connection_params()
        params.pop("require_primary", None)
        return params

    def get_new_connection(self, conn_params: dict) -> psycopg.Connection:
        """Connect; ask again until the deadline when there is no server, or only one that cannot write.

        The deadline is the request's, set by the failover middleware; SIAS_PRIMARY_WAIT from now without one.
        """
        deadline = self.deadline or time.monotonic() + settings.SIAS_PRIMARY_WAIT
        while True:
            connection = None
            try:
                connection = super().get_new_connection(conn_params)
                self._prove(connection)
            except psycopg.OperationalError as error:
                if connection is not None:
                    connection.close()
                if time.monotonic() >= deadline or not _worth_another_try(error):
                    raise
                time.sleep(0.1)  # between attempts inside a deadline
            else:
                connection.add_notice_handler(self._on_notice)
                return connection

    def _prove(self, connection: psycopg.Connection) -> None:
        self._judge(ask(connection, CHECK, self._patience()))

    def _patience(self) -> float:
        # Who needs the primary waits in PgBouncer's queue as long as the request may: a connection that is given up
        # earlier only costs another handshake, on a host that is short of time already.
        seconds = settings.SIAS_CHECK_TIMEOUT
        if self.require_primary and self.deadline is not None:
            seconds = max(seconds, self.deadline - time.monotonic())
        return seconds

    def _judge(self, row: list[bytes | None]) -> None:
        recovering, read_only = row[:2]
        if self.require_primary and (recovering == b"t" or read_only == b"t"):
            raise psycopg.errors.CannotConnectNow("the server answers but cannot write: not the primary, or fenced")

    def is_usable(self) -> bool:
        """Tell whether the connection still leads where it should; Django asks where no transaction begins."""
        if self.connection is None or self.connection.closed:
            return False
        try:
            self._prove(self.connection)
        except psycopg.Error:
            return False
        return True

    def _on_notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if self.commit_in_doubt and diagnostic.severity_nonlocalized == "WARNING" and diagnostic.sqlstate == "01000":
            self.commit_warning = diagnostic.message_primary

    def set_autocommit(self, autocommit: bool, *args: object, **kwargs: object) -> None:
        """Let the BEGIN of a transaction prove the connection, where Django asks first and begins then."""
        alive = self.connection is not None and not self.connection.closed
        if not autocommit and alive and self.health_check_enabled and not self.health_check_done:
            self._due = self.health_check_done = True
        try:
            super().set_autocommit(autocommit, *args, **kwargs)
        finally:
            self._due = False

    def _set_autocommit(self, autocommit: bool) -> None:
        super()._set_autocommit(autocommit)
        if autocommit:
            return
        self.commit_in_doubt = False
        due = self._due
        with self.wrap_database_errors:
            try:
                self._begin(self._patience() if due else None)
            except psycopg.Error:
                self.close()  # a transaction may be open in it
                if not due:
                    raise
                self.connect()
                super()._set_autocommit(False)
                self._begin(None)

    def _begin(self, seconds: float | None) -> None:
        """Open the transaction in one round trip: its limits, its agent, the proof, and what a replica has replayed.

        Server processes of PgBouncer are shared: only what ends with the transaction may be set.
        """
        proof = sql.SQL(CHECK.decode())
        if self.wanted and not self.require_primary:
            proof += sql.SQL(", ") + REPLAYED.format(self.wanted)
        row = ask(
            self.connection,
            sql.SQL("; ")
            .join(
                [
                    sql.SQL("BEGIN" if self.require_primary else "BEGIN READ ONLY"),
                    sql.SQL("SET LOCAL statement_timeout = {}").format(int(settings.SIAS_STATEMENT_TIMEOUT)),
                    sql.SQL("SET LOCAL lock_timeout = {}").format(int(settings.SIAS_LOCK_TIMEOUT)),
                    *session.statements(),
                    proof,
                ]
            )
            .as_bytes(self.connection),
            seconds,
        )
        self._judge(row)
        self.replayed = row[2:] == [b"t"]

    def say_settings(self) -> None:
        """Repeat the thread's settings in the transaction that is already open."""
        if self.in_atomic_block and (said := session.statements()):
            with self.wrap_database_errors:
                self.connection.execute(sql.SQL("; ").join(said))

    def _commit(self) -> None:
        if self.connection is None:
            return
        with debug_transaction(self, "COMMIT"), self.wrap_database_errors:
            status = self.connection.pgconn.transaction_status
            if status != pq.TransactionStatus.INTRANS:
                self.connection.commit()
                return
            self.commit_warning = None
            self.commit_in_doubt = True
            # One round trip. Each statement of the string has its own timer, so COMMIT runs without any.
            cursor = self.connection.execute(
                "SET LOCAL statement_timeout = 0; COMMIT; "
                "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_insert_lsn() END::text"
            )
            cursor.nextset()
            outcome = cursor.statusmessage
            cursor.nextset()
            self.position = cursor.fetchone()[0]
            self.commit_in_doubt = False
        if outcome != "COMMIT":
            raise OperationalError("the transaction had failed: the server rolled it back")
        if self.commit_warning is not None:
            self.commit_in_doubt = True
            raise UnacknowledgedCommitError(self.commit_warning)


def _worth_another_try(error: psycopg.OperationalError) -> bool:
    """A wrong password or an unknown database stays wrong; everything else may be a failover."""
    return not isinstance(
        error,
        (
            psycopg.errors.InvalidPassword,
            psycopg.errors.InvalidCatalogName,
            psycopg.errors.InvalidAuthorizationSpecification,
        ),
    ) and ("password authentication failed" not in str(error))
