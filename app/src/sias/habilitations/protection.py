"""Row-level security on protected domains: a filter that was forgotten in the code shows nothing all the same.

It guards against our own omissions, not against someone who runs SQL of their choice as the application's role: such a
person could say `sias.domaines` too.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, migrations, transaction

from sias.platform.postgresql.session import said, say, session_settings
from sias.platform.routing import reads

_NAME = re.compile(r"^[a-z_][a-z0-9_]*$")


def protect(table: str, domain: str) -> migrations.RunSQL:
    """Make the migration operation that puts a table of a protected domain under row-level security.

    FORCE: its owner obeys too. NULL (nobody said who asks) is refused.
    """
    for name in (table, domain):
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is no name of a table or domain")
    rule = f"'{domain}' = ANY (string_to_array((SELECT current_setting('sias.domaines', TRUE)), ','))"
    return migrations.RunSQL(
        f"ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY;"
        f"ALTER TABLE public.{table} FORCE ROW LEVEL SECURITY;"
        f"CREATE POLICY {table}_domain ON public.{table} USING ({rule}) WITH CHECK ({rule});",
        f"DROP POLICY {table}_domain ON public.{table};"
        f"ALTER TABLE public.{table} NO FORCE ROW LEVEL SECURITY;"
        f"ALTER TABLE public.{table} DISABLE ROW LEVEL SECURITY;",
    )


@contextmanager
def acting_for_nobody(*domains: str) -> Iterator[None]:
    """Let the work of no agent (a duty, an import, a merge) see the rows of these protected domains, in a transaction."""
    alias, before = reads(), said("domaines")
    with session_settings(domaines=",".join(domains)), transaction.atomic(using=alias):
        connections[alias].say_settings()
        yield
        # SET LOCAL outlives a savepoint; when the block fails, its roll-back takes the setting away.
        say(domaines=before)
        connections[alias].say_settings()
