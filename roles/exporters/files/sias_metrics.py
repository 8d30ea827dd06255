#!/usr/bin/env python3
"""Write figures of certificates, backups, documents, the directory, duties and PgBouncer where the node exporter finds them.

Runs as root from sias-metrics.timer, with Python's standard library only (the guest has no internet). What cannot be
read is not an exception but a figure: `sias_metrics_collector_ok{collector="…"} 0`, and the other figures are written
all the same.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

DUTIES_TOLD = 300  # seconds; the worker writes every 15, and a release or a database that moves may hold it up
COMMAND_TIMEOUT = 20  # seconds; the unit as a whole has 45

HELP = {
    "sias_certificate_not_after_seconds": "When the certificate expires, seconds since 1970.",
    "sias_certificate_not_before_seconds": "When the certificate was issued, seconds since 1970.",
    "sias_certificate_covers": "1 when the certificate holds this name or address, which the inventory gives the host.",
    "sias_backup_stanza_ok": "1 when pgBackRest finds the repository whole.",
    "sias_backup_last_completion_seconds": "When the last backup ended (type full, or any), seconds since 1970.",
    "sias_backup_last_duration_seconds": "How long the last backup took.",
    "sias_backup_last_database_bytes": "Size of the database in the last backup.",
    "sias_backup_last_repository_bytes": "Size of the last backup in the repository, with what it refers to.",
    "sias_backup_count": "Backups that the repository holds.",
    "sias_backup_wal_missing": "WAL segments missing between the newest full backup and the newest segment.",
    "sias_archive_last_drop_seconds": "When pgBackRest last dropped a segment unarchived, seconds since 1970; 0 never.",
    "sias_restore_watched_since_seconds": "When this host was first told to prove restores, seconds since 1970.",
    "sias_restore_proven_seconds": "When the repository was last proven to restore, seconds since 1970; 0 never.",
    "sias_restore_duration_seconds": "How long the last proof that held took.",
    "sias_restore_failed": "1 when the last proof did not hold or could not be tried.",
    "sias_documents_heal_pending": "Files that this brick holds and another still misses.",
    "sias_documents_brick_up": "1 when the process that serves the brick runs.",
    "sias_documents_mounted": "1 when the document volume is mounted here.",
    "sias_directory_up": "1 when the directory's server on this host answers.",
    "sias_directory_change_seconds": "Newest change that this server holds of each one's, seconds since 1970.",
    "sias_directory_dump_seconds": "When this host last wrote a dump of the directory, seconds since 1970; 0 never.",
    "sias_directory_pass_seconds": "When a pass over the directory last ended like this, seconds since 1970; 0 never.",
    "sias_duty_run_seconds": "When a worker last did the duty, in either room, seconds since 1970; 0 never.",
    "sias_duty_period_seconds": "How long after that it is due again.",
    "sias_duty_failures": "How often in a row the duty has failed.",
    "sias_pgbouncer_clients": "Clients of PgBouncer on this host, by database: active ones, and those that wait.",
    "sias_pgbouncer_servers": "Connections of PgBouncer to PostgreSQL, by database: active ones, and idle ones.",
    "sias_pgbouncer_longest_wait_seconds": "How long the client that waits longest has waited for a connection.",
    "sias_pgbouncer_paused": "1 while PgBouncer holds the database's clients back (PAUSE).",
    "sias_metrics_collector_ok": "1 when the collector could read all that it reads.",
}


@dataclass(frozen=True)
class Sample:
    """One line of the exposition format."""

    name: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the line, with label values escaped as the format asks."""
        pairs = ",".join(f'{key}="{escape(value)}"' for key, value in sorted(self.labels.items()))
        return f"{self.name}{{{pairs}}} {self.value:.16g}" if pairs else f"{self.name} {self.value:.16g}"


class UnreadableError(Exception):
    """What a collector reads could not be read; the message says what and why."""


