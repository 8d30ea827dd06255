#!/usr/bin/env python3
"""Prove on a database host that a repository restores: a copy, recovered, read back, checked, removed.

    sias-restore prove --room a --repository 1      what sias-restore.service runs, by its timer or for `sias backup`
    sias-restore clean                              remove what a run left; the unit calls it however the run ended

The copy stands in /var/lib/sias-restore, listens on a socket there and on no port, archives nothing and belongs to no
cluster. The unit may write nowhere else, and its death ends the copy's PostgreSQL with it. A request of the controller
(request.json) says how far to recover; without one recovery goes to the newest moment of the ledger that the
repository reaches: a table into which sias-restore-beat writes a row every minute (see sias_restore_beat.sql).

Prints the proof as JSON and leaves it in proof.json. Exit 0 it held, 1 it did not, 3 it could not be tried. Python's
standard library only: hosts have no internet.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/pgbackrest.conf")
HOME = Path("/var/lib/sias-restore")
PORT = 5499
"""Names the copy's socket; no TCP port is opened."""
ROOM_TO_SPARE = 1.3
"""Free disk wanted, in sizes of the database: recovery writes as well."""
STEP_LIMIT = 6 * 3600.0
"""Seconds for any one command; the unit's RuntimeMaxSec bounds the whole."""
BEAT_LIMIT = 900.0
"""Seconds since the newest row of the ledger from which it counts as dead."""
COMMITTED = timedelta(seconds=1)
"""A write that was sent this long before the target has its commit before it; one sent later may have or not."""
SEGMENT = 24
"""Bits of a position that lie inside one WAL segment (16 MiB)."""
UNREACHED = ("HostConnectError", "ServiceError", "unable to find a valid repository", "[122]", "[124]", "[049]")
"""What pgBackRest says when the repository's host, not the repository, is the trouble."""
SPOILT = r"checksum|[Cc]rypt|cipher|[Dd]ecompress|zst|\[(?:029|055|095)\]|unable to flush"
"""What pgBackRest says when a file of the repository is not what it wrote."""
RECOVERY_SETTINGS = {
    "max_connections": "max_connections",
    "max_worker_processes": "max_worker_processes",
    "max_wal_senders": "max_wal_senders",
    "max_prepared_xacts": "max_prepared_transactions",
    "max_locks_per_xact": "max_locks_per_transaction",
}
"""Settings that recovery wants at least as high as the primary had them: pg_controldata's name, PostgreSQL's."""

COUNTS = """
SELECT coalesce(json_object_agg(t.name, t.rows), '{}') FROM (
  SELECT format('%I.%I', n.nspname, c.relname) AS name,
         (xpath('/row/c/text()',
                query_to_xml(format('SELECT count(*) AS c FROM %I.%I', n.nspname, c.relname), false, true, '')
         ))[1]::text::bigint AS rows
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast') t
"""
BEATS = """
SELECT coalesce(json_agg(json_build_array(n, to_char(sent AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), lsn) ORDER BY n),
                '[]') FROM sias_restore.ledger WHERE source = 'beat'
"""


class RefusedError(Exception):
    """The repository cannot restore this: what was found, and what to do."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found, self.advice = found, advice


class NotTriedError(Exception):
    """It could not be tried, in a sentence for the operator."""


def position(lsn: str) -> int:
    """Turn a position of the write-ahead log such as 0/5000148 into a number."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def segment_position(name: str) -> int:
    """Say where the segment of that name begins, whatever its timeline."""
    return (int(name[8:16], 16) << 32) + (int(name[16:24], 16) << SEGMENT)


def choose_moment(beats: list[list[Any]], newest: str, oldest: datetime) -> tuple[datetime, str]:
    """Choose the newest moment just before a write of the ledger which the repository holds whole.

    Recovery to a moment needs a commit after it: that of the beat which was sent then. The beat after that one began
    in a segment that is archived, so the commit is archived too.

    Args:
        beats: number, moment sent (UTC), position; in order.
        newest: newest segment of the repository.
        oldest: end of its oldest backup.

    Returns:
        The moment, and the position of the beat that must not be there.

    Raises:
        NotTriedError: no beat fits.
    """
    reach = segment_position(newest)
    for this, following in zip(reversed(beats[:-1]), reversed(beats), strict=False):
        sent = moment_of(this[1])
        if position(following[2]) >> SEGMENT <= reach >> SEGMENT and sent > oldest and this is not beats[0]:
            return sent - timedelta(microseconds=1), str(following[2])
    raise NotTriedError(
        f"no two writes of the ledger lie between the oldest backup ({oldest:%Y-%m-%d %H:%M:%S} UTC) and the newest "
        f"archived segment {newest}; wait two minutes after a deployment, then look at sias-restore-beat on the primary."
    )


