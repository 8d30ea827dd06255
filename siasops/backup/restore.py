"""Proof that a backup restores, asked of a database host: a copy, recovered, read back, checked, removed.

The host does it by itself, as the unit sias-restore.service (roles/backup/files/sias_restore.py): the same program by its
timer and on demand. What is written here is the request, the wait and the comparison with the primary. The unit goes on
and cleans up when this process dies.
"""

from __future__ import annotations

import json
import shlex
import time
import uuid
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from siasops.backup import archive
from siasops.backup.catalogue import Repository, is_segment
from siasops.backup.check import Line
from siasops.console import Progress
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.remote import Fleet, wait_until

HOME = "/var/lib/sias-restore"
UNIT = "sias-restore.service"
ARCHIVE_DEADLINE = 120.0
"""Seconds for a segment that was ended to reach every repository."""
KEEP_SECONDS = 4 * 3600
"""How long a copy that is kept stands before its host removes it."""

COUNTS = """
SELECT coalesce(json_object_agg(t.name, t.rows), '{}') FROM (
  SELECT format('%I.%I', n.nspname, c.relname) AS name,
         (xpath('/row/c/text()',
                query_to_xml(format('SELECT count(*) AS c FROM %I.%I', n.nspname, c.relname), false, true, '')
         ))[1]::text::bigint AS rows
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast') t;
"""


@dataclass(frozen=True)
class Target:
    """How far recovery goes: to the end of the archive, or to a moment."""

    moment: datetime | None = None

    def asked(self) -> str:
        """Write it as sias-restore wants it: `latest`, or a moment in UTC."""
        if self.moment is None:
            return "latest"
        return self.moment.astimezone(UTC).isoformat(timespec="microseconds")

    def __str__(self) -> str:
        return "the end of the archive" if self.moment is None else self.moment.isoformat(sep=" ")


@dataclass(frozen=True)
class Anchor:
    """A position of the primary that every repository holds, and what the primary held before it."""

    primary: str
    lsn: str
    rows: dict[str, int]


@dataclass
class Proof:
    """What the restored copy showed, as sias-restore tells it. Times in seconds."""

    repository: str
    room: str
    host: str
    target: str
    label: str = ""
    restore_seconds: float = 0.0
    recovery_seconds: float = 0.0
    seconds: float = 0.0
    reached: str = ""
    last_transaction: str | None = None
    loss_seconds: float | None = None
    rows: dict[str, int] = field(default_factory=dict)
    queries: dict[str, str] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    kept: str | None = None

    @property
    def held(self) -> bool:
        """Whether every line holds."""
        return bool(self.lines) and all(line.ok for line in self.lines)


def parse_moment(text: str) -> datetime:
    """Read a moment; without an offset it is this machine's local time.

    Raises:
        ValueError: it is not an ISO 8601 date and time, or it lies ahead.
    """
    moment = datetime.fromisoformat(text)
    aware = moment.astimezone() if moment.tzinfo is None else moment
    if aware > datetime.now(UTC):
        raise ValueError(f"{text} lies ahead of now")
    return aware


def compare(live_before: dict[str, int], live_after: dict[str, int], restored: dict[str, int]) -> Line:
    """Compare rows of the copy with those of the live database, which may have moved on meanwhile.

    A table's count must lie between the two that were taken before the last segment was archived and after the copy
    was read. Equality is what a quiet database gives.
    """
    wrong = []
    for table, before in live_before.items():
        after = live_after.get(table, before)
        low, high = min(before, after), max(before, after)
        if table not in restored:
            wrong.append(f"{table} is missing")
        elif not low <= restored[table] <= high:
            span = str(low) if low == high else f"{low} to {high}"
            wrong.append(f"{table} has {restored[table]} rows, live {span}")
    total = sum(restored.values())
    found = f"{len(restored)} tables, {total} rows"
    if wrong:
        advice = "compare with the other room's repository"
        return Line(False, "rows as in the live database", f"{found}; {'; '.join(wrong[:5])}", advice)
    return Line(True, "rows as in the live database", found)


