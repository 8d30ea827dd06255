"""`sias drill list|run|campaign|keep|report|heal`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.padding import Padding
from rich.table import Table

from siasops import figures, remote
from siasops.cluster.view import look
from siasops.console import Progress, emit_json, json_option, out
from siasops.drill import campaign, matrix, registry, report
from siasops.drill import run as runner
from siasops.drill.faults import Stage
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
                "spares": fault.spares,
                "promised": objectives["drills"][key],
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
                f"promised: {', '.join(f'{k} {v:g}' for k, v in d['promised'].items())}; nothing acknowledged lost",
                (0, 0, 1, 2),
            ),
            style="dim",
        )


@drill.command()
@click.argument("name", metavar="NAME")
@click.option("--runs", type=click.IntRange(1), default=1, show_default=True, help="How many times.")
@click.option("--plan", "only_plan", is_flag=True, help="Only say what would break; nothing is touched.")
@json_option
@click.pass_obj
def run(inventory: Inventory, name: str, runs: int, only_plan: bool, as_json: bool) -> None:
    """Run one drill: `sias drill run room-loss`.

    Refuses unless the cluster is healthy and the inventory allows drills. Ctrl-C heals at once and waits until
    everything is as before. Exit code 0 every promise held, 1 one did not, 3 it could not run or the load was not
    fully offered. With --runs it is a campaign of this drill alone.
    """
    if only_plan:
        _show_plan(inventory, [name], runs=runs, seed=0, as_json=as_json)
        return
    if runs > 1:
        _campaign(inventory, [name], runs=runs, seed=0, as_json=as_json)
        return
    result = runner.run(inventory, name, progress=Progress())
    figures.push(inventory)
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


@drill.command("campaign")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--runs", type=click.IntRange(1), default=10, show_default=True, help="Runs of each drill.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the order.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="Start no run that would not end by then.")
@click.option("--resume", "resumed", metavar="CAMPAIGN", help="Go on with a campaign: its name, or “last”.")
@click.option("--plan", "only_plan", is_flag=True, help="Only say what would be done; nothing is touched.")
@json_option
@click.pass_obj
def run_campaign(
    inventory: Inventory,
    names: tuple[str, ...],
    *,
    runs: int,
    seed: int,
    hours: float | None,
    resumed: str | None,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Run many drills in random order (all of them when none is named), and report on them together.

    A campaign that was stopped, by Ctrl-C, by --hours or by a crash of this machine, goes on with --resume last. Exit
    code 0 every run held, 1 one did not, 3 some could not run.
    """
    if only_plan:
        _show_plan(inventory, names, runs=runs, seed=seed, as_json=as_json)
        return
    _campaign(inventory, names, runs=runs, seed=seed, as_json=as_json, hours=hours, resumed=resumed)


def _show_plan(inventory: Inventory, names: Sequence[str], *, runs: int, seed: int, as_json: bool) -> None:
    with remote.connect(inventory) as fleet:
        stage = Stage(inventory, fleet)
        made = campaign.plan(stage, names, runs=runs, seed=seed)
        view = look(inventory, fleet)
        would = {}
        for name in made.drills:
            fault = registry.find(name)
            would[name] = {"breaks": fault.describe(fault.plan(stage, view)), "spares": fault.spares}
    if as_json:
        emit_json({"order": made.order, "skipped": made.skipped, "drills": would})
        return
    for name, what in would.items():
        out.print(f"[bold]{name}[/bold]  {what['breaks']}; spares {what['spares']}")
    for name, why in made.skipped.items():
        out.print(f"[yellow]{name} is skipped[/yellow]: {why}")
    minutes = len(made.order) * campaign.FIRST_GUESS / 60
    out.print(f"{len(made.order)} runs, about {minutes:.0f} minutes. Nothing was done.")


def _campaign(
    inventory: Inventory,
    names: Sequence[str],
    *,
    runs: int,
    seed: int,
    as_json: bool,
    hours: float | None = None,
    resumed: str | None = None,
) -> None:
    until = time.monotonic() + hours * 3600 if hours else float("inf")
    progress = Progress()
    with runner.session(inventory) as stage:
        if resumed:
            folder = campaign.find(inventory, None if resumed == "last" else resumed)
        else:
            folder = campaign.record(inventory, campaign.plan(stage, names, runs=runs, seed=seed))
        for name, why in campaign.read(folder).skipped.items():
            progress.say(f"{name} is skipped: {why}")
        try:
            done = campaign.run(stage, folder, progress, until=until)
        except BaseException:
            left = len(campaign.left(folder))
            progress.say(f"{left} runs are left: `sias drill campaign --resume {folder.name}` goes on.")
            raise
    results = _report_on(inventory, folder, as_json=as_json)
    if any(r["verdict"] == "failed" for r in results):
        sys.exit(VERDICT_FAILED)
    sys.exit(HELD if all(d.verdict == "held" for d in done) else COULD_NOT_RUN)


