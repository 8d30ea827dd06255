"""`sias cluster status|check`, `sias switchover`, and `sias host leave|return`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from siasops import remote
from siasops.change import state as changes
from siasops.cluster import absence
from siasops.cluster import check as checks
from siasops.cluster import switchover as switch
from siasops.cluster.view import APPLICATION_UNITS, Brick, Front, Member, View, Voter, look
from siasops.console import Progress, clock, emit_json, json_option, out
from siasops.drill import active
from siasops.errors import HELD, VERDICT_FAILED, UserError
from siasops.inventory import Inventory
from siasops.remote import Fleet
from siasops.silence import Silence


@click.group()
def cluster() -> None:
    """Show and judge the cluster: who leads, which room serves what, whether it could lose a room now."""


@cluster.command()
@json_option
@click.pass_obj
def status(inventory: Inventory, as_json: bool) -> None:
    """Show every host by room: database, quorum, application, documents, addresses.

    Takes about a second. Exit code 0 whenever it could look; use `sias cluster check` for a verdict.
    """
    with remote.connect(inventory) as fleet:
        view = look(inventory, fleet)
    if as_json:
        emit_json(view.as_json())
        return
    for part in picture(inventory, view):
        out.print(part)


@cluster.command()
@json_option
@click.pass_obj
def check(inventory: Inventory, as_json: bool) -> None:
    """Say go or no-go: whether the platform could lose a host or a room now without losing a write.

    Each line says what was looked at, what was found and, when it does not hold, what to do. Exit code 0 when every
    line holds, 1 when one does not.
    """
    with remote.connect(inventory) as fleet:
        lines = checks.check(look(inventory, fleet))
    held = checks.healthy(lines)
    if as_json:
        emit_json({"environment": inventory.environment, "held": held, "lines": [vars(line) for line in lines]})
    else:
        print_lines(lines)
        failed = sum(not line.ok for line in lines)
        out.print(
            f"[bold green]go[/bold green]: all {len(lines)} checks hold"
            if held
            else f"[bold red]no-go[/bold red]: {failed} of {len(lines)} checks do not hold"
        )
    sys.exit(HELD if held else VERDICT_FAILED)


@click.command()
@click.option("--to-room", "room", required=True, metavar="ROOM", help="Room letter that shall hold the primary.")
@click.option("--dry-run/--yes", "dry", default=True, show_default="--dry-run", help="Only look, or act.")
@json_option
@click.pass_obj
def switchover(inventory: Inventory, room: str, dry: bool, as_json: bool) -> None:
    """Move the primary to a room, without an error for users.

    Four assertions come first: the cluster is healthy, the target is a synchronous standby of that room, it has
    replayed nearly everything, and nobody else is changing the cluster. Then PgBouncer holds new transactions back
    (PAUSE), Patroni switches over, PgBouncer lets them through (RESUME): users wait a few seconds and see no error.

    Exit codes: 0 the primary stands in the room, 1 an assertion does not hold, 3 it could not be done.
    """
    outcome = switch.run(inventory, room, dry=dry, progress=Progress())
    if outcome.timeline:
        from siasops import figures  # noqa: PLC0415 - it reads drills and load tests, which nothing else here needs

        figures.push(inventory)
    if as_json:
        emit_json(outcome.as_json())
    else:
        print_lines(outcome.assertions)
        for moment in outcome.timeline:
            out.print(f"  {moment.at:6.2f} s  {moment.what}")
        out.print(outcome.sentence)
    sys.exit(HELD if outcome.held else VERDICT_FAILED)


@click.group()
def host() -> None:
    """Take a host out of service for maintenance, and back, while users notice nothing.

    \b
    sias host leave app-b1         may it? what would stop?
    sias host leave app-b1 --yes   its users and its work go to others, then its services stop
    sias host return app-b1 --yes  it serves again, and everything is whole
    """


@host.command()
@click.argument("name", metavar="HOST")
@click.option("--yes", is_flag=True, help="Really act; otherwise only say whether it may.")
@click.option(
    "--hours",
    type=click.FloatRange(0.1, 72),
    default=4.0,
    show_default=True,
    help="How long its alerts stay silent at most, unless it comes back sooner.",
)
@click.pass_obj
def leave(inventory: Inventory, name: str, *, yes: bool, hours: float) -> None:
    """Take a host out of everything that it serves: addresses, requests, reads, documents, votes.

    It stays away over a reboot, until it is called back. Refused for the primary (`sias switchover` first), while
    another host is away, and when anything has no second copy. Can be interrupted and run again. Alerts that its absence
    explains are silenced until it is back. Exit code 0 it has left or may, 1 it may not, 3 a step could not be done.
    """
    chosen = inventory.host(name)
    if not yes:
        with remote.connect(inventory) as fleet:
            lines = absence.may_leave(look(inventory, fleet), chosen, absence.away(fleet))
        print_lines(lines)
        held = checks.healthy(lines)
        units = ", ".join(absence.services(inventory, chosen))
        out.print(
            f"It may leave; {units} would stop. Nothing was touched; `--yes` does it." if held else "It may not leave."
        )
        sys.exit(HELD if held else VERDICT_FAILED)
    open_one = changes.unfinished(inventory)
    if open_one is not None:
        raise UserError(f"{open_one.id} ({open_one.story}) stands half-way: go on with it or take it back first.")
    progress = Progress()
    with (
        active.only_one(inventory),
        remote.connect(inventory) as fleet,
        progress.step(f"{name} leaves"),
        _silence(inventory, fleet, name, progress) as silence,
    ):
        silence.cover([name])
        absence.leave(inventory, fleet, name, progress)
        silence.keep(hours * 3600)
    out.print(f"{name} is away after {clock(progress.elapsed)}: `sias host return {name} --yes` calls it back.")


@host.command("return")
@click.argument("name", metavar="HOST")
@click.option("--yes", is_flag=True, help="Really act.")
@click.option(
    "--limit", type=float, default=absence.BACK_LIMIT, show_default=True, help="Seconds until everything is whole."
)
@click.pass_obj
def return_(inventory: Inventory, name: str, *, yes: bool, limit: float) -> None:
    """Let a host serve again, and wait until every check holds and no document is left to heal.

    Harmless for a host that is not away. Can be interrupted and run again.
    """
    if not yes:
        raise click.UsageError("Coming back acts on the platform: say --yes.")
    inventory.host(name)
    progress = Progress()
    with (
        active.only_one(inventory),
        remote.connect(inventory) as fleet,
        progress.step(f"{name} comes back"),
        _silence(inventory, fleet, name, progress) as silence,
    ):
        silence.cover([name])
        lines = absence.come_back(inventory, fleet, name, progress, limit=limit)
    out.print(f"{name} serves again after {clock(progress.elapsed)}; all {len(lines)} checks hold.")


def _silence(inventory: Inventory, fleet: Fleet, name: str, progress: Progress) -> Silence:
    """Make the silence of a host's maintenance; that of its leaving is ended by its return."""
    return Silence(inventory, fleet, by="sias host", comment=f"{name} is away for maintenance", say=progress.say)


