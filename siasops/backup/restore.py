"""Proof that a backup restores: into a scratch folder, started, read back, compared, removed.

The copy stands beside the live database on a database host, listens on no address, archives nothing and belongs to no
cluster. Nothing of the live database is touched.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from siasops.backup import archive
from siasops.backup.catalogue import Repository, as_postgres, is_segment
from siasops.backup.check import Line
from siasops.console import Progress
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.remote import Fleet, RemoteError, wait_until

BASE = "/var/lib/postgresql"
PREFIX = "restore-proof-"
SOCKET_PORT = 5499
"""Names the copy's socket; no TCP port is opened."""
ROOM_TO_SPARE = 1.3
"""Free disk wanted, in sizes of the database: recovery writes as well."""
RECOVERY_SETTINGS = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_xacts",
    "max_locks_per_xact",
)
"""Settings that recovery wants at least as high as the primary had them, as pg_controldata names them."""
OPTION_NAMES = {"max_prepared_xacts": "max_prepared_transactions", "max_locks_per_xact": "max_locks_per_transaction"}

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

    def options(self) -> list[str]:
        """Options of `pgbackrest restore`."""
        if self.moment is None:
            return ["--type=default"]
        stamp = self.moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
        return ["--type=time", f"--target={stamp}", "--target-action=promote"]

    def __str__(self) -> str:
        return "the end of the archive" if self.moment is None else self.moment.isoformat(sep=" ")


@dataclass
class Proof:
    """What the restored copy showed. Times in seconds."""

    repository: str
    room: str
    host: str
    target: str
    label: str = ""
    restore_seconds: float = 0.0
    recovery_seconds: float = 0.0
    reached: str = ""
    last_transaction: str | None = None
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
        return Line(
            False, "rows read back", f"{found}; {'; '.join(wrong[:5])}", "compare with the other room's repository"
        )
    return Line(True, "rows read back", f"{found}, as in the live database")


def newer_or_equal(lsn: str, than: str) -> bool:
    """Compare two positions of the write-ahead log, such as 0/5000148."""
    return _position(lsn) >= _position(than)


