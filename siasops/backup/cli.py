"""`sias backup take|list|check|restore|drill`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click
from rich.table import Table

from siasops import remote
from siasops.backup import archive
from siasops.backup import check as checks
from siasops.backup import drill as drills
from siasops.backup.catalogue import Repository, as_postgres, read, repository_hosts
from siasops.backup.restore import UNIT, Proof, Target, parse_moment, prove
from siasops.console import Progress, emit_json, json_option, out
from siasops.errors import HELD, USAGE, VERDICT_FAILED, UserError
from siasops.inventory import ROOT, Inventory
from siasops.remote import Fleet

DEADLINE_S = 6 * 3600.0
"""Seconds that one backup or restore may take, unless --deadline says otherwise."""

room_option = click.option("--room", metavar="ROOM", help="Only this room's repository (a, b); all by default.")
deadline_option = click.option(
    "--deadline", type=float, default=DEADLINE_S, show_default=True, metavar="SECONDS", help="Give up after this long."
)


@click.group()
def backup() -> None:
    """Take backups, list them, check that they could restore, and prove that they do.

    Each room has its own encrypted repository, on an application host, so that neither the loss of a database host nor
    that of a room takes the last backup with it. Timers take them; the write-ahead log goes to every repository.

    \b
    sias backup list                       what could be restored, and how far back
    sias backup check                      is it in order, by the objectives of the inventory
    sias backup take --type full           a full backup in every room, now
    sias backup restore --room a --to-latest      prove it: restore a copy, read it back, remove it
    sias backup drill                      prove it for each room, in full and to a moment, against known writes
    """


def _room(inventory: Inventory, room: str | None) -> str | None:
    if room is not None and room not in {host.room for host in repository_hosts(inventory)}:
        known = ", ".join(host.room for host in repository_hosts(inventory))
        raise UserError(f"No repository stands in room “{room}”; rooms with one: {known}.", USAGE)
    return room


def _connect_hosts(inventory: Inventory) -> list[str]:
    return [host.name for host in (*repository_hosts(inventory), *inventory.group("databases"))]


@backup.command()
@click.option("--type", "kind", type=click.Choice(["full", "diff", "incr"]), default="incr", show_default=True)
@room_option
@deadline_option
@json_option
@click.pass_obj
def take(inventory: Inventory, kind: str, room: str | None, deadline: float, as_json: bool) -> None:
    """Take a backup now, in one room's repository or in each.

    full: everything. diff: what changed since the last full one. incr: what changed since the last one of any type.
    The files are read from a standby; from the primary only when no standby is left. The rooms take turns: a cluster
    is backed up by one repository at a time.
    """
    _room(inventory, room)
    hosts = [host for host in repository_hosts(inventory) if room in {None, host.room}]
    progress = Progress(total=len(hosts))
    taken: list[dict[str, Any]] = []
    with remote.connect(inventory, [host.name for host in hosts]) as fleet:
        for host in hosts:
            with progress.step(f"{kind} backup into room {host.room}'s repository ({host.name})"):
                line = as_postgres(f"/usr/local/sbin/sias-backup take --type {kind} --deadline {deadline:.0f}")
                answer = fleet.run(host.name, line, timeout=deadline, check=True)
                if answer.stderr.strip():
                    progress.say(answer.stderr.strip())
                result = json.loads(answer.stdout)
                taken.append({"room": host.room, "host": host.name, **result})
                progress.say(f"{result['label']}: {size(result['size'])}, {size(result['repository_size'])} stored")
    if as_json:
        emit_json(taken)


@backup.command(name="list")
@room_option
@json_option
@click.pass_obj
def list_(inventory: Inventory, room: str | None, as_json: bool) -> None:
    """List what each room's repository holds, and the window that it can recover to."""
    with remote.connect(inventory, [host.name for host in repository_hosts(inventory)]) as fleet:
        repositories = read(inventory, fleet, room=_room(inventory, room))
    if as_json:
        emit_json([asdict(repository) for repository in repositories])
        return
    now = datetime.now(UTC)
    for repository in repositories:
        out.print(f"[bold]Room {repository.room}[/bold] ({repository.host}): {window(repository)}")
        if repository.backups:
            out.print(table(repository, now))