def _report_on(inventory: Inventory, folder: Path, *, as_json: bool) -> list[dict[str, Any]]:
    """Write a campaign's report and show it; returns its results."""
    made = campaign.read(folder)
    results = campaign.results(inventory, folder)
    earlier = [f for f in campaign.all_of(inventory) if f.name < folder.name]
    before = campaign.results(inventory, earlier[0]) if earlier else []
    rows = matrix.rows(results, inventory.objectives, before)
    done = campaign.done(folder)
    notes = [f"{name} was skipped: {why}" for name, why in made.skipped.items()]
    notes += [f"{d.drill} could not run: {d.why}" for d in done if d.verdict == campaign.COULD_NOT_RUN]
    left = len(made.order) - len(done)
    if left:
        notes.append(f"{left} runs are left: `sias drill campaign --resume {folder.name}`")
    document = {
        "campaign": folder.name,
        "environment": made.environment,
        "seed": made.seed,
        "compared_with": earlier[0].name if earlier else None,
        "drills": matrix.as_json(rows),
        "runs": [{"drill": d.drill, "verdict": d.verdict, "run": d.run, "seconds": d.seconds} for d in done],
        "notes": notes,
    }
    (folder / "report.json").write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    title = f"Campaign {folder.name}, {made.environment}"
    page = matrix.html(title, rows, results, objectives=inventory.objectives, notes=notes, before=before)
    (folder / "report.html").write_text(page, encoding="utf-8")
    if as_json:
        emit_json(document)
        return results
    _show_rows(title, rows)
    for note in notes:
        out.print(f"[yellow]{note}[/yellow]")
    out.print(f"Report: {_short(folder)}/report.html")
    return results


def _report_on_kept(inventory: Inventory, *, as_json: bool) -> None:
    runs = [one for one in campaign.kept() if one["environment"] == inventory.environment]
    told = [one for one in runs if "figures" in one]
    rows = matrix.rows(told, inventory.objectives)
    if as_json:
        emit_json({"drills": matrix.as_json(rows), "runs": runs})
        return
    if not runs:
        out.print("No figures are kept: `sias drill keep`, after a campaign.")
        return
    _show_rows(f"Runs that are kept, {inventory.environment}", rows)
    for one in runs:
        if one["verdict"] != "held":
            why = one.get("why") or ", ".join(one["broken"]) or "the load was not offered"
            out.print(f"[yellow]{one['run'] or one['name']}[/yellow]: {one['verdict']}, {why}", highlight=False)


def _show_rows(title: str, rows: Sequence[matrix.Row]) -> None:
    # Narrow enough for any terminal; the page has every figure.
    table = Table(title=title, title_justify="left", header_style="bold", box=None)
    for column in ("Drill", "Held", "Lost", "No write", "No read", "Change"):
        table.add_column(column, no_wrap=True, justify="left" if column == "Drill" else "right")
    for row in rows:
        held = row.verdicts.count("held")
        colour = "green" if held == len(row.verdicts) else "red"
        table.add_row(
            row.drill,
            f"[{colour}]{held}/{len(row.verdicts)}[/{colour}]",
            "LOST"
            if row.bound is None and row.spreads["write_gap"]
            else "-"
            if row.bound is None
            else f"<{row.bound:.0%}",
            matrix.cell(row.spreads["write_gap"]),
            matrix.cell(row.spreads["read_gap"]),
            matrix.change(row),
        )
    out.print(table)
    out.print(
        "Lost: below which rate runs with a loss are (95 %), none having been seen. Seconds: median / 95 % / worst. "
        "Change: of the 95 % without a write, against the campaign before."
    )
    for row in rows:
        if row.goals:
            out.print(f"{row.drill}: {matrix.goals(row)}")


@drill.command("keep")
@click.argument("name", metavar="[CAMPAIGN]", default="last")
@click.pass_obj
def keep(inventory: Inventory, name: str) -> None:
    """Keep the figures of a campaign's runs in runbooks/records/drills.jsonl, where they outlive the lab.

    A run that is kept already is not added again. `sias drill report --kept` shows them all together.
    """
    folder = campaign.find(inventory, None if name == "last" else name)
    added = campaign.keep(inventory, folder)
    out.print(f"{added} runs of {folder.name} added to {_short(campaign.KEPT)}.")


@drill.command("report")
@click.option("--campaign", "name", metavar="CAMPAIGN", help="Of a campaign: its name, or “last”.")
@click.option("--kept", is_flag=True, help="Of every run whose figures are kept (`sias drill keep`).")
@click.option("--last", "count", default=10, show_default=True, help="How many single runs, without --campaign.")
@json_option
@click.pass_obj
def show_report(inventory: Inventory, name: str | None, *, kept: bool, count: int, as_json: bool) -> None:
    """Show the last runs, or a campaign: matrix, distributions, what zero losses prove, change since the one before."""
    if kept:
        _report_on_kept(inventory, as_json=as_json)
        return
    if name:
        _report_on(inventory, campaign.find(inventory, None if name == "last" else name), as_json=as_json)
        return
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