def moment_of(text: str) -> datetime:
    """Read a moment of the ledger: UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def judge_ledger(
    live: list[list[Any]], copy: list[list[Any]], moment: datetime | None, reach: str | None
) -> dict[str, Any]:
    """Compare the copy's ledger with the live one: every write before the target is there, none after it.

    A write whose number lies below the oldest one that is still live was cleared since, and counts for nothing. To the
    end of the archive, writes before the position that had to be reached count.
    """
    first = live[0][0] if live else 0
    there = {number: sent for number, sent, _ in copy if number >= first}
    if moment is not None:
        wanted = {number: sent for number, sent, _ in live if moment_of(sent) <= moment - COMMITTED}
        beyond = [number for number, sent in there.items() if moment_of(sent) > moment]
    else:
        end = position(reach) if reach else 0
        # A write begins before it commits: one whose successor began before the end is certainly there.
        settled = [this for this, following in pairwise(live) if position(following[2]) <= end]
        wanted = {number: sent for number, sent, _ in settled}
        beyond = []
    missing = [number for number in wanted if number not in there]
    changed = [number for number, sent in wanted.items() if number in there and there[number] != sent]
    good = bool(wanted) and not missing and not beyond and not changed
    found = f"{len(wanted)} minutes' writes due, {len(there)} there"
    for what, numbers in (("missing", missing), ("later than the target", beyond), ("changed", changed)):
        if numbers:
            found += f"; {what}: {len(numbers)}, such as number {numbers[-1]}"
    advice = "" if good else "restore from the other room's repository; see runbooks/alerts/RestoreNotProven.md"
    return line(good, "ledger", found, advice)


def line(ok: bool, what: str, found: str, advice: str = "") -> dict[str, Any]:
    """Make one line of the verdict."""
    return {"ok": ok, "what": what, "found": found, "advice": advice}


def errors_of(text: str) -> str:
    """Pick pgBackRest's complaints: one line, each once."""
    found = re.findall(r"(?:ERROR: |\[)\[?(?:\d{3}|\w+Error)\]?:? .*", text) or text.strip().splitlines()[-2:]
    return " ".join(dict.fromkeys(entry.strip() for entry in found))[:600]