@backup.command()
@json_option
@click.pass_obj
def check(inventory: Inventory, as_json: bool) -> None:
    """Judge both repositories: in order, fresh enough, reached by the write-ahead log, and no segment of it missing.

    The limits are `backup_age_full`, `backup_age_any` and `archive_behind` of inventory/group_vars/all/objectives.yml.
    Exit code 0 when every line holds, 1 when one does not; the line says what to do.
    """
    with remote.connect(inventory, _connect_hosts(inventory)) as fleet:
        repositories = read(inventory, fleet)
        archiving = archive.look(inventory, fleet)
        gaps = archive.gaps(inventory, fleet)
    lines = checks.check(repositories, archiving, gaps, inventory.objectives, datetime.now(UTC))
    held = all(line.ok for line in lines)
    if as_json:
        emit_json({"environment": inventory.environment, "held": held, "lines": [asdict(line) for line in lines]})
    else:
        print_lines(lines)
    sys.exit(HELD if held else VERDICT_FAILED)


@backup.command()
@click.option("--room", required=True, metavar="ROOM", help="Whose repository restores (a, b).")
@click.option(
    "--to-time", metavar="TIME", help="Recover to this moment: 2026-11-21 22:30:00, local unless +01:00 follows."
)
@click.option(
    "--to-latest", is_flag=True, help="Recover to the end of the archive, and compare with the live database."
)
@click.option("--on", "host", metavar="HOST", help="Database host that carries the copy; by default a standby.")
@click.option(
    "--query", "queries", multiple=True, metavar="SQL", help="Ask the copy this too; may be given several times."
)
@click.option("--keep", is_flag=True, help="Leave the copy running for 4 hours, and say how to reach and remove it.")
@click.option(
    "--repository-config",
    "config",
    metavar="PATH",
    help="On the repository's host: the pgBackRest configuration of a copy of the repository to read instead.",
)
@deadline_option
@json_option
@click.pass_obj
def restore(  # noqa: PLR0917 - click hands options over
    inventory: Inventory,
    room: str,
    to_time: str | None,
    to_latest: bool,
    host: str | None,
    queries: tuple[str, ...],
    keep: bool,
    config: str | None,
    deadline: float,
    as_json: bool,
) -> None:
    """Prove that a repository restores: a copy in a scratch folder, started, read back, compared, removed.

    The database host does it as sias-restore.service, which can write in its own folder only: the live database is not
    touched. The copy listens on a socket in that folder, archives nothing and belongs to no cluster. With --to-latest
    its rows are compared with the live ones; with --to-time it must not hold anything later. Every table, index
    (amcheck) and page checksum is verified before the copy is removed, also when this command is killed.

    Exit code 0 when every line holds, 1 when one does not, 3 when it could not be tried.
    """
    _room(inventory, room)
    if (to_time is None) == (not to_latest):
        raise UserError("Say how far: either --to-latest, or --to-time '2026-11-21 22:30:00'.", USAGE)
    try:
        target = Target(parse_moment(to_time) if to_time else None)
    except ValueError as error:
        raise UserError(f"--to-time: {error}. Write it like 2026-11-21 22:30:00.", USAGE) from error
    if host is not None:
        inventory.host(host)
    with remote.connect(inventory, _connect_hosts(inventory)) as fleet:
        repository = read(inventory, fleet, room=room)[0]
        proof = prove(
            inventory,
            fleet,
            repository,
            host=host or _standby(inventory, fleet, room),
            target=target,
            queries=tuple((inventory.cluster, sql) for sql in queries),
            keep=keep,
            config=config,
            deadline=deadline,
            progress=Progress(),
        )
    if as_json:
        emit_json({**asdict(proof), "held": proof.held})
    else:
        show(proof)
    sys.exit(HELD if proof.held else VERDICT_FAILED)


