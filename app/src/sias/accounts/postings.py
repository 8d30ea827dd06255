"""An agent's unit of today, made from the postings."""

from datetime import date

from django.db import connections
from django.utils import timezone

from sias.platform.duties import duty

_SETTLE = """
WITH today AS (
  SELECT p.agent_id, left(coalesce(s.name, p.service), 100) AS name
    FROM accounts_posting p
    LEFT JOIN socle_service s
      ON s.code = p.service AND s.since <= %(day)s AND (s.until IS NULL OR s.until > %(day)s)
   WHERE p.since <= %(day)s AND (p.until IS NULL OR p.until > %(day)s)),
known AS (SELECT DISTINCT agent_id FROM accounts_posting)
UPDATE accounts_agent a SET service = coalesce(t.name, '')
  FROM known k LEFT JOIN today t USING (agent_id)
 WHERE a.id = k.agent_id AND a.service <> coalesce(t.name, '')
"""


def settle(day: date | None = None) -> int:
    """Give each agent who has postings the unit of the day (today by default); return how many changed."""
    with connections["default"].cursor() as cursor:
        cursor.execute(_SETTLE, {"day": day or timezone.localdate()})
        return cursor.rowcount


@duty("affectations-du-jour", every=900)
def settle_today() -> tuple[str, bool]:
    """Postings begin and end at midnight."""
    changed = settle()
    return (f"{changed} agents changent de service" if changed else ""), False
