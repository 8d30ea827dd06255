"""`sias-manage migrate`: Django's own, which nobody waits for.

Whoever changes a table asks for a lock, and everyone who comes later queues behind the question. So it asks for half a
second, lets the queue pass, and asks again. A statement that builds or drops an index beside the traffic (CONCURRENTLY) waits
for the transactions of others without stopping anybody: it may.
"""

import time
from collections.abc import Callable

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import OperationalError, connections
from django.db.migrations.executor import MigrationExecutor

AGAIN = {"55P03", "40P01"}
"""lock_not_available, deadlock_detected: another try may succeed, and nothing was done by this one."""
PAUSE = 1.0  # s between two tries: longer than anyone who queued needs to pass


class Command(migrate.Command):
    """Migrate, asking for each lock only briefly."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Arguments, beside Django's."""
        super().add_arguments(parser)
        parser.add_argument("--lock-limit", type=int, default=500, metavar="MS", help="attente d'un verrou (500)")
        parser.add_argument(
            "--statement-limit", type=int, default=0, metavar="MS", help="durée d'une instruction (0 : sans limite)"
        )
        parser.add_argument("--tries", type=int, default=30, help="essais, quand un verrou n'est pas obtenu (30)")

    def handle(self, *args: object, lock_limit: int, statement_limit: int, tries: int, **options: object) -> None:
        """Do it, again while a lock cannot be had.

        Raises:
            CommandError: it could not be had in all these tries; nothing of that migration was done.
        """
        settings.SIAS_LOCK_TIMEOUT, settings.SIAS_STATEMENT_TIMEOUT = lock_limit, statement_limit
        connection = connections[options["database"]]
        for left in range(tries - 1, -1, -1):
            drop_unfinished_indexes(connection)
            try:
                with connection.execute_wrapper(_Limits(lock_limit, statement_limit)):
                    super().handle(*args, **options)
            except OperationalError as error:
                if getattr(error.__cause__, "sqlstate", None) not in AGAIN:
                    raise
                if not left:
                    raise CommandError(f"pas de verrou en {tries} essais de {lock_limit} ms : {error}") from error
                self.stderr.write(f"verrou refusé, nouvel essai : {str(error).splitlines()[0]}")
                time.sleep(PAUSE)
            else:
                return


class _Limits:
    """Bounds each statement outside a transaction (inside, the engine does it; see postgresql/base.py)."""

    def __init__(self, lock: int, statement: int) -> None:
        self.lock, self.statement = lock, statement
        self.said: tuple[int, int] | None = None

    def __call__(self, execute: Callable, sql: str, params: object, many: bool, context: dict):
        connection = context["connection"]
        if not connection.in_atomic_block:
            wanted = (0, 0) if "CONCURRENTLY" in str(sql).upper() else (self.lock, self.statement)
            if wanted != self.said:
                # The owner keeps a session of PgBouncer's: what is set here is nobody else's.
                connection.connection.execute(f"SET lock_timeout = {wanted[0]}; SET statement_timeout = {wanted[1]}")
                self.said = wanted
        return execute(sql, params, many, context)


def drop_unfinished_indexes(connection) -> None:
    """Drop the indexes that an interrupted CONCURRENTLY left half-built, of migrations that are still to be done.

    Their migration would find the name taken.
    """
    executor = MigrationExecutor(connection)
    names = [
        operation.index.name
        for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())
        for operation in migration.operations
        if hasattr(operation, "index") and not migration.atomic
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE NOT i.indisvalid AND c.relname = ANY(%s) AND c.relnamespace = 'public'::regnamespace",
            [names],
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP INDEX CONCURRENTLY public.{connection.ops.quote_name(name)}")
