"""`sias calendar`: show, judge, export the plan; record what was done."""

from __future__ import annotations

import calendar as days
import getpass
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from siasops import remote
from siasops.calendar import export as ical
from siasops.calendar import model, records, rules
from siasops.calendar.due import in_force
from siasops.calendar.model import Calendar
from siasops.calendar.records import Felt
from siasops.cluster import check as checks
from siasops.cluster.cli import print_lines
from siasops.cluster.view import look
from siasops.console import emit_json, json_option, out
from siasops.errors import HELD, USAGE, VERDICT_FAILED, UserError
from siasops.inventory import Inventory

MINUTE = click.DateTime(["%Y-%m-%dT%H:%M"])


@click.group()
def calendar() -> None:
    """Plan changes, say whether one may begin now, keep what each cost users.

    \b
    sias calendar month               a picture of the month
    sias calendar list                what is planned, and what contradicts it
    sias calendar check CHANGE        go / no-go, at the time
    sias calendar records             what was done, and what users felt
    sias calendar availability        the year, by room and by change

    The plan stands in inventory/calendar.yml; see runbooks/procedures/calendar.md.
    """


@calendar.command("list")
@json_option
@click.pass_obj
def list_changes(inventory: Inventory, as_json: bool) -> None:
    """List what is planned in this environment, and every conflict.

    Exit code 1 when there is a conflict that lies ahead.
    """
    plan = model.load()
    now = plan.now()
    changes = plan.of(inventory.environment)
    ahead = {c.id for c in changes if c.ends >= now}
    found = [c for c in rules.conflicts(plan, inventory.environment) if ahead & set(c.changes)]
    if as_json:
        emit_json({"changes": [c.model_dump(mode="json") for c in changes], "conflicts": [vars(c) for c in found]})
        sys.exit(VERDICT_FAILED if found else HELD)
    table = Table(
        title=f"Planned in {inventory.environment} ({plan.timezone})", title_justify="left", header_style="bold"
    )
    for column in ("Change", "Kind", "Starts", "Min", "What", "Approved by"):
        table.add_column(column, justify="right" if column == "Min" else "left", no_wrap=column == "Change")
    in_conflict = {name for c in found for name in c.changes}
    for c in changes:
        style = "red" if c.id in in_conflict else "dim" if c.id not in ahead else ""
        approved = Text(c.approved.by) if c.approved else Text("nobody yet", style="yellow")
        table.add_row(c.id, c.kind, f"{c.starts:{rules.SAID}}", str(c.minutes), c.what, approved, style=style)
    out.print(table)
    for conflict in found:
        out.print(Text(f"conflict: {conflict.text}", style="bold red"))
    out.print(f"{len(changes)} changes, {len(found)} conflicts ahead")
    sys.exit(VERDICT_FAILED if found else HELD)


@calendar.command()
@click.argument("month", required=False, metavar="[YYYY-MM]")
@click.pass_obj
def month(inventory: Inventory, month: str | None) -> None:
    """Draw a month: windows, freezes, changes and conflicts, a cell per day."""
    plan = model.load()
    try:
        first = date.fromisoformat(f"{month}-01") if month else plan.now().date().replace(day=1)
    except ValueError:
        raise UserError(f"“{month}” is no month; write for instance 2026-12.", USAGE) from None
    out.print(picture(plan, inventory.environment, first, plan.now().date()))


