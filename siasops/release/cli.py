"""`sias release`: the application's next version on every host, without a user noticing; and back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table

from siasops import remote
from siasops.change.cli import verbs
from siasops.console import Progress, emit_json, json_option, out
from siasops.drill import active
from siasops.drill.faults import Stage
from siasops.inventory import ROOT, Inventory
from siasops.release import host as hosts
from siasops.release.procedure import Release

_source = click.option(
    "--source", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER",
    help="The application's folder; app/ of this checkout by default.",
)  # fmt: skip


@click.group()
def release() -> None:
    """Bring the application's next version to every host, and back, without a user noticing.

    \b
    sias release plan                 what it would do
    sias release check                go / no-go; migrations are judged once it is shipped
    sias release ship                 build it and put it on every host, without using it
    sias release run --yes            one host, watched; then the others, one by one
    sias release rollback --yes       to the former release, in seconds; --to VERSION to any that is kept
    sias release list                 what each host runs and keeps
    """


verbs(
    release,
    Release(),
    forward=[_source],
    back=[
        click.option(
            "--to", metavar="VERSION",
            help="A release that every host keeps; the former one by default, and always while a release stands half-way.",
        )
    ],
)  # fmt: skip


@release.command("ship")
@_source
@click.pass_obj
def ship(inventory: Inventory, source: Path | None) -> None:
    """Build the release and put it on every application host, without using it. The second time does nothing."""
    source = (source or ROOT / "app").resolve()
    progress = Progress()
    with active.only_one(inventory), remote.connect(inventory) as fleet:
        version = hosts.version_of(source)
        with progress.step(f"Ship {version} to every application host"):
            shipped = hosts.ship(Stage(inventory, fleet), source, version, progress.say)
    out.print(f"{version}: {'shipped' if shipped else 'every application host has it already'}. Nothing runs it yet.")


@release.command("list")
@json_option
@click.pass_obj
def list_releases(inventory: Inventory, *, as_json: bool) -> None:
    """Show what each application host runs and keeps, the one used last first."""
    with remote.connect(inventory) as fleet:
        standings = hosts.look(Stage(inventory, fleet))
    if as_json:
        emit_json({name: vars(standing) for name, standing in standings.items()})
        return
    table = Table(title=f"Releases of {inventory.environment}", title_justify="left", header_style="bold")
    for column in ("Host", "Room", "Release", "Used last (UTC)", ""):
        table.add_column(column)
    for s in standings.values():
        for version, used in sorted(s.releases.items(), key=lambda item: -item[1]):
            states = ["runs" if s.runs(version) else "chosen, not ready"] if version == s.current else []
            table.add_row(s.name, s.room, version, f"{datetime.fromtimestamp(used, UTC):%Y-%m-%d %H:%M}", *states)
    out.print(table)
    for s in standings.values():
        if s.drained:
            out.print(
                f"[yellow]{s.name} sends nothing to {', '.join(s.drained)}: `sias release run` or `rollback` mends that.[/yellow]"
            )
