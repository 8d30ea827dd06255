"""The copy of blue that becomes green: a physical standby, stopped at the restore point, raised to the next major version.

Files beside files: nothing of blue is touched but for one replication connection while the copy is made. Every
step looks first and may be run again; `remove` takes the copy away, whatever it has become.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath

from siasops.errors import UserError
from siasops.migrate.database import Psql
from siasops.remote import Fleet, Result, wait_until

HOME = PurePosixPath("/var/lib/postgresql")
SPARE = 1.3
"""Free disk that is asked for, as a multiple of what blue takes: the copy, its log, and statistics. pg_upgrade links files."""
POINT = "sias_migration"
"""Name of the restore point."""
COPY_LIMIT = 4 * 3600.0
"""Seconds that a copy may take."""


@dataclass(frozen=True)
class Green:
    """Where green is made on a host.

    `where`: libpq's description of blue for the copy, without a secret. `settings`: lines of its configuration.
    """

    fleet: Fleet
    host: str
    port: int
    where: str
    old: str
    """Major version of blue."""
    new: str
    settings: tuple[str, ...] = ()
    name: str = "sias"
    """Of its data folder, /var/lib/postgresql/<new>/<name>; that of the copy, before it is raised, ends in “-copy”."""

    def data(self, major: str) -> PurePosixPath:
        """Its data folder of a version."""
        return HOME / major / (self.name if major == self.new else f"{self.name}-copy")

    def program(self, major: str, name: str) -> str:
        """A program of a version."""
        return f"/usr/lib/postgresql/{major}/bin/{name}"

    def database(self, name: str) -> Psql:
        """One of its databases."""
        return Psql(self.fleet, self.host, self.port, name)


def room_for(green: Green, blue_bytes: int, blue_memory: int, memory_mb: int) -> tuple[bool, str]:
    """Whether the host has room for a second cluster: disk by what blue takes, memory by its buffers twice and half the rest.

    Args:
        green: where.
        blue_bytes: size of blue's databases and log.
        blue_memory: blue's shared buffers, in bytes.
        memory_mb: the host's memory, by the inventory.
    """
    answer = green.fleet.run(green.host, ["df", "--output=avail", "-B1", str(HOME)], check=True).stdout.split()
    free, wanted = int(answer[-1]), int(blue_bytes * SPARE)
    buffers, most = 2 * blue_memory, memory_mb * 1024 * 1024 // 2
    found = (f"{green.host}: {free >> 20} MiB of disk free, {wanted >> 20} wanted; twice {blue_memory >> 20} MiB of buffers,"
             f" {most >> 20} may be taken")  # fmt: skip
    return free >= wanted and buffers <= most, found


def make(green: Green) -> None:
    """Copy blue and follow it, until its log tells to stop. Harmless when that is done.

    Raises:
        RemoteError: it does not come up; says what PostgreSQL said.
    """
    if _exists(green, green.new) or _runs(green, green.old):
        return
    data = green.data(green.old)
    # What an interrupted copy left is worth nothing.
    _postgres(green, f"rm -rf {data} && mkdir -p {data.parent}")
    _postgres(
        green,
        f"{green.program(green.old, 'pg_basebackup')} -d {shlex.quote(green.where)} -D {data} -R -X stream -c fast",
        limit=COPY_LIMIT,
    )
    lines = [
        f"port = {green.port}", "unix_socket_directories = '/var/run/postgresql'", "listen_addresses = ''", "archive_mode = off",
        "synchronous_standby_names = ''", f"recovery_target_name = '{POINT}'", "recovery_target_action = promote",
        "recovery_target_timeline = current",
        # A primary that was a standby once still names the slot of that time, which nobody has here.
        "primary_slot_name = ''", f"cluster_name = '{green.name}-copy'",
    ]  # fmt: skip
    _write(green, data / "postgresql.auto.conf", lines, append=True)
    _start(green, green.old)


def stopped_at_point(green: Green, *, deadline: float = 600.0) -> None:
    """Wait until the copy has reached the restore point and is a cluster of its own.

    Raises:
        RemoteError: it has not in time.
    """
    if _exists(green, green.new):
        return
    database = green.database("postgres")
    wait_until(
        lambda: not database.ask("SELECT pg_is_in_recovery() AS still")[0]["still"],
        f"{green.host}: the copy has reached the restore point",
        deadline=deadline,
    )


def raise_version(green: Green) -> None:
    """Stop the copy and let pg_upgrade make the next version of it, by links: seconds, whatever its size.

    Raises:
        RemoteError: pg_upgrade refuses; says why.
    """
    old, new = green.data(green.old), green.data(green.new)
    if _exists(green, green.new) and _said(green, f"test -e {new}/sias_upgraded && echo yes"):
        return
    _postgres(green, f"rm -rf {new} && mkdir -p {new.parent}")
    if _runs(green, green.old):
        _postgres(green, f"{green.program(green.old, 'pg_ctl')} -D {old} -m fast -w -t 120 stop", limit=150)
    checksums = (
        _said(green, f"{green.program(green.old, 'pg_controldata')} {old} | grep -c 'checksum version: *[1-9]'") == "1"
    )
    _postgres(
        green,
        f"{green.program(green.new, 'initdb')} -D {new} -U postgres -E UTF8 --locale=C.UTF-8 --auth-local=peer"
        f" --auth-host=scram-sha-256 {'-k' if checksums else ''}",
        limit=120,
    )
    # In a folder of its own: its socket, and what it says when it refuses.
    done = _postgres(
        green,
        f"mkdir -p {HOME}/upgrade && cd {HOME}/upgrade && {green.program(green.new, 'pg_upgrade')} --link -j 2 -U postgres"
        f" -b /usr/lib/postgresql/{green.old}/bin -B /usr/lib/postgresql/{green.new}/bin -d {old} -D {new} -p {green.port}"
        f" -P {green.port} -o '-c listen_addresses= -c archive_mode=off' -O '-c listen_addresses= -c archive_mode=off'",
        limit=COPY_LIMIT,
        check=False,
    )
    if not done.ok:
        raise UserError(f"{green.host}: pg_upgrade refused: {(done.stdout + done.stderr).strip()[-1500:]}")
    _postgres(green, f"cp {old}/pg_hba.conf {new}/pg_hba.conf && touch {new}/sias_upgraded && rm -rf {HOME}/upgrade")


def start(green: Green) -> None:
    """Start green, and give it statistics: pg_upgrade carries none, and without them every plan is a guess."""
    if not _runs(green, green.new):
        lines = [f"port = {green.port}", "unix_socket_directories = '/var/run/postgresql'", f"cluster_name = '{green.name}'",
                 *green.settings]  # fmt: skip
        _write(green, green.data(green.new) / "postgresql.auto.conf", lines)
        _start(green, green.new)
    _postgres(
        green,
        f"{green.program(green.new, 'vacuumdb')} -h /var/run/postgresql -p {green.port} -a -Z -j 2 -q",
        limit=COPY_LIMIT,
    )


def hand_over(green: Green) -> None:
    """Stop green, leave nothing of how it was made, and let Patroni take its data over. Harmless when it has."""
    if _runs(green, green.new) and not _said(green, f"test -e {green.data(green.new)}/start.log && echo ours"):
        return  # Patroni's by now
    if _runs(green, green.new):
        _postgres(
            green, f"{green.program(green.new, 'pg_ctl')} -D {green.data(green.new)} -m fast -w -t 120 stop", limit=150
        )
    # Patroni's own settings would lose against these.
    _write(green, green.data(green.new) / "postgresql.auto.conf", [])
    _postgres(green, f"rm -rf {green.data(green.new)}/start.log {green.data(green.old)}", limit=600)


def remove(green: Green) -> None:
    """Stop green and delete its files; harmless when there is none."""
    for major in (green.new, green.old):
        if _runs(green, major):
            _postgres(
                green, f"{green.program(major, 'pg_ctl')} -D {green.data(major)} -m fast -w -t 120 stop", limit=150
            )
        _postgres(green, f"rm -rf {green.data(major)}", limit=600)


def sound(green: Green, database: str) -> tuple[bool, str]:
    """Whether every page and every index of a database is whole (pg_amcheck, with every row looked up in its indexes)."""
    where = f"-h /var/run/postgresql -p {green.port}"
    psql = f"{green.program(green.new, 'psql')} -X -q {where} -d {shlex.quote(database)}"
    there = _said(green, f"{psql} -At -c \"SELECT 1 FROM pg_extension WHERE extname = 'amcheck'\"") == "1"
    done = _postgres(
        green,
        # Its extension comes and goes where blue has none, though the schema is frozen.
        "export PGOPTIONS='-c sias.migration=on -c client_min_messages=warning';"
        f" {green.program(green.new, 'pg_amcheck')} {where} --install-missing=pg_catalog --heapallindexed -j 2"
        f" {shlex.quote(database)}" + ("" if there else f" && {psql} -c 'DROP EXTENSION amcheck'"),
        limit=COPY_LIMIT,
        check=False,
    )
    said = (done.stdout + done.stderr).strip()
    return done.ok, said[-600:] or "every page and every index is whole"


def offered(fleet: Fleet, host: str, major: str) -> dict[str, str] | None:
    """Extensions that a version's packages offer on a host, with their versions; None when they are not installed."""
    folder = f"/usr/share/postgresql/{major}/extension"
    said = fleet.run(host, f"cd {folder} && grep -H '^default_version' *.control", sudo=False)
    if not said.ok:
        return None
    rows = [line.split(":", 1) for line in said.stdout.splitlines()]
    return {name.removesuffix(".control"): text.split("=", 1)[1].strip(" '") for name, text in rows}


