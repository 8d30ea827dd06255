"""Rights of the application's role on tables that another role owns."""

from django.apps import apps
from django.db import connections, transaction

from sias.platform.schema import frozen

APPLICATION_ROLE = "sias_app"
STATEMENTS = (
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {role}",
    # The application reads which migrations ran; only the owner writes it.
    "REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM {role}",
)


def grant_application_role(using: str, **_kwargs: object) -> None:
    """Let the application read and write what its owner has just created: no ownership, no TRUNCATE, no DDL.

    A module takes away what must only grow, or only be read: `sias_revokes` of its AppConfig, same transaction. While the
    schema is held still nothing has been created, and rights are part of it: they stay as they are.
    """
    if frozen(connections[using]):
        return
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute("SELECT current_user, EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", [APPLICATION_ROLE])
        user, exists = cursor.fetchone()
        if not exists or user == APPLICATION_ROLE:
            return
        revokes = [line for module in apps.get_app_configs() for line in getattr(module, "sias_revokes", ())]
        for statement in (*STATEMENTS, *revokes):
            cursor.execute(statement.format(role=APPLICATION_ROLE))
