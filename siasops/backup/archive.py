"""Whether the primary's write-ahead log reaches the repositories."""

from __future__ import annotations

import json
from dataclasses import dataclass

from siasops.backup.catalogue import as_postgres
from siasops.inventory import Inventory
from siasops.remote import Fleet

QUERY = """
SELECT json_build_object(
  'primary', NOT pg_is_in_recovery(),
  'last_archived', a.last_archived_wal,
  'failing', coalesce(a.last_failed_time > a.last_archived_time, a.last_failed_time IS NOT NULL),
  'waiting', (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),
  'oldest_waiting', (SELECT extract(epoch FROM now() - min(modification)) FROM pg_ls_archive_statusdir()
                     WHERE name LIKE '%.ready'))
FROM pg_stat_archiver a;
"""


@dataclass(frozen=True)
class Archiving:
    """Archiving as the primary sees it. `oldest_waiting` in seconds, 0 when nothing waits."""

    host: str
    last_archived: str | None
    failing: bool
    waiting: int
    oldest_waiting: float


@dataclass(frozen=True)
class Gap:
    """Segments that a repository lacks since its newest full backup: how many, and the first of them."""

    missing: int
    first: str | None


def gaps(inventory: Inventory, fleet: Fleet) -> dict[str, Gap]:
    """Ask every repository host what it lacks; one that does not answer is left out."""
    hosts = [host.name for host in inventory.group("repositories")]
    command = as_postgres("/usr/local/sbin/sias-backup wal")
    answers = fleet.run_each(dict.fromkeys(hosts, command), timeout=60.0)
    found = {name: json.loads(answer.stdout) for name, answer in answers.items() if answer.ok}
    return {name: Gap(told["missing"], told["first_missing"]) for name, told in found.items()}


def psql(sql: str, *, database: str = "postgres", options: str = "") -> tuple[str, str]:
    """Make the command and the standard input of one query, as superuser over the local socket."""
    return as_postgres(f"psql -XqAt -v ON_ERROR_STOP=1 {options} -d {database} -f -"), sql


def look(inventory: Inventory, fleet: Fleet) -> Archiving | None:
    """Ask the primary; None when no database host says that it is one."""
    command, query = psql(QUERY)
    hosts = [host.name for host in inventory.group("databases")]
    answers = fleet.run_each(dict.fromkeys(hosts, command), timeout=15.0, stdin=query)
    for name, answer in answers.items():
        if not answer.ok:
            continue
        found = json.loads(answer.stdout)
        if found["primary"]:
            return Archiving(
                host=name,
                last_archived=found["last_archived"],
                failing=found["failing"],
                waiting=found["waiting"],
                oldest_waiting=float(found["oldest_waiting"] or 0.0),
            )
    return None