class Proof:
    """One run: what is asked, and what it found. The fields of `result` are those that `sias backup` reads."""

    def __init__(self, request: dict[str, Any], keep_free_mb: int) -> None:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.read(CONFIG, encoding="utf-8")
        sections = [name for name in parser.sections() if not name.startswith("global")]
        if not sections:
            raise NotTriedError(f"{CONFIG} names no stanza: run playbooks/site.yml --tags backup.")
        self.stanza = sections[0]
        self.request = request
        self.key = int(request["repository"])
        self.room = str(request["room"])
        self.host = parser.get("global", f"repo{self.key}-host", fallback="")
        if not self.host:
            raise NotTriedError(f"{CONFIG} has no repository number {self.key}: run playbooks/site.yml --tags backup.")
        data = Path(parser.get(self.stanza, "pg1-path"))
        version, self.database = data.parent.name, data.name
        self.binaries = Path(f"/usr/lib/postgresql/{version}/bin")
        self.keep_free = keep_free_mb * 2**20
        self.copy = HOME / "copy"
        self.data = self.copy / "data"
        self.name = f"repository of room {self.room} ({self.host})"
        self.other = (
            "restore from the other room's repository, and take a new full backup here (sias backup take "
            f"--room {self.room} --type full) once the disk of {self.host} is sound"
        )
        self.result: dict[str, Any] = {
            "id": request.get("id"), "repository": self.host, "room": self.room, "target": "", "label": "",
            "restore_seconds": 0.0, "recovery_seconds": 0.0, "seconds": 0.0, "reached": "", "last_transaction": None,
            "loss_seconds": None, "rows": {}, "queries": {}, "lines": [], "kept": None, "problem": None,
        }  # fmt: skip

    # --- commands -----------------------------------------------------------------------------------------------

    def pgbackrest(self, *arguments: str) -> list[str]:
        """Make a command that asks this repository, or the copy of one whose configuration the request names."""
        config = self.request.get("config")
        chosen = [f"--repo{self.key}-host-config={config}"] if config else []
        return ["pgbackrest", f"--stanza={self.stanza}", f"--repo={self.key}", *chosen, *arguments]

    def ask(self, sql: str, *, live: bool = False, database: str | None = None) -> str:
        """Ask the copy, or the live PostgreSQL of this host.

        Raises:
            NotTriedError: it does not answer.
        """
        where = [] if live else ["-h", str(self.copy), "-p", str(PORT)]
        done = subprocess.run(
            ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *where, "-d", database or self.database, "-f", "-"],
            input=sql, capture_output=True, text=True, timeout=STEP_LIMIT, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise NotTriedError(f"the {'live database' if live else 'copy'} did not answer: {done.stderr.strip()}")
        return done.stdout.strip()

    def watched(self, command: list[str]) -> tuple[int, str]:
        """Run a command that fills the disk, and stop it before the live database would lack room."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            short = threading.Event()

            def watch() -> None:
                ended = threading.Event()
                while process.poll() is None and not ended.wait(0.5):
                    if shutil.disk_usage(HOME).free < self.keep_free:
                        short.set()
                        process.kill()
                        return

            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()
            said, _ = process.communicate()
            watcher.join()
        if short.is_set():
            raise NotTriedError(
                f"less than {self.keep_free // 2**20} MiB would have been left free under {HOME}: stopped."
            )
        return process.returncode, said

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Tell the controller and the journal what is being done; a crash leaves the step named."""
        write(HOME / "state.json", {"id": self.request.get("id"), "step": what})
        began = time.monotonic()
        yield
        print(f"{what}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)

    # --- steps --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Do everything; the verdict stands in `result`."""
        began = time.monotonic()
        try:
            with self.step(f"look at the {self.name}"):
                catalogue = self.catalogue()
                moment, reach = self.aim(catalogue)
                backup = self.choose(catalogue, moment)
                gap = self.gap(backup, reach, catalogue)
                self.enough_disk(backup)
            with self.step(f"restore backup {backup['label']}"):
                self.restore(backup, moment)
            with self.step(f"start the copy, and recover to {self.result['target']}"):
                self.recover(gap)
            with self.step("read the data back"):
                self.read_back(moment, reach)
            with self.step("check every table and index (amcheck)"):
                self.amcheck()
            if not self.request.get("keep"):
                with self.step("check the checksum of every page"):
                    self.checksums()
        except RefusedError as refusal:
            self.result["lines"].append(line(False, self.name, refusal.found, refusal.advice))
        except NotTriedError as error:
            self.result["problem"] = str(error)
        self.result["seconds"] = round(time.monotonic() - began, 1)

    @property
    def held(self) -> bool:
        """Whether every line holds."""
        lines = self.result["lines"]
        return self.result["problem"] is None and bool(lines) and all(entry["ok"] for entry in lines)

    def catalogue(self) -> dict[str, Any]:
        """Ask what the repository holds.

        Raises:
            RefusedError: its key is wrong, or it cannot be read, or it is empty.
            NotTriedError: its host does not answer.
        """
        done = subprocess.run(
            self.pgbackrest("--output=json", "--log-level-file=off", "info"),
            capture_output=True, text=True, errors="replace", timeout=STEP_LIMIT, check=False,
        )  # fmt: skip
        found: dict[str, Any] = {}
        said = done.stderr
        # pgBackRest 2.45 dies of a signal, rather than complain, when a key is wrong: then `found` stays empty.
        if done.returncode == 0 and done.stdout.startswith("["):
            answers = json.loads(done.stdout)
            found = answers[0] if answers else {}
            said = " ".join(entry["status"]["message"] for entry in found.get("repo", []))
            if found and found["status"]["code"] == 0:
                return found
        if any(sign in said for sign in UNREACHED):
            raise NotTriedError(f"the {self.name} does not answer: {errors_of(said)}; see that {self.host} is up.")
        heads = {
            name: self.head(name)
            for name in (f"backup/{self.stanza}/backup.info", f"archive/{self.stanza}/archive.info")
        }
        if all(head is not None and not head.startswith(b"[") for head in heads.values()):
            raise RefusedError(
                "none of its files decrypts: its key (repo-cipher-pass) is not the one it was written with",
                f"put back backup_cipher_{self.room} as it was when the repository was made (the secrets, or their copy "
                "kept off site) and run playbooks/site.yml --tags backup; without it this repository is lost and only "
                "the other room's restores",
            )
        spoilt = [name for name, head in heads.items() if head is not None and not head.startswith(b"[")]
        if spoilt:
            raise RefusedError(f"corrupted: {', '.join(spoilt)} cannot be read", self.other)
        raise RefusedError(f"it offers no backup: {errors_of(said) or 'info gave no answer'}", self.other)

    def head(self, name: str) -> bytes | None:
        """Read the beginning of a file of the repository, decrypted; None when it is not there."""
        done = subprocess.run(
            self.pgbackrest("--log-level-file=off", "--log-level-console=off", "--ignore-missing", "repo-get", name),
            capture_output=True, timeout=STEP_LIMIT, check=False,
        )  # fmt: skip
        if done.returncode == 1:  # missing
            return None
        return done.stdout[:64] if done.returncode == 0 else b"?"

    def aim(self, catalogue: dict[str, Any]) -> tuple[datetime | None, str | None]:
        """Say how far recovery goes, and the position that the archive must reach for it."""
        asked = self.request.get("target", "ledger")
        reach: str | None = self.request.get("reach")
        newest = catalogue["archive"][-1]["max"]
        if asked == "latest":
            self.result["target"] = "the end of the archive"
            return None, reach
        if asked != "ledger":
            moment = datetime.fromisoformat(asked)
        else:
            oldest = min(backup["timestamp"]["stop"] for backup in catalogue["backup"])
            beats = json.loads(self.ask(BEATS, live=True, database="postgres"))
            moment, reach = choose_moment(beats, newest, datetime.fromtimestamp(oldest, UTC))
        self.result["target"] = moment.isoformat(sep=" ")
        self.result["loss_seconds"] = round((datetime.now(UTC) - moment).total_seconds(), 1)
        return moment, reach

    def choose(self, catalogue: dict[str, Any], moment: datetime | None) -> dict[str, Any]:
        """Choose the newest backup that was complete before the target.

        Raises:
            NotTriedError: the target lies before all of them.
        """
        fitting = [
            backup for backup in catalogue["backup"]
            if moment is None or datetime.fromtimestamp(backup["timestamp"]["stop"] + 1, UTC) <= moment
        ]  # fmt: skip
        if not fitting:
            oldest = datetime.fromtimestamp(min(b["timestamp"]["stop"] for b in catalogue["backup"]), UTC)
            raise NotTriedError(
                f"the {self.name} recovers to moments from {oldest:%Y-%m-%d %H:%M:%S} UTC on, not to {moment}; "
                "ask for a later one, or try the other room's."
            )
        chosen: dict[str, Any] = max(fitting, key=lambda backup: backup["timestamp"]["stop"])
        self.result["label"] = chosen["label"]
        return chosen

    def gap(self, backup: dict[str, Any], reach: str | None, catalogue: dict[str, Any]) -> str | None:
        """Look for segments that are missing between the backup and what must be reached, before anything is fetched.

        Returns:
            The first missing one when it is not known whether recovery needs it.

        Raises:
            RefusedError: recovery needs it.
        """
        command = [
            "/usr/local/sbin/sias-backup",
            "wal",
            "--repository",
            str(self.key),
            "--since",
            backup["archive"]["start"],
        ]
        if self.request.get("config"):
            command += ["--config", self.request["config"]]
        if reach:
            command += ["--upto", f"{0:08X}{position(reach) >> 32:08X}{(position(reach) & 0xFFFFFFFF) >> SEGMENT:08X}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_LIMIT, check=False)
        if done.returncode != 0:
            raise NotTriedError(f"the {self.name} did not list its segments: {done.stderr.strip()}")
        found = json.loads(done.stdout)
        if not found["missing"]:
            return None
        first, end = found["first_missing"], catalogue["archive"][-1]["max"]
        if reach or self.request.get("target") == "latest":
            raise RefusedError(
                f"{found['missing']} WAL segment(s) missing between backup {backup['label']} and {end}, the first is {first}: "
                "recovery would end there",
                "restore from the other room's repository, or to a moment before; "
                f"then sias backup take --room {self.room} --type full, see runbooks/alerts/WalMissing.md",
            )
        return str(first)

    def enough_disk(self, backup: dict[str, Any]) -> None:
        """Refuse before the disk is full.

        Raises:
            NotTriedError: too little is free.
        """
        wanted = int(backup["info"]["size"] * ROOM_TO_SPARE) + self.keep_free
        free = shutil.disk_usage(HOME).free
        if free < wanted:
            raise NotTriedError(
                f"{free // 2**20} MiB are free under {HOME}; the copy wants {wanted // 2**20} MiB, of which "
                f"{self.keep_free // 2**20} stay free for the live database. Free some, or restore on another host (--on)."
            )

    def restore(self, backup: dict[str, Any], moment: datetime | None) -> None:
        """Fetch the files.

        Raises:
            RefusedError: the repository is corrupted.
        """
        began = time.monotonic()
        self.copy.mkdir(mode=0o700)
        self.data.mkdir(mode=0o700)
        # A spool of its own, and not asynchronous: a restore clears the spool, and the configured one is the live database's.
        get = self.pgbackrest(f"--pg1-path={self.data}", "--no-archive-async", "--log-level-file=off", "archive-get")
        target = ["--type=default"]
        if moment is not None:
            target = ["--type=time", f"--target={moment:%Y-%m-%d %H:%M:%S.%f}+00", "--target-action=promote"]
        code, said = self.watched(self.pgbackrest(
            f"--pg1-path={self.data}", f"--spool-path={self.copy}/spool", f"--set={backup['label']}",
            "--archive-mode=off", "--log-level-file=off", "--job-retry=1",
            f"--recovery-option=restore_command={shlex.join(get)} %f %p", "--log-level-console=warn", *target, "restore",
        ))  # fmt: skip
        if code != 0:
            if not re.search(SPOILT, said):
                raise NotTriedError(f"pgbackrest restore from the {self.name} stopped: {errors_of(said)}.")
            raise RefusedError(
                f"corrupted: backup {backup['label']} cannot be read whole: {errors_of(said)}", self.other
            )
        self.result["restore_seconds"] = round(time.monotonic() - began, 1)

    def recover(self, gap: str | None) -> None:
        """Start the copy on its own socket, and wait until it has reached its target and takes writes.

        Raises:
            RefusedError: recovery ended before its target.
        """
        began = time.monotonic()
        control = subprocess.run(
            [self.binaries / "pg_controldata", "-D", self.data],
            capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"},
        ).stdout  # fmt: skip
        settings = {
            "listen_addresses": "", "port": str(PORT), "unix_socket_directories": str(self.copy),
            "hba_file": f"{self.copy}/pg_hba.conf", "ident_file": f"{self.data}/pg_ident.conf",
            "cluster_name": "restore-proof", "shared_buffers": "64MB", "maintenance_work_mem": "64MB", "ssl": "off",
            "archive_mode": "off", "hot_standby": "on", "synchronous_standby_names": "", "primary_conninfo": "",
            "primary_slot_name": "", "recovery_target_timeline": "latest", "shared_preload_libraries": "",
        }  # fmt: skip
        for name, option in RECOVERY_SETTINGS.items():
            match = re.search(rf"^{name} setting:\s+(\d+)$", control, re.MULTILINE)
            if match:
                settings[option] = match[1]
        (self.copy / "pg_hba.conf").write_text("local all postgres peer\n", encoding="utf-8")
        log = self.copy / "log"
        options = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in settings.items())
        start = [str(self.binaries / "pg_ctl"), "start", "-s", "-w", "-t", str(int(STEP_LIMIT)), "-D", str(self.data)]
        code, _ = self.watched([*start, "-l", str(log), "-o", options])
        pause = threading.Event()
        while code == 0 and (self.data / "postmaster.pid").exists():
            if shutil.disk_usage(HOME).free < self.keep_free:
                raise NotTriedError(
                    f"less than {self.keep_free // 2**20} MiB left free under {HOME} in recovery: stopped."
                )
            try:
                if self.ask("SELECT pg_is_in_recovery()", database="postgres") == "f":
                    self.result["recovery_seconds"] = round(time.monotonic() - began, 1)
                    return
            except NotTriedError:
                pass  # between recovery and its end it may refuse; its death ends this loop
            pause.wait(0.2)
        said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        broken = re.findall(r"ERROR: \[\d+\]: .*", said)
        if "recovery ended before configured recovery target was reached" in said or broken:
            where = f"; segment {gap} is missing from it" if gap else ""
            where += f"; {broken[-1].strip()}" if broken else ""
            raise RefusedError(
                f"the archive does not reach {self.result['target']}: recovery ended before it{where}",
                "restore from the other room's repository, or to an earlier moment (or, when nothing was written after it: "
                "--to-latest)",
            )
        raise RefusedError(f"the copy does not start: {' | '.join(said.strip().splitlines()[-3:])}", self.other)

    def read_back(self, moment: datetime | None, reach: str | None) -> None:
        """Fill in what the copy holds, and judge how far it came and what the ledger says."""
        result, lines = self.result, self.result["lines"]
        state = json.loads(self.ask(
            "SELECT json_build_object('lsn', pg_last_wal_replay_lsn(), 'moment', pg_last_xact_replay_timestamp())"
        ))  # fmt: skip
        result["reached"], result["last_transaction"] = state["lsn"] or "", state["moment"]
        last = datetime.fromisoformat(state["moment"]) if state["moment"] else None
        if moment is not None:
            told = f"last transaction {last.astimezone(UTC).isoformat(sep=' ') if last else 'of the backup itself'}"
            good = last is None or last <= moment
            advice = "" if good else "the copy went past the moment asked for: do not use it"
            lines.append(line(good, "recovery stopped", f"{told}, wanted {moment.isoformat(sep=' ')}", advice))
        elif reach:
            good = bool(state["lsn"]) and position(state["lsn"]) >= position(reach)
            log = (self.copy / "log").read_text(encoding="utf-8", errors="replace")
            broken = re.findall(r"ERROR: \[\d+\]: .*", log)
            found = f"{state['lsn']}, the primary stood at {reach}" + (f"; {broken[-1].strip()}" if broken else "")
            lines.append(line(good, "recovery reached", found, "" if good else self.other))
        result["rows"] = json.loads(self.ask(COUNTS))
        total = sum(result["rows"].values())
        lines.append(line(bool(result["rows"]), "rows read back", f"{len(result['rows'])} tables, {total} rows",
                          "" if result["rows"] else self.other))  # fmt: skip
        result["queries"] = {
            query: self.ask(query, database=database) for database, query in self.request.get("queries", [])
        }
        if not self.request.get("config"):
            self.judge_beats(moment, reach)

    def judge_beats(self, moment: datetime | None, reach: str | None) -> None:
        """Compare the ledger with that of this host's live database, and see that it is written at all."""
        try:
            live = json.loads(self.ask(BEATS, live=True, database="postgres"))
        except NotTriedError as error:
            if self.request.get("target", "ledger") == "ledger":
                raise
            print(f"no live ledger to compare with: {error}", file=sys.stderr)
            return
        # A moment before the ledger began, as after a first deployment: nothing is due yet.
        if moment is not None and (not live or moment_of(live[0][1]) > moment):
            return
        if moment is None and not reach:
            return
        copy = json.loads(self.ask(BEATS, database="postgres"))
        self.result["lines"].append(judge_ledger(live, copy, moment, reach))
        age = (datetime.now(UTC) - moment_of(live[-1][1])).total_seconds()
        self.result["lines"].append(line(
            age <= BEAT_LIMIT, "ledger is written", f"its newest write is {age:.0f} s old",
            "" if age <= BEAT_LIMIT else "on the primary: systemctl status sias-restore-beat.timer sias-restore-beat",
        ))  # fmt: skip

    def amcheck(self) -> None:
        """Check every table and every btree index, each heap row for its entry in the index."""
        done = subprocess.run(
            [self.binaries / "pg_amcheck", "-h", self.copy, "-p", str(PORT), "--all", "--install-missing", "--heapallindexed",
             "--progress"],
            capture_output=True, text=True, timeout=STEP_LIMIT, check=False, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
        counted = re.findall(r"(\d+)/(\d+) relations \(100%\)", done.stderr)
        good = done.returncode == 0 and bool(counted) and int(counted[-1][1]) > 0
        # What is damaged stands on standard output, the first of it first; standard error is mostly progress.
        damaged = " ".join(done.stdout.split())[:300] or done.stderr.strip()[-300:]
        found = f"{counted[-1][0]} tables and indexes, none damaged" if good else damaged
        self.result["lines"].append(line(good, "amcheck", found, "" if good else self.other))

    def checksums(self) -> None:
        """Stop the copy and check the checksum of every page."""
        self.stop()
        done = subprocess.run(
            [self.binaries / "pg_checksums", "--check", "-D", self.data],
            capture_output=True, text=True, timeout=STEP_LIMIT, check=False, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
        said = done.stdout + done.stderr
        blocks, bad = re.search(r"Blocks scanned:\s+(\d+)", said), re.search(r"Bad checksums:\s+(\d+)", said)
        good = bool(blocks and bad and int(bad[1]) == 0 and int(blocks[1]) > 0)
        found = (
            f"{blocks[1]} pages, none bad" if good and blocks else said.strip()[-300:] or "pg_checksums said nothing"
        )
        self.result["lines"].append(line(good, "checksums of pages", found, "" if good else self.other))

    def stop(self) -> None:
        """Stop the copy when it runs."""
        if (self.data / "postmaster.pid").exists():
            subprocess.run(
                [self.binaries / "pg_ctl", "stop", "-s", "-w", "-m", "fast", "-D", self.data],
                check=False,
                capture_output=True,
            )


def write(path: Path, value: Any) -> None:
    """Replace a file at once."""
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    draft.replace(path)


def clean() -> None:
    """Remove what a run left: its PostgreSQL has ended with the unit."""
    shutil.rmtree(HOME / "copy", ignore_errors=True)
    for name in ("request.json", "state.json"):
        (HOME / name).unlink(missing_ok=True)


def record(path: Path, proof: Proof, *, scheduled: bool) -> None:
    """Note for Prometheus when this room's own repository was last proven, and whether its last proof failed.

    A question that an operator asked in vain says nothing about the repository.
    """
    if proof.result["problem"] is not None and not scheduled:
        return
    former = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    said = proof.result["problem"] or "; ".join(
        f"{e['what']}: {e['found']}" for e in proof.result["lines"] if not e["ok"]
    )
    write(path, {
        "repository": proof.room,
        "proven": time.time() if proof.held else former.get("proven", 0),
        "seconds": proof.result["seconds"] if proof.held else former.get("seconds", 0),
        "loss_seconds": proof.result["loss_seconds"],
        "failed": not proof.held,
        "said": said,
    })  # fmt: skip


def prove(own: dict[str, Any], keep_free_mb: int) -> int:
    """Run one proof, record it, leave nothing."""
    path = HOME / "request.json"
    asked: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.unlink(missing_ok=True)
    shutil.rmtree(HOME / "copy", ignore_errors=True)
    proof: Proof | None = None
    try:
        proof = Proof({**own, **asked}, keep_free_mb)
        proof.run()
    except NotTriedError as error:
        print(error, file=sys.stderr)
        write(HOME / "proof.json", {"id": asked.get("id"), "problem": str(error), "lines": []})
        return 3
    # A copy that is kept has not had its pages checked; a copy of a repository says nothing about the repository.
    if proof.room == own["room"] and not asked.get("config") and not asked.get("keep"):
        record(HOME / "record.json", proof, scheduled=not asked)
    keep = (
        float(asked.get("keep") or 0)
        if proof.result["problem"] is None and (proof.data / "postmaster.pid").exists()
        else 0
    )
    if keep:
        proof.result["kept"] = f"psql -h {proof.copy} -p {PORT} -d {proof.database}"
    else:
        proof.stop()
        shutil.rmtree(proof.copy, ignore_errors=True)
    write(HOME / "proof.json", proof.result)
    print(json.dumps(proof.result, ensure_ascii=False), flush=True)
    if keep:
        threading.Event().wait(keep)
        proof.stop()
    return 3 if proof.result["problem"] is not None else 0 if proof.held else 1


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="sias-restore", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    proving = commands.add_parser("prove", help="restore, read back, compare, remove")
    proving.add_argument("--room", required=True, help="room whose repository this host proves by itself")
    proving.add_argument("--repository", required=True, type=int, help="its number in /etc/pgbackrest.conf")
    proving.add_argument("--keep-free", type=int, default=1024, help="MiB of disk that the copy never takes")
    commands.add_parser("clean", help="remove what a run left")
    given = parser.parse_args()
    if given.command == "clean":
        clean()
        return 0
    return prove({"room": given.room, "repository": given.repository}, given.keep_free)


if __name__ == "__main__":
    sys.exit(main())
