"""The five verbs that every procedure has: plan, check, run, verify, rollback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from siasops.change import engine
from siasops.change.engine import Outcome
from siasops.change.procedure import Procedure
from siasops.cluster.cli import print_lines
from siasops.console import Progress, clock, emit_json, json_option, out
from siasops.errors import HELD, VERDICT_FAILED
from siasops.inventory import Inventory

Decorator = Callable[[Any], Any]


def verbs(
    group: click.Group, procedure: Procedure, *, forward: Sequence[Decorator] = (), back: Sequence[Decorator] = ()
) -> None:
    """Add plan, check, run, verify and rollback to a procedure's group.

    Args:
        group: the command, such as `sias release`; its help says what the procedure does.
        procedure: what the verbs act on.
        forward: click options of plan, check and run; they reach `Procedure.plan` as `wanted`.
        back: the same of rollback, for `Procedure.plan_back`.
    """

    @click.pass_obj
    @json_option
    def plan(inventory: Inventory, /, *, as_json: bool, **wanted: Any) -> None:
        """Say what `run` would do, phase by phase. Touches nothing."""
        found, phases = engine.plan(inventory, procedure, wanted)
        if as_json:
            rows = [{"key": p.key, "title": p.title, "seconds": p.seconds} for p in phases]
            emit_json({"story": found.story, "nothing": found.nothing, "facts": found.facts, "phases": rows})
        elif found.nothing:
            out.print(found.nothing)
        else:
            out.print(f"[bold]{found.story}[/bold]")
            for number, phase in enumerate(phases, start=1):
                out.print(f"  {number:2}. {phase.title}  [dim]about {clock(phase.seconds)}[/dim]")
            out.print(
                f"About {clock(sum(p.seconds for p in phases))} in all. Nothing was touched; `run --yes` does it."
            )

    @click.pass_obj
    @json_option
    def check(inventory: Inventory, /, *, as_json: bool, **wanted: Any) -> None:
        """Say go or no-go, with what was found and what to do. Touches nothing. Exit code 0 go, 1 no-go."""
        _finish(engine.check(inventory, procedure, wanted, Progress().say), as_json=as_json)

    @click.pass_obj
    @json_option
    @_load
    @_change
    @_yes
    def run(
        inventory: Inventory, /, *, as_json: bool, load: bool, change: str | None, yes: bool, **wanted: Any
    ) -> None:
        """Do it, or go on where an interrupted run stopped.

        Checks go or no-go first. Can be interrupted at any moment: `run` goes on, `rollback` goes back. A second run
        finds nothing to do and says so. Exit code 0 it holds, 1 no-go or a promise did not hold, 3 it stopped.
        """
        if not yes:
            outcome = engine.check(inventory, procedure, wanted, Progress().say)
            _finish(outcome, as_json=as_json, more="Nothing was touched; `--yes` does it.")
        engine.ignore_hangup()
        _finish(
            engine.run(inventory, procedure, wanted, progress=Progress(), load=load, change=change), as_json=as_json
        )

    @click.pass_obj
    @json_option
    def verify(inventory: Inventory, /, *, as_json: bool) -> None:
        """Prove the result of the last one again. Touches nothing."""
        _finish(engine.verify(inventory, procedure), as_json=as_json)

    @click.pass_obj
    @json_option
    @_load
    @_change
    @_yes
    def rollback(
        inventory: Inventory, /, *, as_json: bool, load: bool, change: str | None, yes: bool, **wanted: Any
    ) -> None:
        """Go back: from a change that stands half-way, else from the last one. Can be interrupted and run again."""
        if not yes:
            raise click.UsageError("Going back acts on the platform: say --yes.")
        engine.ignore_hangup()
        _finish(
            engine.rollback(inventory, procedure, wanted, progress=Progress(), load=load, change=change),
            as_json=as_json,
        )

    for function, options in ((plan, forward), (check, forward), (run, forward), (verify, ()), (rollback, back)):
        command: Any = function
        for option in reversed(options):
            command = option(command)
        group.add_command(click.command(command))


_yes = click.option("--yes", is_flag=True, help="Really act; otherwise only say go or no-go.")
_change = click.option("--change", metavar="ID", help="Its identifier in the release calendar.")
_load = click.option(
    "--load/--no-load",
    default=True,
    show_default=True,
    help="Offer the drills' load beneath and judge what it felt (only where drills are allowed).",
)


def _finish(outcome: Outcome, *, as_json: bool, more: str = "") -> None:
    """Show an outcome and leave with its exit code."""
    if as_json:
        emit_json(outcome.as_json())
    else:
        if outcome.lines:
            print_lines(list(outcome.lines))
        for promise in outcome.felt.promises if outcome.felt else []:
            mark = "[green]held[/green]" if promise.held else "[bold red]not held[/bold red]"
            out.print(f"  {mark}  {promise.what}: {promise.found}  [dim]({promise.objective} promised)[/dim]")
        out.print(f"[bold {'green' if outcome.held else 'red'}]{outcome.sentence}[/] {more}".rstrip())
        if outcome.state is not None and outcome.felt is not None:
            report = outcome.state.folder / outcome.felt.run / "report.html"
            out.print(f"Report: {report.relative_to(Path.cwd()) if report.is_relative_to(Path.cwd()) else report}")
    sys.exit(HELD if outcome.held else VERDICT_FAILED)
