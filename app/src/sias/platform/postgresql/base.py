"""PostgreSQL that may move to another host at any moment, reached through the PgBouncer of this host.

Why not psycopg_pool, nor Django's `OPTIONS["pool"]`: PgBouncer already is the pool, a Unix socket away; after a failed
connection psycopg_pool waits 1, 2, 4, 8 s, longer than the failover itself; and Django 5.2 refuses a `check`. Each
thread keeps one connection, proves at the start of a request that it leads to a primary (a bare `SELECT 1` would accept
a demoted one), and asks for another until a short deadline.

What else differs from Django's engine:

* each transaction starts with its own statement and lock time-outs and with what row-level security must know of the
  agent (`SET LOCAL`: safe under transaction pooling; see session.py);
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


class UnacknowledgedCommitError(OperationalError):
    """The row is durable here, but the other room has not confirmed: the write is not acknowledged."""


def ask(connection: psycopg.Connection, query: bytes, seconds: float) -> list[bytes | None]:
    """Return the first row of `query`, or raise psycopg.OperationalError after `seconds`.

    PgBouncer accepts a query while it has no server and answers minutes later; libpq has no time-out for that.
    """
    link = connection.pgconn
    deadline = time.monotonic() + seconds
    link.send_query(query)
    poller = select.poll()
    while True:
        pending = link.flush()
        poller.register(link.socket, select.POLLIN | (select.POLLOUT if pending else 0))
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise psycopg.OperationalError(f"the database gave no answer within {seconds} s")
        link.consume_input()
        if not link.is_busy():
            break
    result = link.get_result()
    while link.get_result() is not None:
        pass
    if result is None or result.status != pq.ExecStatus.TUPLES_OK:
        raise psycopg.OperationalError(result.get_error_message() if result else "the database closed the connection")
    return [result.get_value(0, column) for column in range(result.nfields)]


class DatabaseWrapper(base.DatabaseWrapper):
    """See the module."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.commit_warning: str | None = None
        self.commit_in_doubt = False  # COMMIT was sent and nothing came back yet
        self.deadline: float | None = None  # time.monotonic() until which a connection is worth waiting for
        self.position: str | None = None  # write-ahead log position after the last COMMIT of this connection

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
        # Who needs the primary waits in PgBouncer's queue as long as the request may: a connection that is given up
        # earlier only costs another handshake, on a host that is short of time already.
        seconds = settings.SIAS_CHECK_TIMEOUT
        if self.require_primary and self.deadline is not None:
            seconds = max(seconds, self.deadline - time.monotonic())
        recovering, read_only = ask(connection, CHECK, seconds)
        if self.require_primary and (recovering == b"t" or read_only == b"t"):
            raise psycopg.errors.CannotConnectNow("the server answers but cannot write: not the primary, or fenced")

    def is_usable(self) -> bool:
        """Tell whether the connection still leads where it should; Django asks at the start of each request."""
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

    def _set_autocommit(self, autocommit: bool) -> None:
        super()._set_autocommit(autocommit)
        if not autocommit:
            self.commit_in_doubt = False
            # Server processes of PgBouncer are shared: only what ends with the transaction may be set.
            with self.wrap_database_errors:
                self.connection.execute(
                    sql.SQL("; ").join(
                        [
                            sql.SQL("SET LOCAL statement_timeout = {}").format(int(settings.SIAS_STATEMENT_TIMEOUT)),
                            sql.SQL("SET LOCAL lock_timeout = {}").format(int(settings.SIAS_LOCK_TIMEOUT)),
                            *session.statements(),
                        ]
                    )
                )

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
