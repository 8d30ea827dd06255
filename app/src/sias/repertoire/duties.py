"""Keep what search compares true."""

from django.db import connection

from sias.platform.duties import duty
from sias.repertoire import names
from sias.repertoire.models import Person

BATCH = 2000

# Names that nobody bears any more stay with 0 uses for a day's worth of typing errors; they cost nothing.
REFRESH = """
WITH counted AS (
  SELECT kind, norm, count(*) AS uses FROM (
    SELECT 'N' AS kind, birth_norm AS norm FROM repertoire_person
    UNION ALL SELECT 'N', usage_norm FROM repertoire_person WHERE usage_norm <> ''
    UNION ALL SELECT 'P', first_norm FROM repertoire_person) AS borne
  GROUP BY kind, norm),
target AS (
  SELECT f.id, coalesce(c.uses, 0) AS uses FROM repertoire_nameform f
    LEFT JOIN counted c USING (kind, norm) WHERE f.uses IS DISTINCT FROM coalesce(c.uses, 0))
UPDATE repertoire_nameform f SET uses = target.uses FROM target WHERE f.id = target.id
"""


@duty("refresh-name-uses", every=6 * 3600)
def refresh() -> tuple[str, bool]:
    """Count again how many persons bear each name: rare names come after frequent ones in suggestions."""
    with connection.cursor() as cursor:
        cursor.execute(REFRESH)
        changed = cursor.rowcount
    return (f"{changed} fréquences corrigées" if changed else ""), False


@duty("compare-addresses", every=60)
def compare_addresses() -> tuple[str, bool]:
    """Make the compared form of addresses that have none yet."""
    waiting = list(
        Person.objects.using("default")
        .select_for_update(skip_locked=True)
        .filter(address_norm__isnull=True)
        .only("id", "address")
        .order_by("id")[:BATCH]
    )
    for person in waiting:
        person.address_norm = names.street(person.address)
    Person.objects.using("default").bulk_update(waiting, ["address_norm"], batch_size=500)
    return (f"{len(waiting)} adresses" if waiting else ""), len(waiting) == BATCH
