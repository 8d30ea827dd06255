"""`sias drill list|run|report|heal`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.padding import Padding
from rich.table import Table

from siasops.console import Progress, emit_json, json_option, out
from siasops.drill import registry, report
from siasops.drill import run as runner
from siasops.errors import COULD_NOT_RUN, HELD, VERDICT_FAILED
from siasops.inventory import ROOT, Inventory

EXIT = {"held": HELD, "failed": VERDICT_FAILED, "invalid": COULD_NOT_RUN}


@click.group()
def drill() -> None:
    """Break the platform on purpose, under load, and count what was lost.

    A drill measures from outside both rooms what users would have felt, heals everything, reads every node back and
    compares with the promises of inventory/group_vars/all/objectives.yml. Production refuses drills.
    """


@drill.command("list")
@json_option
@click.pass_obj
def list_drills(inventory: Inventory, as_json: bool) -> None:
    """List the drills: what breaks, what the platform must do, which figures are promised."""
    objectives = inventory.objectives
    drills = []
    for name, fault in registry.DRILLS.items():
        key = name.replace("-", "_")
        drills.append(
            {
                "name": name,
                "what": fault.title,
                "expected": fault.expected,
                "write_gap": objectives["write_gap"][key],
                "read_gap": objectives["read_gap"][key],
                "redundancy_back": objectives["redundancy_back"][key],
            }
        )
    if as_json:
        emit_json(drills)
        return
    for d in drills:
        out.print(f"[bold]{d['name']}[/bold]  {d['what']}")
        out.print(Padding(f"must: {d['expected']}", (0, 0, 0, 2)))
        out.print(
            Padding(
                f"promised: at most {d['write_gap']} s without a write, {d['read_gap']} s without a read, redundancy "
                f"back in {d['redundancy_back']} s, nothing acknowledged lost",
                (0, 0, 1, 2),
            ),
            style="dim",
        )


@drill.command()
@click.argument("name", metavar="NAME")
@json_option
@click.pass_obj
def run(inventory: Inventory, name: str, as_json: bool) -> None:
    """Run one drill: `sias drill run room-loss`.

    Refuses unless the cluster is healthy and the inventory allows drills. Ctrl-C heals at once and waits until
    everything is as before. Exit code 0 every promise held, 1 one did not, 3 it could not run or the load was not
    fully offered.
    """
    result = runner.run(inventory, name, progress=Progress())
    folder = inventory.var / "drills" / result.run
    if as_json:
        emit_json({**result.as_json(), "folder": str(folder)})
        sys.exit(EXIT[result.verdict])
    table = Table(title=f"{result.name}: {result.story}", title_justify="left", header_style="bold")
    for column in ("Promise", "Found", "Objective", ""):
        table.add_column(column)
    for promise in result.promises:
        mark = "[green]held[/green]" if promise.held else "[bold red]not held[/bold red]"
        table.add_row(promise.what, promise.found, promise.objective, mark)
    out.print(table)
    for finding in result.findings:
        out.print(f"[bold red]{finding.rule}[/bold red] ({finding.count}): {finding.text}", markup=True)
    for what, found in report.figure_rows(result):
        out.print(f"  {what}: {found}", markup=False)
    colour = "green" if result.verdict == "held" else "red"
    out.print(f"[bold {colour}]{report.WORDS[result.verdict]}[/bold {colour}]. Report: {_short(folder)}/report.html")
    sys.exit(EXIT[result.verdict])


@drill.command("report")
@click.option("--last", "count", default=10, show_default=True, help="How many runs.")
@json_option
@click.pass_obj
def show_report(inventory: Inventory, count: int, as_json: bool) -> None:
    """Show the last runs: verdict, figures, and where the report stands."""
    runs = report.past(inventory)[:count]
    if as_json:
        emit_json(runs)
        return
    if not runs:
        out.print("No drill has come to a verdict here yet: `sias drill run primary-crash`.")
        return
    table = Table(title="Last drills", title_justify="left", header_style="bold")
    for column in (
        "Run",
        "Verdict",
        "Writes lost",
        "No write",
        "No read",
        "Documents lost",
        "HTTP failed",
        "Redundant",
    ):
        table.add_column(column, justify="left" if column in {"Run", "Verdict"} else "right")
    for past in runs:
        f = past["figures"]
        colour = {"held": "green", "failed": "bold red", "invalid": "yellow"}[past["verdict"]]
        table.add_row(
            past["run"],
            f"[{colour}]{past['verdict']}[/{colour}]",
            f"{f['writes_lost']} of {f['writes_acknowledged']}",
            _seconds(f["write_gap"]),
            _seconds(f["read_gap"]),
            f"{f['documents_lost']} of {f['documents_acknowledged']}",
            f"{sum(h['failed'] for h in f['http'].values())} of {sum(h['requests'] for h in f['http'].values())}",
            _seconds(f["redundancy_back"]),
        )
    out.print(table)
    out.print(f"Latest report: {_short(Path(runs[0]['folder']))}/report.html")


@drill.command()
@click.pass_obj
def heal(inventory: Inventory) -> None:
    """Heal what an interrupted drill left behind, and wait until the cluster is healthy again."""
    out.print(runner.heal(inventory, Progress()))


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
