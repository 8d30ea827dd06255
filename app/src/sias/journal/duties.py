"""Partitions made ahead, retention, and anchors that the database could not forge."""

from django.db import connections

from sias.journal.access import Action, record_access
from sias.journal.chain import anchor
from sias.platform.duties import duty
from sias.platform.schema import frozen

AHEAD = 3  # months
NEXT_MONTH_IS_THERE = """
SELECT to_regclass('public.journal_entry_' || to_char(now() AT TIME ZONE 'UTC' + interval '1 month', 'YYYY_MM')) IS NOT NULL
"""


@duty("journal-partitions", every=24 * 3600)
def partitions() -> tuple[str, bool]:
    """Make the partitions of the next months, drop the months whose retention has ended, and log it.

    While a migration to another PostgreSQL holds the schema still, both wait; not once the next month is missing: then it is
    tried and fails, so that somebody hears of it while there is time.
    """
    with connections["default"].cursor() as cursor:
        cursor.execute(NEXT_MONTH_IS_THERE)
        if cursor.fetchone()[0] and frozen(connections["default"]):
            return "schéma tenu par une migration de PostgreSQL : à plus tard", False
        cursor.execute("SELECT public.journal_make_partitions(%s), public.journal_drop_expired()", [AHEAD])
        made, dropped = cursor.fetchone()
    for name in dropped:
        record_access(
            None, None, Action.PURGE, "fin de la durée de conservation", domain="journal", detail={"mois": name}
        )
    done = [f"{made} mois préparés"] * bool(made) + [f"mois effacés : {', '.join(dropped)}"] * bool(dropped)
    return " ; ".join(done), False


@duty("journal-anchor", every=3600)
def anchors() -> tuple[str, bool]:
    """Seal where the chains stand."""
    return f"{anchor()} chaînes scellées", False
