"""`track()`: the migration operation that puts a table under history."""

import re

from django.db import migrations

_IDENTIFIER = re.compile(r"^[a-z_][a-z0-9_]*$")


def track(table: str, *, person: str = "", household: str = "", ignore: tuple[str, ...] = ()) -> migrations.RunSQL:
    """Record every change of `table`.

    `person` and `household` name the columns that say whom a row is about, so that the change is found from their
    files. `ignore` names columns that are made from others (compared forms, counters, stamps): a change of these alone
    is none. Creating a trigger locks the table against writes for an instant, whatever its size.
    """
    for name in (table, *filter(None, (person, household)), *ignore):
        if not _IDENTIFIER.match(name):
            raise ValueError(f"{name!r} is no name of a table or column")
    columns = "{" + ",".join(ignore) + "}"
    return migrations.RunSQL(
        f"CREATE TRIGGER history AFTER INSERT OR UPDATE OR DELETE ON public.{table} FOR EACH ROW "
        f"EXECUTE FUNCTION public.history_record('{person}', '{household}', '{columns}')",
        f"DROP TRIGGER history ON public.{table}",
    )