@backup.command()
@room_option
@click.option("--on", "host", metavar="HOST", help="Database host that carries the copies; by default a standby.")
@deadline_option
@json_option
@click.pass_obj
def drill(inventory: Inventory, room: str | None, host: str | None, deadline: float, as_json: bool) -> None:
    """Prove for each room that its repository restores, in full and to a moment, against known writes.

    Writes 120 known rows into the primary with a mistake in between, then restores each repository twice beside the
    live database: to the moment before the mistake (every write acknowledged before it is there, none sent after it, the
    mistake is undone) and to the end. Harmless to users, so allowed in production. The report stands in
    var/restores/<run>/: report.html, report.md, result.json, journal and ledger.

    Exit code 0 when every line holds, 1 when one does not, 3 when it could not be tried.
    """
    _room(inventory, room)
    if host is not None:
        inventory.host(host)
    with remote.connect(inventory, _connect_hosts(inventory)) as fleet:
        found, folder = drills.run(
            inventory,
            fleet,
            room=room,
            choose_host=lambda letter: host or _standby(inventory, fleet, letter),
            deadline=deadline,
            progress=Progress(),
        )
    if as_json:
        emit_json({**found.as_json(), "folder": str(folder)})
    else:
        for proof in found.proofs:
            show(proof)
        out.print(f"Report: {folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder}/report.html")
    sys.exit(HELD if found.held else VERDICT_FAILED)


def _standby(inventory: Inventory, fleet: Fleet, room: str) -> str:
    """Choose a database host that is not the primary, of the repository's own room when there is one."""
    primary = archive.look(inventory, fleet)
    databases = sorted(inventory.group("databases"), key=lambda host: (host.room != room, host.name))
    command, query = archive.psql("SELECT pg_is_in_recovery()")
    answers = fleet.run_each(dict.fromkeys([h.name for h in databases], command), timeout=15.0, stdin=query)
    for host in databases:
        if answers[host.name].stdout.strip() == "t":
            return host.name
    if primary is None:
        raise UserError("No database host answers; name one that has PostgreSQL with --on HOST.")
    raise UserError(
        f"No standby answers; the primary {primary.host} carries the copy only if you say --on {primary.host}."
    )


def show(proof: Proof) -> None:
    """Print a proof for people."""
    out.print(
        f"[bold]Room {proof.room}[/bold]: {proof.label or 'no backup'} on {proof.host}, to {proof.target}: restored in "
        f"{proof.restore_seconds:.1f} s, recovered in {proof.recovery_seconds:.1f} s, {proof.seconds:.1f} s in all"
    )
    for query, answer in proof.queries.items():
        out.print(f"  {query}\n    {answer}", markup=False)
    print_lines(proof.lines)
    if proof.kept:
        out.print(f"The copy runs on {proof.host}: sudo -u postgres {proof.kept}", markup=False)
        out.print(f"Remove it there: systemctl stop {UNIT}; by itself it goes after 4 hours.", markup=False)


def print_lines(lines: list[checks.Line]) -> None:
    """Print a verdict's lines: what was looked at, what was found, what to do."""
    for line in lines:
        mark = "[green]ok[/green]    " if line.ok else "[bold red]failed[/bold red]"
        out.print(f"{mark} {line.what}: {line.found}", soft_wrap=True)
        if line.advice:
            out.print(f"       do: {line.advice}", markup=False, soft_wrap=True)


def table(repository: Repository, now: datetime) -> Table:
    """Make the table of one repository."""
    result = Table(box=None, pad_edge=False)
    result.add_column("backup", no_wrap=True, overflow="ignore")
    for name in ("type", "age", "took", "database", "stored"):
        result.add_column(name, no_wrap=True)
    for entry in repository.backups:
        took = (entry.stopped - entry.started).total_seconds()
        mark = " (damaged pages)" if entry.damaged else ""
        age = checks.hours(entry.age(now))
        result.add_row(
            entry.label + mark, entry.type, age, f"{took:.0f} s", size(entry.size), size(entry.repository_size)
        )
    return result


def window(repository: Repository) -> str:
    """Say what the repository can recover to."""
    oldest = repository.oldest
    if repository.problem is not None:
        return f"[bold red]{repository.problem}[/bold red]"
    if oldest is None:
        return "in order, no backup yet"
    since = oldest.stopped.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    return f"recovers to any moment from {since} to segment {repository.wal_max}"


def size(number: float) -> str:
    """Write bytes as people read them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:  # noqa: PLR2004
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
