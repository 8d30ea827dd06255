"""Odd reading in the access log: what somebody should look at, never a proof."""

from datetime import timedelta

from django.db import connections
from django.utils import timezone

from sias.platform.routing import reads
from sias.socle.text import compact

MANY_PERSONS = 150  # different persons that one agent opened in a day
MANY_REFUSALS = 10  # in a day
DAYS = 30

_BY_DAY = """
SELECT agent, (happened_at AT TIME ZONE 'Europe/Paris')::date AS day,
       count(DISTINCT person_id) FILTER (WHERE action = 'consultation') AS persons,
       count(*) FILTER (WHERE action = 'refus') AS refusals,
       count(*) FILTER (WHERE action = 'acces_exceptionnel') AS exceptional
  FROM journal_entry WHERE at >= %s AND agent_id IS NOT NULL
 GROUP BY 1, 2
HAVING count(DISTINCT person_id) FILTER (WHERE action = 'consultation') > %s
    OR count(*) FILTER (WHERE action = 'refus') > %s
    OR count(*) FILTER (WHERE action = 'acces_exceptionnel') > 0
 ORDER BY 2 DESC, 1 LIMIT 200
"""
# A relative or a colleague: the reader's own surname, or the name of somebody who works here.
_NEAR = """
SELECT DISTINCT ON (j.agent_id, j.person_id) j.agent, (j.happened_at AT TIME ZONE 'Europe/Paris')::date, j.person_id,
       upper(reader.last_name) IN (p.birth_name, p.usage_name) AS relative
  FROM journal_entry j
  JOIN accounts_agent reader ON reader.id = j.agent_id
  JOIN repertoire_person p ON p.id = j.person_id
 WHERE j.at >= %s AND j.action = 'consultation'
   AND (upper(reader.last_name) IN (p.birth_name, p.usage_name)
        OR (p.birth_norm, p.first_norm) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
        OR (p.usage_norm, p.first_norm) IN (SELECT * FROM unnest(%s::text[], %s::text[])))
 ORDER BY j.agent_id, j.person_id, j.happened_at DESC LIMIT 200
"""


def alerts(colleagues: list[tuple[str, str]]) -> list[dict]:
    """Return what is odd in the last month. `colleagues` are (last name, first name) of agents. Needs the right to read."""
    since = timezone.now() - timedelta(days=DAYS)
    found = []
    last = [compact(name) for name, _ in colleagues]
    first = [compact(name) for _, name in colleagues]
    with connections[reads()].cursor() as cursor:
        cursor.execute(_BY_DAY, [since, MANY_PERSONS, MANY_REFUSALS])
        for agent, day, persons, refusals, exceptional in cursor.fetchall():
            said = [
                f"{persons} personnes consultées dans la journée" * (persons > MANY_PERSONS),
                f"{refusals} accès refusés dans la journée" * (refusals > MANY_REFUSALS),
                f"{exceptional} accès exceptionnel{'s' if exceptional > 1 else ''}" * (exceptional > 0),
            ]
            found += [{"agent": agent, "day": day, "what": what, "person": None} for what in said if what]
        cursor.execute(_NEAR, [since, last, first, last, first])
        for agent, day, person, relative in cursor.fetchall():
            what = "Personne qui porte le nom de l'agent" if relative else "Personne qui porte le nom d'un collègue"
            found.append({"agent": agent, "day": day, "what": what, "person": person})
    return sorted(found, key=lambda row: (row["day"], row["agent"]), reverse=True)