@calendar.command()
@click.argument("change", metavar="CHANGE")
@json_option
@click.pass_obj
def check(inventory: Inventory, change: str, as_json: bool) -> None:
    """Say whether CHANGE may begin now: its time, approval, window, freezes, other changes, drills, redundancy.

    Exit code 0 go, 1 no-go with what to do, 3 the cluster could not be looked at.
    """
    plan = model.load()
    wanted = plan.find(change)
    if wanted.environment != inventory.environment:
        raise UserError(
            f"{change} is planned for {wanted.environment}: `sias -i {wanted.environment} calendar check`.", USAGE
        )
    with remote.connect(inventory) as fleet:
        found = rules.lines(
            plan, wanted, plan.now(), in_force=in_force(inventory), cluster=checks.check(look(inventory, fleet))
        )
    held = checks.healthy(found)
    if as_json:
        emit_json({"change": change, "go": held, "lines": [vars(line) for line in found]})
    else:
        print_lines(found)
        out.print(
            f"[bold green]go[/bold green]: {wanted.what}" if held else f"[bold red]no-go[/bold red]: {wanted.what}"
        )
    sys.exit(HELD if held else VERDICT_FAILED)


@calendar.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File; standard output by default.")
@click.pass_obj
def export(inventory: Inventory, output: Path | None) -> None:
    """Write the plan as iCalendar (.ics), with windows and freezes."""
    text = ical.ics(model.load(), inventory.environment)
    if output is None:
        click.echo(text.decode(), nl=False)
        return
    try:
        output.write_bytes(text)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}.") from error
    out.print(f"{len(text)} bytes written to {output}")


@calendar.command("records")
@click.option("--last", default=20, show_default=True, help="How many, the latest last.")
@json_option
@click.pass_obj
def show_records(inventory: Inventory, last: int, as_json: bool) -> None:
    """Show what was done here and what users felt."""
    made = records.read(inventory)[-last:]
    if as_json:
        emit_json([r.as_json() for r in made])
        return
    if not made:
        out.print("Nothing is recorded yet: procedures do it themselves, `sias calendar incident` for the unplanned.")
        return
    table = Table(title=f"Done in {inventory.environment}", title_justify="left", header_style="bold")
    for column in ("Started (UTC)", "Kind", "What", "Outcome", "Lasted", "Failed", "Writes held", "Without service"):
        table.add_column(column)
    for r in made:
        colour = "green" if r.outcome == "done" else "red"
        table.add_row(
            f"{r.started:%Y-%m-%d %H:%M}", r.kind, r.what, Text(r.outcome, style=colour),
            str(timedelta(seconds=round((r.ended - r.started).total_seconds()))),
            "not measured" if r.felt.requests is None else f"{r.felt.failed or 0} of {r.felt.requests}",
            "not measured" if r.felt.writes_held is None else f"{r.felt.writes_held:.1f} s",
            ", ".join(f"{room}: {s:.1f} s" for room, s in r.felt.without_service.items()) or "not measured",
        )  # fmt: skip
    out.print(table)


@calendar.command()
@click.option("--what", required=True, help="What happened, in a sentence.")
@click.option("--started", required=True, type=MINUTE, help="Local time of the calendar: 2026-11-25T10:05.")
@click.option("--minutes", required=True, type=click.FloatRange(0, min_open=True), help="How long it lasted.")
@click.option(
    "--without-service", "without", multiple=True, metavar="ROOM=SECONDS", required=True,
    help="Seconds without an answer for a room's users; once per room.",
)  # fmt: skip
@click.pass_obj
def incident(inventory: Inventory, what: str, started: datetime, minutes: float, without: tuple[str, ...]) -> None:
    """Record what nobody planned, so that the year's availability counts it."""
    felt: dict[str, float] = {}
    for pair in without:
        room, _, seconds = pair.partition("=")
        try:
            felt[room] = float(seconds)
        except ValueError:
            raise UserError(f"“{pair}” is not ROOM=SECONDS, for instance a=90.", USAGE) from None
    begun = model.load().aware(started).astimezone(UTC)
    if begun > datetime.now(UTC):
        raise UserError(f"{started:{rules.SAID}} lies in the future.", USAGE)
    made = records.incident(
        inventory, what=what, started=begun, minutes=minutes, felt=Felt(without_service=felt), by=getpass.getuser()
    )
    out.print(f"recorded: {made.what}, {made.started:%Y-%m-%d %H:%M} UTC")