def read_proof(host: str, text: str) -> Proof:
    """Read what sias-restore left.

    Raises:
        UserError: it could not be tried.
    """
    found: dict[str, Any] = json.loads(text)
    if found.get("problem"):
        raise UserError(f"{host}: {found['problem']}")
    known = {entry.name for entry in fields(Proof)}
    given = {name: value for name, value in found.items() if name in known}
    given["lines"] = [Line(**line) for line in found["lines"]]
    return Proof(host=host, **given)


class Restorer:
    """Has one database host restore one repository."""

    def __init__(self, inventory: Inventory, fleet: Fleet, repository: Repository, host: str, deadline: float) -> None:
        """Nothing is touched yet.

        Raises:
            UserError: the host runs no database.
        """
        if "databases" not in inventory.host(host).groups:
            raise UserError(
                f"{host} has no PostgreSQL to start the copy with; use one of "
                f"{', '.join(h.name for h in inventory.group('databases'))}."
            )
        self.fleet = fleet
        self.repository = repository
        self.host = host
        self.deadline = deadline
        self.id = uuid.uuid4().hex

    def request(
        self,
        target: Target,
        *,
        reach: str | None = None,
        queries: tuple[tuple[str, str], ...] = (),
        keep: bool = False,
        config: str | None = None,
    ) -> dict[str, Any]:
        """Make the request that sias-restore reads."""
        return {
            "id": self.id,
            "room": self.repository.room,
            "repository": self.repository.key,
            "target": target.asked(),
            "reach": reach,
            "queries": queries,
            "keep": KEEP_SECONDS if keep else 0,
            "config": config,
        }

    def start(self, request: dict[str, Any]) -> None:
        """Hand the request over and start the unit.

        Raises:
            UserError: a proof runs there, or the host was never told how.
        """
        line = (
            f"case $(systemctl is-active {UNIT}) in *activ*ing|active) exit 16;; esac; [ -d {HOME} ] || exit 17; "
            f"install -o postgres -g postgres -m 0600 /dev/stdin {HOME}/request.json && systemctl start --no-block {UNIT}"
        )
        answer = self.fleet.run(self.host, line, timeout=30, stdin=json.dumps(request))
        if answer.returncode == 16:  # noqa: PLR2004 - our own code
            raise UserError(
                f"{self.host}: a restore runs there, or its copy is kept; wait, or end and remove it with "
                f"`systemctl stop {UNIT}`."
            )
        if answer.returncode == 17:  # noqa: PLR2004 - our own code
            raise UserError(f"{self.host} has no {HOME}: run playbooks/site.yml --tags backup.")
        if not answer.ok:
            raise UserError(f"{self.host}: {UNIT} did not start: {answer.stderr.strip()}")

    def stop(self) -> None:
        """End the unit; it removes its copy."""
        self.fleet.run(self.host, f"systemctl stop {UNIT}", timeout=90)

    def wait(self, progress: Progress) -> Proof:
        """Follow the steps until the proof is there.

        Raises:
            UserError: it could not be tried, the unit was ended, or it takes too long.
        """
        line = (
            f"cat {HOME}/state.json 2>/dev/null; echo; systemctl is-active {UNIT}; "
            f"grep -sF {shlex.quote(self.id)} {HOME}/proof.json"
        )
        end = time.monotonic() + self.deadline
        told = ""
        found: list[str] = []

        def ended() -> bool:
            nonlocal told
            answer = self.fleet.run(self.host, line, timeout=15)
            if not answer.reached:
                return False  # its link is gone, not its unit
            state, active, *rest = [*answer.stdout.split("\n"), ""]
            step = json.loads(state).get("step", "") if state else ""
            if step and step != told:
                told = step
                progress.say(step)
            proof = "".join(rest).strip()
            if proof and not found:
                found.append(proof)
            # A copy that is kept keeps its unit; any other is waited for until the unit has cleaned up.
            if found and json.loads(found[0]).get("kept"):
                return True
            return active not in {"active", "activating", "deactivating"}

        wait_until(ended, f"the proof on {self.host}", deadline=max(1.0, end - time.monotonic()))
        if not found:
            said = self.fleet.run(self.host, f"journalctl -u {UNIT} -n 3 -o cat --no-pager", timeout=15).stdout.strip()
            raise UserError(f"{self.host}: {UNIT} ended without a proof: {' | '.join(said.splitlines())}")
        return read_proof(self.host, found[0])