def print_lines(lines: list[checks.Line]) -> None:
    """Print checks in prose; the ones that do not hold with what to do."""
    for line in lines:
        mark = "[green]go   [/green]" if line.ok else "[bold red]no-go[/bold red]"
        out.print(Text.from_markup(f"{mark} ").append(f"{line.what}: {line.found}"))
        if line.action:
            out.print(Text(f"      -> {line.action}", style="yellow"))


def picture(inventory: Inventory, view: View) -> Iterator[RenderableType]:
    """Draw every host by room, one line each; fits a terminal of 80 columns."""
    members, voters = {m.host: m for m in view.members}, {v.host: v for v in view.voters}
    fronts, bricks = {f.host: f for f in view.fronts}, {b.host: b for b in view.bricks}
    for letter in sorted({h.room for h in inventory.hosts.values()}, key=lambda r: (r not in inventory.rooms, r)):
        yield Text.from_markup(_room_title(inventory, view, letter))
        shown = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
        for name, width in (("  Host", 10), ("Address", 14), ("Serves", 30), ("Quorum", 6), ("Documents", 9)):
            shown.add_column(name, min_width=width)
        for host in (h for h in inventory.hosts.values() if h.room == letter):
            shown.add_row(
                f"  {host.name}",
                host.address,
                "[bold red]silent[/bold red] "
                if host.name in view.silent
                else _database(members.get(host.name), view) or _application(fronts.get(host.name)),
                _quorum(voters.get(host.name)),
                _documents(bricks.get(host.name)),
            )
        yield shown


def _room_title(inventory: Inventory, view: View, letter: str) -> str:
    served = next((r for r in view.rooms if r.room == letter), None)
    if served is None:
        return "\n[bold]Witness site[/bold]"
    held = ", ".join(served.holders) or "nobody"
    ready = "[green]serves[/green]" if served.ready else "[bold red]does not answer[/bold red]"
    return f"\n[bold]{inventory.rooms[letter].name}[/bold]  https://{served.address}/ on {held}: {ready}"


def _database(member: Member | None, view: View) -> str:
    if member is None:
        return ""
    if not member.answers:
        return "[bold red]does not answer[/bold red]"
    if member.leads:
        return f"[bold green]primary[/bold green] timeline {member.timeline}"
    leader = view.leader
    stream = next((s for s in leader.standbys if s.host == member.host), None) if leader else None
    kind = {"sync": "sync standby", "quorum": "quorum standby"}.get(stream.sync_state if stream else "", "replica")
    lag = "" if not member.lag_bytes else f", {member.lag_bytes / 1024:.0f} KiB behind"
    good = stream is not None and stream.state == "streaming"
    return f"{kind} {member.state}{lag}" if good else f"[red]{kind} {member.state}{lag}[/red]"


def _quorum(voter: Voter | None) -> str:
    if voter is None:
        return ""
    if not voter.healthy:
        return "[bold red]down[/bold red]"
    return "[bold]leader[/bold]" if voter.leads else "voter"


def _application(front: Front | None) -> str:
    if front is None:
        return ""
    down = [unit for unit in APPLICATION_UNITS if front.units.get(unit) != "active"]
    if not front.ready:
        return "[bold red]not ready[/bold red]" + (f" (down: {', '.join(down)})" if down else "")
    if front.answered_by != front.host:
        return f"[yellow]{front.answered_by} answers for it[/yellow]"
    return f"[yellow]ready, down: {', '.join(down)}[/yellow]" if down else "[green]ready[/green]"


def _documents(brick: Brick | None) -> str:
    if brick is None:
        return ""
    if not brick.serves:
        return "[bold red]down[/bold red]"
    if brick.pending is None:
        return "[yellow]not counted[/yellow]"
    return f"[yellow]{brick.pending} to heal[/yellow]" if brick.pending else "[green]complete[/green]"