def _exists(green: Green, major: str) -> bool:
    return _said(green, f"test -e {green.data(major)}/PG_VERSION && echo yes") == "yes"


def _runs(green: Green, major: str) -> bool:
    return _postgres(green, f"{green.program(major, 'pg_ctl')} -D {green.data(major)} status", check=False).ok


def _start(green: Green, major: str) -> None:
    data = green.data(major)
    done = _postgres(
        green,
        f"{green.program(major, 'pg_ctl')} -D {data} -w -t 300 -s -l {data}/start.log start",
        limit=320,
        check=False,
    )
    if not done.ok:
        said = _said(green, f"tail -n 5 {data}/start.log")
        raise UserError(f"{green.host}: PostgreSQL {major} of {data} does not start: {said or done.stderr.strip()}")


def _write(green: Green, path: PurePosixPath, lines: list[str], *, append: bool = False) -> None:
    text = "".join(f"{line}\n" for line in lines)
    _postgres(green, f"cat {'>>' if append else '>'} {path}", stdin=text)


def _said(green: Green, line: str) -> str:
    return _postgres(green, line, check=False).stdout.strip()


def _postgres(green: Green, line: str, *, limit: float = 60.0, check: bool = True, stdin: str | None = None) -> Result:
    """Run a line of shell as postgres, where its files are."""
    command = ["runuser", "-u", "postgres", "--", "sh", "-c", f"cd {HOME} && {line}"]
    return green.fleet.run(green.host, command, timeout=limit, check=check, stdin=stdin)