def _position(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


class Restorer:
    """Restores one repository's data on one host."""

    def __init__(self, inventory: Inventory, fleet: Fleet, repository: Repository, host: str, deadline: float) -> None:
        """Nothing is touched yet.

        Raises:
            UserError: the host runs no database, or the repository has nothing to restore.
        """
        if "databases" not in inventory.host(host).groups:
            raise UserError(
                f"{host} has no PostgreSQL to start the copy with; use one of "
                f"{', '.join(h.name for h in inventory.group('databases'))}."
            )
        if repository.problem is not None or not repository.backups:
            reason = repository.problem or "it holds no backup"
            raise UserError(f"the repository of room {repository.room} ({repository.host}) cannot restore: {reason}.")
        self.inventory = inventory
        self.fleet = fleet
        self.repository = repository
        self.host = host
        self.deadline = deadline
        self.stanza = inventory.cluster
        self.database = inventory.cluster
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        self.scratch = f"{BASE}/{PREFIX}{stamp}"

    # --- commands -----------------------------------------------------------------------------------------------

    def postgres(self, line: str, *, timeout: float | None = None, stdin: str | None = None) -> str:
        """Run as the system user postgres on the host.

        Raises:
            RemoteError: it fails.
        """
        command = as_postgres(f"sh -c {shlex.quote(line)}")
        return self.fleet.run(
            self.host, command, timeout=timeout or self.deadline, stdin=stdin, check=True
        ).stdout.strip()

    def copy_query(self, sql: str) -> str:
        """Ask the restored copy."""
        line = f"psql -XqAt -v ON_ERROR_STOP=1 -h {self.scratch} -p {SOCKET_PORT} -d {self.database} -f -"
        return self.postgres(line, stdin=sql)

    def live_query(self, host: str, sql: str) -> str:
        """Ask a live database host."""
        command, stdin = archive.psql(sql, database=self.database)
        return self.fleet.run(host, command, timeout=self.deadline, stdin=stdin, check=True).stdout.strip()

    # --- steps --------------------------------------------------------------------------------------------------

    def binaries(self) -> str:
        """Find the PostgreSQL of the live database on the host."""
        return self.postgres("dirname $(readlink /proc/$(pgrep -o -u postgres -x postgres)/exe)", timeout=15)

    def clear_leftovers(self) -> list[str]:
        """Remove scratch folders of runs that were killed; one whose copy still runs is stopped first."""
        script = (
            f'for folder in {BASE}/{PREFIX}*; do [ -d "$folder" ] || continue; '
            '[ -f "$folder/data/postmaster.pid" ] && kill -QUIT "$(head -1 "$folder/data/postmaster.pid")" 2>/dev/null; '
            'rm -rf "$folder"; echo "$folder"; done'
        )
        return self.postgres(script, timeout=60).splitlines()

    def enough_disk(self) -> None:
        """Refuse before the disk is full.

        Raises:
            UserError: too little is free.
        """
        newest = self.repository.newest()
        wanted = int((newest.size if newest else 0) * ROOM_TO_SPARE)
        free = int(self.postgres(f"df --output=avail -B1 {BASE} | tail -1", timeout=15))
        if free < wanted:
            raise UserError(
                f"{self.host} has {free // 2**20} MiB free under {BASE}; the copy wants {wanted // 2**20} MiB. "
                "Free some, or restore on another host with --on."
            )

    def restore(self, target: Target) -> str:
        """Fetch the files; returns the label of the backup that was used."""
        data = f"{self.scratch}/data"
        # Not asynchronous: the live database of this host has the spool and its lock.
        common = f"--stanza={self.stanza} --pg1-path={data} --repo={self.repository.key}"
        get = f"pgbackrest {common} --no-archive-async archive-get %f %p"
        options = [
            f"--stanza={self.stanza}",
            f"--repo={self.repository.key}",
            f"--pg1-path={data}",
            "--archive-mode=off",
            f"--recovery-option=restore_command={get}",
            "--log-level-console=info",
            *target.options(),
        ]
        said = self.postgres(f"mkdir -p -m 0700 {data} && pgbackrest {shlex.join(options)} restore")
        match = re.search(r"restore backup set (\S+?),", said)
        return match[1] if match else ""

    def start(self, binaries: str) -> None:
        """Start the copy on its own socket."""
        data = f"{self.scratch}/data"
        control = self.postgres(f"LC_ALL=C {binaries}/pg_controldata -D {data}", timeout=30)
        settings = {
            "listen_addresses": "",
            "port": str(SOCKET_PORT),
            "unix_socket_directories": self.scratch,
            "hba_file": f"{self.scratch}/pg_hba.conf",
            "ident_file": f"{data}/pg_ident.conf",
            "cluster_name": "restore-proof",
            "shared_buffers": "64MB",
            "ssl": "off",
            "archive_mode": "off",
            "hot_standby": "on",
            "synchronous_standby_names": "",
            "primary_conninfo": "",
            "primary_slot_name": "",
            "recovery_target_timeline": "latest",
        }
        for name in RECOVERY_SETTINGS:
            match = re.search(rf"^{name} setting:\s+(\d+)$", control, re.MULTILINE)
            if match:
                settings[OPTION_NAMES.get(name, name)] = match[1]
        options = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in settings.items())
        line = (
            f"echo 'local all postgres peer' > {self.scratch}/pg_hba.conf && "
            f"{binaries}/pg_ctl start -s -w -t {int(self.deadline)} -D {data} -l {self.scratch}/log -o {shlex.quote(options)}"
            f" || {{ tail -20 {self.scratch}/log >&2; false; }}"
        )
        self.postgres(line)

    def wait_for_recovery(self) -> float:
        """Wait until the copy has reached its target and takes writes; returns seconds."""
        return wait_until(
            lambda: self.copy_query("SELECT pg_is_in_recovery()") == "f",
            f"the end of recovery of the copy on {self.host}",
            deadline=self.deadline,
        )

    def verify_pages(self, binaries: str) -> Line:
        """Stop the copy and check the checksum of every page."""
        data = f"{self.scratch}/data"
        stop = f"{binaries}/pg_ctl stop -s -w -m fast -D {data}"
        line = f"{stop} && LC_ALL=C {binaries}/pg_checksums --check -D {data} 2>&1 || true"
        said = self.postgres(line)
        blocks = re.search(r"Blocks scanned:\s+(\d+)", said)
        bad = re.search(r"Bad checksums:\s+(\d+)", said)
        if blocks and bad and int(bad[1]) == 0 and int(blocks[1]) > 0:
            return Line(True, "checksums of pages", f"{blocks[1]} pages, none bad")
        advice = "restore from the other room's repository, and look at the disks of both"
        return Line(False, "checksums of pages", said[-200:] or "pg_checksums said nothing", advice)

    def remove(self) -> None:
        """Stop the copy, remove its folder."""
        data = f"{self.scratch}/data"
        line = f'[ -f {data}/postmaster.pid ] && kill -QUIT "$(head -1 {data}/postmaster.pid)" 2>/dev/null; rm -rf {self.scratch}'
        self.postgres(line, timeout=120)


