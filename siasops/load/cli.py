"""`sias load list|run|compare|growth`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from siasops import figures
from siasops.calendar.due import in_force
from siasops.console import Progress, emit_json, json_option, out
from siasops.errors import COULD_NOT_RUN, HELD, USAGE, VERDICT_FAILED, UserError
from siasops.inventory import ROOT, Inventory
from siasops.load import compare as comparison
from siasops.load import report, scenario
from siasops.load import run as runner

EXIT = {"held": HELD, "failed": VERDICT_FAILED, "invalid": COULD_NOT_RUN}


@click.group()
def load() -> None:
    """Offer load as users do, whether or not they are answered, and judge it by the objectives of the inventory.

    Scenarios stand in loadtests/scenarios/, what is promised in inventory/group_vars/all/load.yml. A run that did not
    offer its rate, or whose generator was the bottleneck, is invalid and says so.
    """


@load.command("list")
@json_option
@click.pass_obj
def list_scenarios(inventory: Inventory, as_json: bool) -> None:
    """List the scenarios: the question, what is expected, how long."""
    found = [scenario.load(name) for name in scenario.names()]
    if as_json:
        emit_json([s.model_dump(mode="json") for s in found])
        return
    peak = inventory.facts["sias_load"]["rate"]
    for s in found:
        rates = ", ".join(dict.fromkeys(f"{p.rate * peak:g}/s" for p in s.phases))
        out.print(f"[bold]{s.name}[/bold]  {s.seconds:.0f} s at {rates}" + (f", drill: {s.drill}" if s.drill else ""))
        out.print(Padding(Text(s.question), (0, 0, 0, 2)))
        out.print(Padding(Text(f"expected: {s.expected}", style="dim"), (0, 0, 1, 2)))


@load.command()
@click.argument("name", metavar="SCENARIO")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 32), help="Processes that offer the load."
)
@click.option("--drill", metavar="NAME", help="The drill to run meanwhile, for plateau-drill.")
@click.option(
    "--scale", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Factor on every rate."
)
@click.option(
    "--url", help="One instance of the application instead of the rooms; password of demo-… in SIAS_LOAD_PASSWORD."
)
@json_option
@click.pass_obj
def run(  # noqa: PLR0917 - click gives them by name
    inventory: Inventory, name: str, workers: int, drill: str | None, scale: float, url: str | None, as_json: bool
) -> None:
    """Run SCENARIO: `sias load run plateau`.

    Exit code 0 every objective held, 1 one did not, 3 it could not run or says nothing.
    """
    wanted = scenario.load(name)
    if not url and (busy := in_force(inventory)):
        raise UserError(f"Not now: {busy}.")
    result = runner.run(inventory, wanted, workers=workers, url=url, drill=drill, scale=scale, progress=Progress())
    if not url:
        figures.push(inventory)
    verdict = result.verdict
    folder = comparison.folder_of(inventory, result.run)
    if as_json:
        emit_json({**result.as_json(), "folder": str(folder)})
        sys.exit(EXIT[verdict.word])
    table = Table(title=f"{result.scenario}: {result.question}", title_justify="left", header_style="bold")
    for column in ("Objective", "Found", "Promised", ""):
        table.add_column(column)
    for p in verdict.promises:
        table.add_row(
            p.what, p.found, p.objective, "[green]held[/green]" if p.held else "[bold red]not held[/bold red]"
        )
    out.print(table)
    for text in (*verdict.complaints, *verdict.remarks):
        out.print(Text(text, style="yellow"))
    out.print(f"limit: {verdict.limit}", markup=False)
    colour = {"held": "green", "failed": "red", "invalid": "yellow"}[verdict.word]
    shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    out.print(f"[bold {colour}]{report.WORDS[verdict.word]}[/bold {colour}]. Report: {shown}/report.html")
    sys.exit(EXIT[verdict.word])


@load.command()
@click.argument("run_name", required=False, metavar="[RUN]")
@click.option(
    "--baseline",
    multiple=True,
    metavar="RUN",
    help="Runs to compare with; all earlier ones of the scenario by default.",
)
@json_option
@click.pass_obj
def compare(inventory: Inventory, run_name: str | None, baseline: tuple[str, ...], as_json: bool) -> None:
    """Compare a run (the latest by default) with its baseline of several runs.

    Exit code 1 when a kind of request is slower than the slowest run of the baseline by more than a tenth.
    """
    past = comparison.past(inventory)
    now = _named(past, (run_name,) if run_name else ())[0]
    against = (
        _named(past, baseline)
        if baseline
        else [
            r for r in past if r["run"] < now["run"] and comparison.same_load(r, now) and comparison.same_size(r, now)
        ]
    )
    found = comparison.compare(now, against)
    worse = [d for d in found if d.worse]
    if as_json:
        emit_json({"run": now["run"], "differences": [{**vars(d), "worse": d.worse} for d in found]})
        sys.exit(VERDICT_FAILED if worse else HELD)
    table = Table(title=f"{now['run']} against {len(against)} runs, 95 %", title_justify="left", header_style="bold")
    for column in ("Request", "Now", "Baseline, median", "Baseline, worst", ""):
        table.add_column(column, justify="left" if column in {"Request", ""} else "right")
    for d in found:
        mark = "[bold red]slower[/bold red]" if d.worse else "[green]no change[/green]"
        table.add_row(d.kind, report.ms(d.now), report.ms(d.middle), report.ms(d.worst), mark)
    out.print(table)
    sys.exit(VERDICT_FAILED if worse else HELD)


@load.command()
@click.argument("run_names", nargs=-1, metavar="[RUN]...")
@json_option
@click.pass_obj
def growth(inventory: Inventory, run_names: tuple[str, ...], as_json: bool) -> None:
    """Show what a larger population costs: the same load at each size of it, times and processor time per request.

    Between the runs: `sias data load --persons N --replace`. Without names, every valid run like the latest one counts;
    several at one size give their median.
    """
    chosen = _named(comparison.past(inventory), run_names)
    found = comparison.growth(chosen if run_names else [r for r in chosen if comparison.same_load(r, chosen[0])])
    if as_json:
        emit_json([{**vars(g), "factor": g.factor} for g in found])
        return
    table = Table(title=f"{chosen[0]['scenario']}, by persons", title_justify="left", header_style="bold")
    table.add_column("")
    for persons in found[0].seconds:
        table.add_column(f"{persons:,}".replace(",", "\N{NO-BREAK SPACE}"), justify="right")
    table.add_column("factor", justify="right")
    for g in found:
        times = ("–" if s is None else report.ms(s, 1) for s in g.seconds.values())
        table.add_row(g.what, *times, "–" if g.factor is None else f"{g.factor:.2f}")
    out.print(table)


def _named(past: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Find runs by name; all of them, the latest first, when none is named.

    Raises:
        UserError: there is no such run, or none at all.
    """
    if not past:
        raise UserError("No load test has ended here yet: `sias load run smoke`.")
    by_name = {r["run"]: r for r in past}
    if unknown := [n for n in names if n not in by_name]:
        raise UserError(f"No run is called {', '.join(unknown)}. There are: {', '.join(by_name)}.", USAGE)
    return [by_name[n] for n in names] or list(past)