@calendar.command()
@click.pass_obj
def publish(inventory: Inventory) -> None:
    """Tell Prometheus of changes, drills and load tests again, for the page « Salle de contrôle »."""
    from siasops import figures  # noqa: PLC0415 - it reads drills and load tests, which no other command here needs

    figures.push(inventory)


@calendar.command()
@click.option("--year", type=click.IntRange(2000, 9999), help="This year by default.")
@json_option
@click.pass_obj
def availability(inventory: Inventory, year: int | None, as_json: bool) -> None:
    """Show the year: availability by room, and what each change cost.

    From the records: what was measured during changes, drills that were recorded, and incidents.
    """
    plan = model.load()
    year = year or plan.now().year
    made = records.read(inventory)
    rooms = records.availability(made, inventory.rooms, year, in_service=plan.in_service, now=datetime.now(UTC))
    ours = [r for r in made if r.started.year == year]
    if as_json:
        emit_json(
            {
                "year": year,
                "rooms": [{**vars(a), "share": a.share} for a in rooms],
                "changes": [r.as_json() for r in ours],
            }
        )
        return
    table = Table(title=f"{inventory.environment}, {year}", title_justify="left", header_style="bold")
    for column in ("Room", "Available", "Observed", "Planned", "Incidents"):
        table.add_column(column, justify="left" if column == "Room" else "right")
    for a in rooms:
        table.add_row(
            inventory.rooms[a.room].name, f"{a.share:.4%}", f"{a.observed / 86400:.1f} days", f"{a.planned:.1f} s",
            f"{a.unplanned:.1f} s",
        )  # fmt: skip
    out.print(table)
    for r in ours:
        cost = ", ".join(f"room {room} {s:.1f} s" for room, s in r.felt.without_service.items()) or "not measured"
        out.print(f"  {r.started:%d %b} {r.change or r.kind}: {cost}", markup=False)
    unmeasured = sum(not r.felt.without_service for r in ours)
    if unmeasured:
        out.print(f"[yellow]{unmeasured} of {len(ours)} records carry no measure: the share may be too good.[/yellow]")


def picture(plan: Calendar, environment: str, first: date, today: date) -> Table:
    """Draw a month as weeks: the day, then what happens on it."""
    changes = plan.of(environment)
    bad = {name for c in rules.conflicts(plan, environment) for name in c.changes}
    table = Table(title=f"{first:%B %Y}, {environment}", show_lines=True, header_style="bold", expand=True)
    for name in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"):
        table.add_column(name, ratio=1, vertical="top")
    for week in days.Calendar().monthdatescalendar(first.year, first.month):
        table.add_row(
            *(
                _cell(plan, day, [c for c in changes if c.starts.date() <= day <= c.ends.date()], bad, today)
                if day.month == first.month
                else Text(f"{day.day}", style="dim")
                for day in week
            )
        )
    table.caption = "· window  ▒ freeze  ■ approved  □ not approved  red: conflict"
    return table


def _cell(plan: Calendar, day: date, changes: list[model.Change], bad: set[str], today: date) -> Text:
    frozen = [f for f in plan.freezes if f.begins <= day <= f.ends]
    cell = Text(f"{day.day}" + ("▒" if frozen else ""), style="bold reverse" if day == today else "bold")
    for freeze in frozen:
        if day in {freeze.begins, freeze.ends} or day.day == 1:
            cell.append(f"\n{freeze.name}", "blue")
    for window in plan.windows:
        if not frozen and model.DAYS[day.weekday()] in window.days:
            cell.append(f"\n· {window.begins:%H:%M}-{window.ends:%H:%M}", "not bold dim")
    for change in changes:
        style = "not bold red" if change.id in bad else "not bold green" if change.approved else "not bold yellow"
        cell.append(f"\n{'■' if change.approved else '□'} {change.starts:%H:%M} {change.kind}", style)
    return cell