@contextmanager
def scratch(restorer: Restorer, *, keep: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Remove the copy at the end, whatever happened, unless it is to be kept."""
    try:
        yield
    finally:
        if not keep:
            try:
                restorer.remove()
            except RemoteError as error:
                say(
                    f"the copy {restorer.scratch} on {restorer.host} could not be removed ({error}); the next run removes it"
                )


def prove(
    inventory: Inventory,
    fleet: Fleet,
    repository: Repository,
    *,
    host: str,
    target: Target,
    queries: tuple[str, ...] = (),
    keep: bool = False,
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
        queries: asked of the copy; the answers stand in the proof.
        keep: leave the copy running.
        deadline: seconds for each long step.
        progress: told about each step.

    Raises:
        UserError: it could not be tried; the verdict on what was restored is in the proof's lines.
    """
    progress = progress or Progress()
    restorer = Restorer(inventory, fleet, repository, host, deadline)
    proof = Proof(repository.host, repository.room, host, str(target))
    binaries = restorer.binaries()
    for left in restorer.clear_leftovers():
        progress.say(f"removed {left}, left behind by a run that was ended")
    restorer.enough_disk()

    live: tuple[str, str, dict[str, int]] | None = None
    if target.moment is None:
        with progress.step("ask the primary for its last segment, and count its rows"):
            live = _anchor(restorer)
    elif archive.look(inventory, fleet) is not None:
        with progress.step("have the primary archive its last segment"):
            _anchor(restorer)
    else:
        progress.say("no database host is primary: what was not archived before it was lost cannot be recovered")
    with scratch(restorer, keep=keep, say=progress.say):
        with progress.step(f"restore room {repository.room}'s repository on {host}, to {target}"):
            begin = progress.elapsed
            proof.label = restorer.restore(target)
            proof.restore_seconds = round(progress.elapsed - begin, 1)
        with progress.step("start the copy on a socket of its own, and recover"):
            begin = progress.elapsed
            restorer.start(binaries)
            restorer.wait_for_recovery()
            proof.recovery_seconds = round(progress.elapsed - begin, 1)
        with progress.step("read the data back"):
            _read_back(restorer, proof, target, live, queries)
        if keep:
            proof.kept = f"psql -h {restorer.scratch} -p {SOCKET_PORT} -d {restorer.database}"
        else:
            with progress.step("verify the checksum of every page"):
                proof.lines.append(restorer.verify_pages(binaries))
    return proof


def _anchor(restorer: Restorer) -> tuple[str, str, dict[str, int]]:
    """Note a position of the primary's log and what it holds, and wait until that position is archived everywhere.

    Raises:
        UserError: there is no primary, or archiving does not get there in time.
    """
    found = archive.look(restorer.inventory, restorer.fleet)
    if found is None:
        raise UserError(
            "no database host is primary: there is nothing to compare a copy with. See `sias cluster status`."
        )
    counts = json.loads(restorer.live_query(found.host, COUNTS))
    # A commit of its own: recovery to a moment ends at the first commit after it, and a quiet database has none.
    restorer.live_query(found.host, "SELECT pg_current_xact_id()")
    segment, position = restorer.live_query(
        found.host, "SELECT pg_walfile_name(lsn) || ' ' || lsn FROM pg_create_restore_point('sias-restore-proof') lsn"
    ).split()
    restorer.live_query(found.host, "SELECT pg_switch_wal()")

    def archived() -> bool:
        now = archive.look(restorer.inventory, restorer.fleet)
        last = now.last_archived if now else None
        return last is not None and is_segment(last) and last >= segment

    wait_until(archived, f"segment {segment} in every repository", deadline=120.0)
    return found.host, position, counts


def _read_back(
    restorer: Restorer,
    proof: Proof,
    target: Target,
    live: tuple[str, str, dict[str, int]] | None,
    queries: tuple[str, ...],
) -> None:
    """Fill in what the copy holds, and judge it."""
    state: dict[str, Any] = json.loads(
        restorer.copy_query(
            "SELECT json_build_object('lsn', pg_last_wal_replay_lsn(), 'moment', pg_last_xact_replay_timestamp())"
        )
    )
    proof.reached = state["lsn"]
    proof.last_transaction = state["moment"]
    proof.rows = json.loads(restorer.copy_query(COUNTS))
    proof.queries = {query: restorer.copy_query(query) for query in queries}
    if live is not None:
        primary, position, before = live
        good = newer_or_equal(proof.reached, position)
        found = f"{proof.reached}, the primary stood at {position}"
        proof.lines.append(
            Line(good, "recovery reached", found, "" if good else "archiving lost a segment: sias backup check")
        )
        proof.lines.append(compare(before, json.loads(restorer.live_query(primary, COUNTS)), proof.rows))
        return
    moment = datetime.fromisoformat(proof.last_transaction) if proof.last_transaction else None
    good = moment is None or target.moment is None or moment <= target.moment
    found = f"last transaction {moment.isoformat(sep=' ') if moment else 'of the backup itself'}, wanted {target}"
    proof.lines.append(Line(good, "recovery stopped", found, "" if good else "the copy went past the moment asked for"))
    total = sum(proof.rows.values())
    proof.lines.append(Line(bool(proof.rows), "rows read back", f"{len(proof.rows)} tables, {total} rows"))
