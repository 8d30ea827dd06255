"""The verdict on backups: whether we could restore today, and to how close to now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from siasops.backup.archive import Archiving, Gap
from siasops.backup.catalogue import Repository, is_segment


@dataclass(frozen=True)
class Line:
    """One thing that was looked at, what was found, and what to do when it does not hold."""

    ok: bool
    what: str
    found: str
    advice: str = ""


def hours(seconds: float) -> str:
    """Write a duration as people say it."""
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.1f} d"


def check(
    repositories: list[Repository],
    archiving: Archiving | None,
    gaps: dict[str, Gap],
    objectives: dict[str, Any],
    now: datetime,
) -> list[Line]:
    """Judge every repository and the way of the write-ahead log to it.

    Args:
        repositories: what each holds.
        archiving: the primary's view, None when there is no primary.
        gaps: by repository host, what it lacks.
        objectives: `backup_age_full`, `backup_age_any`, `archive_behind`, in seconds.
        now: with a time zone.
    """
    lines = []
    for repository in repositories:
        lines += _repository(repository, objectives, now)
        if archiving is not None and repository.problem is None:
            lines.append(_reached(repository, archiving))
        if repository.problem is None:
            lines.append(_whole(repository, gaps.get(repository.host)))
    lines.append(_archiving(archiving, float(objectives["archive_behind"])))
    return lines


def _repository(repository: Repository, objectives: dict[str, Any], now: datetime) -> list[Line]:
    name = f"repository of room {repository.room} ({repository.host})"
    if repository.problem is not None:
        advice = f"on {repository.host}: sudo -u postgres pgbackrest info; systemctl status pgbackrest"
        return [Line(ok=False, what=name, found=repository.problem, advice=advice)]
    take = f"sias backup take --room {repository.room}"
    lines = [Line(ok=True, what=name, found=f"in order, {len(repository.backups)} backups, {repository.cipher}")]
    for what, newest, limit, remedy in (
        ("newest full backup", repository.newest("full"), float(objectives["backup_age_full"]), f"{take} --type full"),
        ("newest backup of any type", repository.newest(), float(objectives["backup_age_any"]), f"{take} --type diff"),
    ):
        found = f"{newest.label}, {hours(newest.age(now))} old (at most {hours(limit)})" if newest else "there is none"
        good = newest is not None and newest.age(now) <= limit
        advice = "" if good else f"{remedy}; on {repository.host}: systemctl list-timers 'sias-backup@*'"
        lines.append(Line(good, f"room {repository.room}: {what}", found, advice))
    damaged = [backup.label for backup in repository.backups if backup.damaged]
    if damaged:
        found = f"{', '.join(damaged)}: pages with a wrong checksum"
        advice = "the database itself is damaged there: look at pg_checksums and the standby before the next failover"
        lines.append(Line(False, f"room {repository.room}: pages", found, advice))
    return lines


def _whole(repository: Repository, gap: Gap | None) -> Line:
    """Say whether recovery from the newest full backup would find every segment."""
    what = f"room {repository.room}: segments since the newest full backup"
    if gap is None:
        advice = f"on {repository.host}: sudo -u postgres sias-backup wal"
        return Line(False, what, "the repository host did not list them", advice)
    if not gap.missing:
        return Line(True, what, "none missing")
    advice = f"sias backup take --room {repository.room} --type full; see runbooks/alerts/WalMissing.md"
    return Line(False, what, f"{gap.missing} missing, the first is {gap.first}: recovery ends there", advice)


def _reached(repository: Repository, archiving: Archiving) -> Line:
    """Compare what the primary believes is archived with what the repository holds."""
    what = f"room {repository.room}: write-ahead log"
    if not is_segment(archiving.last_archived) or archiving.last_archived is None:
        return Line(repository.wal_max is not None, what, f"up to {repository.wal_max or 'nothing'}")
    good = repository.wal_max is not None and repository.wal_max >= archiving.last_archived
    found = f"up to {repository.wal_max or 'nothing'}, the primary has archived {archiving.last_archived}"
    advice = (
        "" if good else f"on {archiving.host}: sudo -u postgres pgbackrest --stanza=sias --repo={repository.key} check"
    )
    return Line(good, what, found, advice)


def _archiving(archiving: Archiving | None, limit: float) -> Line:
    what = "archiving"
    if archiving is None:
        return Line(False, what, "no database host is primary", "sias cluster status")
    good = archiving.oldest_waiting <= limit
    found = f"{archiving.waiting} segments wait on {archiving.host}, the oldest for {hours(archiving.oldest_waiting)}"
    if archiving.failing:
        found += ", the last try failed"
    advice = f"on {archiving.host}: /var/log/pgbackrest/sias-archive-push-async.log; is every repository up?"
    return Line(good, what, f"{found} (at most {hours(limit)})", "" if good else advice)
