"""Partitions made ahead, retention, and anchors that the database could not forge."""

from django.db import connections

from sias.journal.access import Action, record_access
from sias.journal.chain import anchor
from sias.platform.duties import duty

AHEAD = 3  # months


@duty("journal-partitions", every=24 * 3600)
def partitions() -> tuple[str, bool]:
    """Make the partitions of the next months, drop the months whose retention has ended, and log it."""
    with connections["default"].cursor() as cursor:
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