def prove(
    inventory: Inventory,
    fleet: Fleet,
    repository: Repository,
    *,
    host: str,
    target: Target,
    anchor: Anchor | None = None,
    queries: tuple[tuple[str, str], ...] = (),
    keep: bool = False,
    config: str | None = None,
    deadline: float = 3600.0,
    progress: Progress | None = None,
) -> Proof:
    """Restore, read back, compare, remove.

    Args:
        inventory: the environment.
        fleet: connections to the database hosts.
        repository: which one restores.
        host: database host that carries the copy.
        target: how far recovery goes.
        anchor: a position that recovery must reach; taken now when there is a primary and none is given.
        queries: database and SQL, asked of the copy; the answers stand in the proof by SQL.
        keep: leave the copy running, for a few hours at most.
        config: a pgBackRest configuration on the repository's host: that of a copy of the repository.
        deadline: seconds for the whole.
        progress: told about each step.

    Raises:
        UserError: it could not be tried; the verdict on what was restored is in the proof's lines.
    """
    progress = progress or Progress()
    restorer = Restorer(inventory, fleet, repository, host, deadline)
    if anchor is None and config is None:
        if archive.look(inventory, fleet) is not None:
            with progress.step("have the primary archive its last segment, and count its rows"):
                anchor = anchored(inventory, fleet)
        else:
            progress.say("no database host is primary: what was not archived before it was lost cannot be recovered")
    latest = target.moment is None
    with progress.step(f"restore room {repository.room}'s repository on {host}, to {target}"):
        restorer.start(
            restorer.request(
                target, reach=anchor.lsn if anchor and latest else None, queries=queries, keep=keep, config=config
            )
        )
        try:
            proof = restorer.wait(progress)
        except BaseException:
            restorer.stop()
            raise
    if anchor is not None and latest and proof.rows:
        after = json.loads(query(inventory, fleet, anchor.primary, COUNTS))
        proof.lines.append(compare(anchor.rows, after, proof.rows))
    return proof


def query(inventory: Inventory, fleet: Fleet, host: str, sql: str, *, database: str | None = None) -> str:
    """Ask a live database host."""
    command, stdin = archive.psql(sql, database=database or inventory.cluster)
    return fleet.run(host, command, timeout=120, stdin=stdin, check=True).stdout.strip()


def anchored(inventory: Inventory, fleet: Fleet) -> Anchor:
    """Note a position of the primary's log and what it holds, and wait until that position is archived everywhere.

    Raises:
        UserError: there is no primary, or archiving does not get there in time.
    """
    found = archive.look(inventory, fleet)
    if found is None:
        raise UserError(
            "no database host is primary: there is nothing to compare a copy with. See `sias cluster status`."
        )
    counts = json.loads(query(inventory, fleet, found.host, COUNTS))
    # A commit of its own: recovery to a moment ends at the first commit after it, and a quiet database has none.
    query(inventory, fleet, found.host, "SELECT pg_current_xact_id()")
    point = "SELECT pg_walfile_name(lsn) || ' ' || lsn FROM pg_create_restore_point('sias-restore-proof') lsn"
    segment, position = query(inventory, fleet, found.host, point).split()
    query(inventory, fleet, found.host, "SELECT pg_switch_wal()")

    def archived() -> bool:
        now = archive.look(inventory, fleet)
        last = now.last_archived if now else None
        return last is not None and is_segment(last) and last >= segment

    wait_until(archived, f"segment {segment} in every repository", deadline=ARCHIVE_DEADLINE)
    return Anchor(found.host, position, counts)
