"""What pgBackRest says that it holds, as typed data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from siasops.errors import UserError
from siasops.inventory import Host, Inventory
from siasops.remote import Fleet

STANZA = "$(sed -n 's/^\\[\\([a-z0-9-]*\\)\\]$/\\1/p' /etc/pgbackrest.conf | grep -vx global | head -n 1)"
"""Shell: the stanza of the cluster that serves, which a host's configuration names first. Database hosts may all be dead."""
INFO_TIMEOUT_S = 60.0
"""Seconds for one repository to tell what it holds."""
SEGMENT_NAME_LENGTH = 24
"""Hexadecimal digits of a WAL segment's name: timeline, log, segment."""


@dataclass(frozen=True)
class Backup:
    """One backup. Times are UTC, sizes bytes; `repository_size` is what it added to the repository."""

    label: str
    type: str
    started: datetime
    stopped: datetime
    size: int
    repository_size: int
    wal_start: str
    wal_stop: str
    damaged: bool

    def age(self, now: datetime) -> float:
        """Seconds since it was complete."""
        return (now - self.stopped).total_seconds()


@dataclass(frozen=True)
class Repository:
    """A room's repository. `problem` is None when it answers and its stanza is in order."""

    room: str
    host: str
    key: int
    """Its number on a database host, as `--repo` wants it."""
    problem: str | None
    backups: tuple[Backup, ...] = ()
    wal_min: str | None = None
    wal_max: str | None = None
    cipher: str = ""

    def newest(self, *types: str) -> Backup | None:
        """The newest backup of these types, of any type when none is given."""
        fitting = [backup for backup in self.backups if not types or backup.type in types]
        return max(fitting, key=lambda backup: backup.stopped, default=None)

    @property
    def oldest(self) -> Backup | None:
        """The backup that the recovery window begins with."""
        return min(self.backups, key=lambda backup: backup.stopped, default=None)


def is_segment(name: str | None) -> bool:
    """Whether a name is that of a WAL segment, not of a history or backup file."""
    return name is not None and len(name) == SEGMENT_NAME_LENGTH and all(c in "0123456789ABCDEF" for c in name)


def repository_hosts(inventory: Inventory) -> list[Host]:
    """Repositories in the order of their rooms: the first is repo1 on every database host."""
    return sorted(inventory.group("repositories"), key=lambda host: (host.room, host.name))


def parse(host: Host, key: int, text: str) -> Repository:
    """Read the output of `pgbackrest --output=json info` of one repository host.

    Raises:
        UserError: it is not what pgBackRest writes.
    """
    try:
        document: list[dict[str, Any]] = json.loads(text)
        if not document:
            return Repository(host.room, host.name, key, "it has no stanza yet: run playbooks/site.yml --tags backup")
        stanza = document[0]
        status = stanza["status"]
        archives = stanza.get("archive", [])
        newest = archives[-1] if archives else {}
        return Repository(
            room=host.room,
            host=host.name,
            key=key,
            problem=None if status["code"] == 0 else str(status["message"]),
            backups=tuple(_backup(entry) for entry in stanza.get("backup", [])),
            wal_min=newest.get("min"),
            wal_max=newest.get("max"),
            cipher=str(stanza.get("cipher", "")),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{host.name}: pgbackrest info answered something unexpected ({error!r}): {text[:200]}"
        ) from error


def _backup(entry: dict[str, Any]) -> Backup:
    return Backup(
        label=entry["label"],
        type=entry["type"],
        started=datetime.fromtimestamp(entry["timestamp"]["start"], UTC),
        stopped=datetime.fromtimestamp(entry["timestamp"]["stop"], UTC),
        size=entry["info"]["size"],
        repository_size=entry["info"]["repository"]["delta"],
        wal_start=entry["archive"]["start"],
        wal_stop=entry["archive"]["stop"],
        damaged=bool(entry.get("error", False)),
    )


def read(inventory: Inventory, fleet: Fleet, *, room: str | None = None) -> list[Repository]:
    """Ask every repository, or one room's, at once. One that does not answer carries the reason as its problem.

    Raises:
        UserError: no repository stands in that room.
    """
    hosts = repository_hosts(inventory)
    keys = {host.name: number for number, host in enumerate(hosts, start=1)}
    wanted = [host for host in hosts if room in {None, host.room}]
    if not wanted:
        raise UserError(f"no repository stands in room {room}; rooms with one: {', '.join(h.room for h in hosts)}.")
    command = as_postgres(f"pgbackrest --stanza={STANZA} --output=json info")
    answers = fleet.run_each({host.name: command for host in wanted}, timeout=INFO_TIMEOUT_S)
    repositories = []
    for host in wanted:
        answer = answers[host.name]
        if answer.ok:
            repositories.append(parse(host, keys[host.name], answer.stdout))
        else:
            said = (answer.stderr or answer.stdout).strip().splitlines()
            reason = said[-1] if said else f"exit code {answer.returncode}"
            repositories.append(Repository(host.room, host.name, keys[host.name], f"does not answer: {reason}"))
    return repositories


def as_postgres(command: str) -> str:
    """Make a shell line that runs as the system user postgres, from a folder that it may read."""
    return f"cd / && runuser -u postgres -- {command}"
