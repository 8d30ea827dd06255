"""Verify the chains, and anchor them with a key that the database does not have."""

import hashlib
import hmac
import json
from dataclasses import dataclass, field

from django.conf import settings
from django.db import connections

from sias.journal.models import Anchor
from sias.platform.postgresql.session import session_settings

# Every entry against the one before it, in the database: rows do not travel.
_BROKEN = """
SELECT to_char(month, 'YYYY-MM') || '/' || stream, seq,
       CASE WHEN seq <> expected_seq THEN 'il manque les entrées ' || expected_seq || ' à ' || (seq - 1)
            WHEN previous <> expected_previous THEN 'ne suit pas l''entrée précédente'
            ELSE 'a été modifiée' END
  FROM (SELECT e.*, coalesce(lag(seq) OVER chain, 0) + 1 AS expected_seq,
               coalesce(lag(hash) OVER chain, public.journal_genesis(month, stream)) AS expected_previous
          FROM (SELECT date_trunc('month', j.at AT TIME ZONE 'UTC')::date AS month, j.stream, j.seq, j.previous, j.hash,
                       sha256(j.previous || public.journal_canonical(j)) AS computed
                  FROM journal_entry j) e
        WINDOW chain AS (PARTITION BY month, stream ORDER BY seq)) checked
 WHERE seq <> expected_seq OR previous <> expected_previous OR hash <> computed
 ORDER BY 1, 2 LIMIT 100
"""
_LAST = """
SELECT to_char(date_trunc('month', at AT TIME ZONE 'UTC'), 'YYYY-MM') || '/' || stream, max(seq), count(*)
  FROM journal_entry GROUP BY 1
"""
_AT = """
SELECT to_char(date_trunc('month', at AT TIME ZONE 'UTC'), 'YYYY-MM') || '/' || stream, seq, encode(hash, 'hex')
  FROM journal_entry WHERE (stream, seq) IN (SELECT * FROM unnest(%s::int[], %s::bigint[]))
"""


@dataclass
class Report:
    """What a verification found."""

    entries: int = 0
    chains: int = 0
    anchors: int = 0
    problems: list[str] = field(default_factory=list)


def _seal(heads: dict) -> bytes:
    text = json.dumps(heads, sort_keys=True, separators=(",", ":"))
    return hmac.new(f"sias journal anchor {settings.SECRET_KEY}".encode(), text.encode(), hashlib.sha256).digest()


def anchor() -> int:
    """Write down where every chain stands, sealed; return how many there are."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT public.journal_heads()::text")
        heads = json.loads(cursor.fetchone()[0])
    Anchor.objects.create(heads=heads, seal=_seal(heads))
    return len(heads)


def verify() -> Report:
    """Recompute every chain and compare it with its head and with the anchors. Needs a transaction of its own."""
    report = Report()
    connection = connections["default"]
    with session_settings(journal="lecture"):
        connection.say_settings()
        with connection.cursor() as cursor:
            cursor.execute(_BROKEN)
            report.problems += [f"{chain} n° {seq} : {what}" for chain, seq, what in cursor.fetchall()]
            cursor.execute("SELECT public.journal_heads()::text")
            heads = json.loads(cursor.fetchone()[0])
            cursor.execute(_LAST)
            last = {chain: (seq, count) for chain, seq, count in cursor.fetchall()}
            report.chains, report.entries = len(last), sum(count for _seq, count in last.values())
            report.problems += [
                f"{chain} : finit au n° {last.get(chain, (0, 0))[0]}, devrait finir au n° {seq}"
                for chain, (seq, _hash) in sorted(heads.items())
                if last.get(chain, (0, 0))[0] != seq
            ]
            for point in Anchor.objects.using("default").order_by("at").iterator():
                report.anchors += 1
                report.problems += _check_anchor(cursor, point, set(heads))
    return report


def _check_anchor(cursor, point: Anchor, months_kept: set[str]) -> list[str]:
    if not hmac.compare_digest(_seal(point.heads), bytes(point.seal)):
        return [f"scellé du {point} : faux"]
    kept = {
        chain: head
        for chain, head in point.heads.items()
        if chain.split("/")[0] in {m.split("/")[0] for m in months_kept}
    }
    wanted = [(int(chain.split("/")[1]), head[0]) for chain, head in kept.items()]
    cursor.execute(_AT, [[stream for stream, _ in wanted], [seq for _, seq in wanted]])
    found = {(chain, seq): digest for chain, seq, digest in cursor.fetchall()}
    return [
        f"scellé du {point} : la chaîne {chain} n'a plus la même entrée n° {seq}"
        for chain, (seq, digest) in sorted(kept.items())
        if found.get((chain, seq)) != digest
    ]