def escape(value: str) -> str:
    """Escape a label's value for the exposition format."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def run(command: list[str]) -> str:
    """Return the output of a command, or raise UnreadableError with what it said."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, env=environment
        )
    except FileNotFoundError as error:
        raise UnreadableError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise UnreadableError(f"{command[0]} gave no answer in {COMMAND_TIMEOUT} s") from error
    if done.returncode != 0:
        raise UnreadableError(f"{command[0]} failed ({done.returncode}): {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def certificates(paths: Iterable[Path]) -> Iterator[Sample]:
    """Yield the beginning and the end of each certificate's validity."""
    for path in paths:
        output = run(["openssl", "x509", "-noout", "-dates", "-in", str(path)])
        dates = dict(line.split("=", 1) for line in output.splitlines())
        for key, name in (("notBefore", "not_before"), ("notAfter", "not_after")):
            moment = ssl.cert_time_to_seconds(dates[key])
            yield Sample(f"sias_certificate_{name}_seconds", moment, {"file": path.name})


def cover(path: Path, names: Iterable[str]) -> Iterator[Sample]:
    """Say of each name and address by which peers know this host whether its certificate holds it."""
    output = run(["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", str(path)])
    held = set(re.findall(r"(?:DNS|IP Address):([^,\s]+)", output))
    for name in names:
        yield Sample("sias_certificate_covers", float(name in held), {"file": path.name, "name": name})


def backups(stanza: str) -> Iterator[Sample]:
    """Yield what this host's own repository, the only one of its configuration, holds of the stanza."""
    command = ["pgbackrest", f"--stanza={stanza}", "--output=json", "--log-level-file=off", "info"]
    yield from read_backups(run(command), stanza)


def read_backups(text: str, stanza: str) -> Iterator[Sample]:
    """Yield samples from the JSON of `pgbackrest info`.

    A stanza without any backup yields `sias_backup_stanza_ok` and a count of 0, and no time: an alert on age also
    asks for the count.
    """
    found = [entry for entry in json.loads(text) if entry["name"] == stanza]
    if not found:
        raise UnreadableError(f"pgbackrest knows no stanza {stanza}")
    info = found[0]
    whole = [backup for backup in info["backup"] if not backup.get("error")]
    yield Sample("sias_backup_stanza_ok", float(info["status"]["code"] == 0))
    yield Sample("sias_backup_count", len(whole))
    for kind, chosen in (("any", whole), ("full", [backup for backup in whole if backup["type"] == "full"])):
        if chosen:
            stop = max(backup["timestamp"]["stop"] for backup in chosen)
            yield Sample("sias_backup_last_completion_seconds", stop, {"type": kind})
    if whole:
        last = max(whole, key=lambda backup: backup["timestamp"]["stop"])
        times, sizes = last["timestamp"], last["info"]
        yield Sample("sias_backup_last_duration_seconds", times["stop"] - times["start"])
        yield Sample("sias_backup_last_database_bytes", sizes["size"])
        # Not there when the repository bundles blocks: then only the part of this backup is known.
        repository = sizes["repository"]
        yield Sample("sias_backup_last_repository_bytes", repository.get("size", repository["delta"]))


def missing_wal() -> Iterator[Sample]:
    """Yield what recovery from the newest full backup on would lack; role backup brings the program."""
    found = json.loads(run(["runuser", "-u", "postgres", "--", "/usr/local/sbin/sias-backup", "wal"]))
    yield Sample("sias_backup_wal_missing", found["missing"])


def dropped_wal(log: Path) -> Iterator[Sample]:
    """Yield when this host last dropped a segment because too many waited (archive-push-queue-max).

    pgBackRest tells PostgreSQL that it is archived all the same, so that only its own log knows. The log of the week
    before counts too.
    """
    latest = 0.0
    for path in (log.with_name(f"{log.name}.1"), log):
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                match = re.match(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) .*dropped WAL file", line)
                if match:
                    latest = max(latest, datetime.fromisoformat(match[1]).astimezone().timestamp())
    yield Sample("sias_archive_last_drop_seconds", latest)


def restores(record: Path, room: str, timer: Path = Path("/etc/systemd/system/sias-restore.timer")) -> Iterator[Sample]:
    """Yield what the proofs of this host found, and since when it owes them: since its timer was written."""
    labels = {"repository": room}
    found = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    yield Sample("sias_restore_watched_since_seconds", timer.stat().st_mtime, labels)
    yield Sample("sias_restore_proven_seconds", found.get("proven", 0), labels)
    yield Sample("sias_restore_failed", float(found.get("failed", False)), labels)
    yield Sample("sias_restore_duration_seconds", found.get("seconds", 0), labels)


def brick(path: Path, proc: Path = Path("/proc")) -> Iterator[Sample]:
    """Yield the state of a Gluster brick without asking glusterd, which would take a lock over the whole pool.

    A brick notes in its xattrop index each file that another brick has missed: that is what `heal info` counts too.
    """
    labels = {"brick": str(path)}
    yield Sample("sias_documents_brick_up", float(brick_runs(path, proc)), labels)
    index = path / ".glusterfs" / "indices" / "xattrop"
    if not index.is_dir():
        raise UnreadableError(f"brick {path} has no index {index}: was the volume ever started?")
    # The entry xattrop-<uuid> is the file that all others are links to; it names no document.
    pending = sum(1 for entry in os.scandir(index) if not entry.name.startswith("xattrop-"))
    yield Sample("sias_documents_heal_pending", pending, labels)


def brick_runs(path: Path, proc: Path) -> bool:
    """Say whether a glusterfsd process serves this brick."""
    for cmdline in proc.glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # the process has ended meanwhile
        if words[0].endswith("glusterfsd") and str(path) in words:
            return True
    return False


def mount(path: Path, table: Path = Path("/proc/mounts")) -> Iterator[Sample]:
    """Say whether the volume is mounted, from the table of mounts: looking at the path itself could hang for ever."""
    mounted = any(words[1] == str(path) for words in map(str.split, table.read_text().splitlines()))
    yield Sample("sias_documents_mounted", float(mounted), {"path": str(path)})


def directory(base: str, dumps: Path = Path("/var/lib/sias-directory-dumps")) -> Iterator[Sample]:
    """Yield what the directory's server on this host says of itself: whether it answers, how far its copy reaches."""
    files = sorted(dumps.glob("directory-*.ldif.gz"))
    yield Sample("sias_directory_dump_seconds", files[-1].stat().st_mtime if files else 0)
    uri = "ldapi://%2Frun%2Fsias-directory-server%2Fldapi"
    command = ["ldapsearch", "-H", uri, "-Y", "EXTERNAL", "-Q", "-LLL", "-s", "base", "-b", base, "contextCSN"]
    try:
        text = run([*command, "-o", "nettimeout=5", "-l", "5"])
    except UnreadableError:
        yield Sample("sias_directory_up", 0)
        raise
    yield Sample("sias_directory_up", 1)
    yield from read_changes(text)


def read_changes(text: str) -> Iterator[Sample]:
    """Yield the newest change of each server (its number, in hexadecimal) from `contextCSN`."""
    for at, server in re.findall(r"^contextCSN: (\d{14}\.\d{6})Z#\w+#(\w+)#", text, re.MULTILINE):
        moment = datetime.strptime(f"{at}+0000", "%Y%m%d%H%M%S.%f%z").timestamp()
        yield Sample("sias_directory_change_seconds", moment, {"server": server})


def passes(record: Path) -> Iterator[Sample]:
    """Yield when passes of the application over the directory last ended how, as the worker of this host wrote it."""
    for one in json.loads(record.read_text(encoding="utf-8")):
        yield Sample("sias_directory_pass_seconds", one["at"], {"kind": one["kind"], "outcome": one["outcome"]})


def duties(record: Path) -> Iterator[Sample]:
    """Yield how recurring duties of the application stand, as the worker of this host wrote it.

    Raises:
        UnreadableError: it has not written for DUTIES_TOLD seconds: how often a duty fails is not known here any more.
        OSError: it has never written.
    """
    age = time.time() - record.stat().st_mtime
    rows = json.loads(record.read_text(encoding="utf-8"))
    for one in rows:
        yield Sample("sias_duty_run_seconds", one["at"], {"duty": one["duty"]})
        yield Sample("sias_duty_period_seconds", one["every"], {"duty": one["duty"]})
    if age > DUTIES_TOLD:
        raise UnreadableError(f"the worker has not written {record} for {age:.0f} s")
    for one in rows:
        yield Sample("sias_duty_failures", one["failures"], {"duty": one["duty"]})


def pools(port: int) -> Iterator[Sample]:
    """Yield what PgBouncer on this host says of its queues, asked as its stats user, who may look and nothing else."""
    way = f"host=/run/pgbouncer port={port} dbname=pgbouncer user=pgbouncer_stats connect_timeout=5"
    psql = ["psql", "-X", "--no-password", "--csv", "-d", f"{way} passfile=/etc/sias/pgbouncer-stats.pgpass", "-c"]
    yield from read_pools(run([*psql, "SHOW DATABASES"]), run([*psql, "SHOW POOLS"]))


def read_pools(databases: str, found: str) -> Iterator[Sample]:
    """Yield the figures of each database: its pools together (one per user), zeros when it has none yet."""
    rows = list(csv.DictReader(found.splitlines()))
    for database in csv.DictReader(databases.splitlines()):
        name = database["name"]
        if name == "pgbouncer":
            continue  # its console
        here = [row for row in rows if row["database"] == name]
        # "Used" are idle ones that are tested before somebody gets them.
        for metric, state, columns in (
            ("clients", "active", ["cl_active"]),
            ("clients", "waiting", ["cl_waiting"]),
            ("servers", "active", ["sv_active"]),
            ("servers", "idle", ["sv_idle", "sv_used", "sv_tested"]),
        ):
            count = sum(int(row[column]) for row in here for column in columns)
            yield Sample(f"sias_pgbouncer_{metric}", count, {"database": name, "state": state})
        longest = max((int(row["maxwait"]) + int(row["maxwait_us"]) / 1e6 for row in here), default=0)
        yield Sample("sias_pgbouncer_longest_wait_seconds", longest, {"database": name})
        yield Sample("sias_pgbouncer_paused", int(database["paused"]), {"database": name})


def collect(collectors: dict[str, Callable[[], Iterable[Sample]]]) -> tuple[list[Sample], list[str]]:
    """Run every collector; return all samples, and one sentence for each collector that failed."""
    samples: list[Sample] = []
    complaints: list[str] = []
    for name, collector in collectors.items():
        succeeded = True
        try:
            # One by one: what a collector has read before it failed is kept.
            for sample in collector():
                samples.append(sample)  # noqa: PERF402
        except (UnreadableError, OSError, ValueError, KeyError) as error:
            succeeded = False
            complaints.append(f"{name}: {error}")
        samples.append(Sample("sias_metrics_collector_ok", float(succeeded), {"collector": name}))
    return samples, complaints


def render(samples: Iterable[Sample]) -> str:
    """Return the exposition format: help, type and lines of each metric together."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    lines: list[str] = []
    for name, group in by_name.items():
        lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} gauge", *map(str, group)]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Replace the file at once, so that the node exporter never reads half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def main(arguments: list[str]) -> int:
    """Collect what the arguments name and write it; what failed is a figure and a line of log."""
    parser = argparse.ArgumentParser(prog="sias-metrics", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="file that the node exporter reads")
    parser.add_argument("--certificates", type=Path, nargs="+", default=[], help="certificates (PEM)")
    parser.add_argument("--covers", nargs="+", default=[], help="names and addresses that the first of them must hold")
    parser.add_argument("--stanza", help="pgBackRest stanza of this host's own repository")
    parser.add_argument("--archive-log", type=Path, help="log of pgBackRest's archiving on this database host")
    parser.add_argument("--restores", nargs=2, metavar=("RECORD", "ROOM"), help="what restore proofs of a room found")
    parser.add_argument("--brick", type=Path, help="folder of this host's Gluster brick")
    parser.add_argument("--mount", type=Path, help="where the document volume should be mounted")
    parser.add_argument("--directory", metavar="BASE", help="root of the directory that this host serves")
    parser.add_argument("--passes", type=Path, help="what the worker tells of passes over the directory")
    parser.add_argument("--duties", type=Path, help="what the worker tells of its recurring duties")
    parser.add_argument("--pools", type=int, metavar="PORT", help="port of this host's PgBouncer")
    options = parser.parse_args(arguments)

    collectors: dict[str, Callable[[], Iterable[Sample]]] = {}
    if options.certificates:
        collectors["certificates"] = lambda: certificates(options.certificates)
    if options.covers:
        collectors["cover"] = lambda: cover(options.certificates[0], options.covers)
    if options.stanza:
        collectors["backups"] = lambda: backups(options.stanza)
        collectors["wal"] = missing_wal
    if options.archive_log:
        collectors["archive"] = lambda: dropped_wal(options.archive_log)
    if options.restores:
        collectors["restores"] = lambda: restores(Path(options.restores[0]), options.restores[1])
    if options.brick:
        collectors["brick"] = lambda: brick(options.brick)
    if options.mount:
        collectors["mount"] = lambda: mount(options.mount)
    if options.directory:
        collectors["directory"] = lambda: directory(options.directory)
    if options.passes:
        collectors["passes"] = lambda: passes(options.passes)
    if options.duties:
        collectors["duties"] = lambda: duties(options.duties)
    if options.pools:
        collectors["pools"] = lambda: pools(options.pools)

    samples, complaints = collect(collectors)
    write(options.output, render(samples))
    for complaint in complaints:
        print(f"sias-metrics: {complaint}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
