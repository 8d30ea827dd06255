"""What this release wants of the schema, what the schema is, and what lies between: plain data, read without changing anything.

`sias release` asks the release that is about to come, and the one that runs, before anything is touched.
"""

from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

TABLES = """
SELECT c.relname, greatest(sum(coalesce(p.reltuples, c.reltuples)), 0)::bigint,
       sum(pg_relation_size(coalesce(p.oid, c.oid)))::bigint
FROM pg_class c LEFT JOIN LATERAL (
  SELECT leaf.oid, leaf.reltuples FROM pg_partition_tree(c.oid) t JOIN pg_class leaf ON leaf.oid = t.relid WHERE t.isleaf
) p ON c.relkind = 'p'
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') GROUP BY c.relname
"""
COLUMNS = """
SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
"""
INDEXES = """
SELECT t.relname, x.relname FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
WHERE t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p')
"""
FREEZE = "sias_migration_freeze"
"""The event trigger by which `sias migrate postgres` refuses every change of the schema."""


def describe(connection: BaseDatabaseWrapper) -> dict:
    """Return the release's version, its pending migrations with their SQL, what its models use, and what tables there are.

    `frozen`: whether the schema is held still, so that nothing of it can be done now.
    """
    tables = present(connection)
    uses = used()
    executor = MigrationExecutor(connection)
    plan = [migration for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    return {
        "version": settings.SIAS_VERSION,
        "frozen": frozen(connection),
        "pending": pending(connection, plan),
        "uses": uses,
        "missing": sorted(
            f"{table}.{column}"
            for table, columns in uses.items()
            for column in columns
            if column not in tables.get(table, {"columns": []})["columns"]
        ),
        "tables": tables,
    }


def frozen(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a migration to another PostgreSQL holds the schema still, from its beginning until it is settled."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = %s AND evtenabled IN ('O', 'A'))", [FREEZE]
        )
        return cursor.fetchone()[0]


def pending(connection: BaseDatabaseWrapper, plan: list) -> list[dict]:
    """Return each migration with the statements that it would send; what only Python does is named."""
    loader = MigrationLoader(connection, replace_migrations=False)
    return [
        {
            "name": f"{migration.app_label}.{migration.name}",
            "atomic": migration.atomic,
            "operations": len(migration.operations),
            "sql": [line for line in loader.collect_sql([(migration, False)]) if not line.startswith("--")],
            "python": [
                operation.describe() for operation in migration.operations if not operation.reduces_to_sql
            ],
            # Rule to reason, written by whoever wrote the migration and has thought about it.
            "accepted": getattr(migration, "sias_accepted", {}),
        }
        for migration in plan
    ]  # fmt: skip


def used() -> dict[str, dict[str, dict]]:
    """Return the tables and columns that this release's models read and write: `null` says that it may write none."""
    options = [model._meta for model in apps.get_models(include_auto_created=True)]  # noqa: SLF001 - Django's public name
    return {
        one.db_table: {field.column: {"null": field.null} for field in one.concrete_fields}
        for one in options
        if one.managed and not one.proxy
    }


def present(connection: BaseDatabaseWrapper) -> dict[str, dict]:
    """Return every table that there is: rows as the planner estimates them, bytes, columns, indexes."""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(TABLES)
        found = {
            name: {"rows": rows, "bytes": size, "columns": [], "indexes": []} for name, rows, size in cursor.fetchall()
        }
        for key, query in (("columns", COLUMNS), ("indexes", INDEXES)):
            cursor.execute(query)
            for table, name in cursor.fetchall():
                found[table][key].append(name)
    return found
