"""Row-level security on protected domains: a filter that was forgotten in the code shows nothing all the same.

It guards against our own omissions, not against someone who runs SQL of their choice as the application's role: such a
person could say `sias.domaines` too.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, migrations, transaction

from sias.habilitations.table import table
from sias.platform.postgresql.session import said, say, session_settings
from sias.platform.routing import reads

_NAME = re.compile(r"^[a-z_][a-z0-9_]*$")


SAID = "string_to_array((SELECT current_setting('sias.domaines', TRUE)), ',')"


def protect(table: str, domain: str) -> migrations.RunSQL:
    """Make the migration operation that puts a table of a protected domain under row-level security.

    FORCE: its owner obeys too. NULL (nobody said who asks) is refused. What history keeps of the table is protected with it.
    """
    _named(table, domain)
    rule = f"'{domain}' = ANY ({SAID})"
    return _secure(table, rule, rule)


def protect_rows(table: str, column: str, domains: tuple[str, ...]) -> migrations.RunSQL:
    """Make the same of a table whose rows say their domain in a column: those of protected domains are hidden.

    History tells of a change of such a row to whoever may see the row itself; of a row that is gone, if the change names
    the domain.
    """
    _named(table, column, *domains)
    listed = ", ".join(f"'{domain}'" for domain in domains)

    def rule(value: str) -> str:
        return f"({value} <> ALL (ARRAY[{listed}]) OR {value} = ANY ({SAID}))"

    told = f"coalesce(after ->> '{column}', before ->> '{column}')"
    row = f"EXISTS (SELECT FROM public.{table} r WHERE r.id = nullif(row_id, '')::bigint)"
    return _secure(table, rule(column), f"CASE WHEN {told} IS NULL THEN {row} ELSE {rule(told)} END")


def _named(*names: str) -> None:
    for name in names:
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is no name of a table, column or domain")


def _secure(table: str, rule: str, of_history: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY;"
        f"ALTER TABLE public.{table} FORCE ROW LEVEL SECURITY;"
        f"CREATE POLICY {table}_domain ON public.{table} USING ({rule}) WITH CHECK ({rule});"
        f"CREATE POLICY {table}_domain ON public.history_change AS RESTRICTIVE FOR SELECT"
        f"  USING (table_name <> '{table}' OR ({of_history}));",
        f"DROP POLICY {table}_domain ON public.history_change;"
        f"DROP POLICY {table}_domain ON public.{table};"
        f"ALTER TABLE public.{table} NO FORCE ROW LEVEL SECURITY;"
        f"ALTER TABLE public.{table} DISABLE ROW LEVEL SECURITY;",
    )


@contextmanager
def acting_for_nobody(*domains: str) -> Iterator[None]:
    """Let the work of no agent (a duty, an import, a merge) see the rows of these protected domains, in a transaction.

    Without any named: of all protected domains.
    """
    domains = domains or tuple(table().protected)
    alias, before = reads(), said("domaines")
    with session_settings(domaines=",".join(domains)), transaction.atomic(using=alias):
        connections[alias].say_settings()
        yield
        # SET LOCAL outlives a savepoint; when the block fails, its roll-back takes the setting away.
        say(domaines=before)
        connections[alias].say_settings()
