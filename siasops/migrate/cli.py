"""`sias migrate gates`: whether the databases could go to the next major version, long before anybody does it."""

from __future__ import annotations

import sys

import click

from siasops import remote
from siasops.cluster import instance
from siasops.cluster.check import Line, healthy
from siasops.cluster.cli import print_lines
from siasops.cluster.view import look
from siasops.console import emit_json, json_option, out
from siasops.errors import HELD, VERDICT_FAILED, UserError
from siasops.inventory import Inventory
from siasops.migrate import copy, gates
from siasops.migrate.database import Psql

_DATABASES = "SELECT datname AS name FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"


@click.group()
def migrate() -> None:
    """Take PostgreSQL to its next major version."""


@migrate.command("gates")
@click.option("--to", "target", default="17", show_default=True, metavar="MAJOR", help="The version to arrive at.")
@json_option
@click.pass_obj
def gates_command(inventory: Inventory, target: str, *, as_json: bool) -> None:
    """Say what a migration would lose or stumble over, in every database of the primary. Touches nothing.

    Large objects, unlogged tables, rows without a key, prepared transactions, extensions and settings that the target
    lacks, functions in indexes that name no schema: each with what was found and what to do. Exit code 0 go, 1 no-go.
    """
    with remote.connect(inventory) as fleet:
        found = judge(inventory, fleet, target)
    held = all(healthy(lines) for lines in found.values())
    if as_json:
        rows = {name: [vars(line) for line in lines] for name, lines in found.items()}
        emit_json({"environment": inventory.environment, "held": held, "to": target, "databases": rows})
    else:
        for name, lines in found.items():
            out.print(f"[bold]Database {name}[/bold]")
            print_lines(lines)
        out.print(f"[bold green]go[/] for {target}" if held else f"[bold red]no-go[/] for {target}")
    sys.exit(HELD if held else VERDICT_FAILED)


def judge(inventory: Inventory, fleet: remote.Fleet, target: str) -> dict[str, list[Line]]:
    """Ask every database of the primary.

    Raises:
        UserError: nobody leads, or it has that version.
    """
    leader = look(inventory, fleet).leader
    if leader is None:
        raise UserError("Nobody leads: there is no primary to ask. See `sias cluster check`.")
    if leader.version.split(".")[0] == target:
        raise UserError(f"{leader.host} runs PostgreSQL {leader.version} already.")
    port, offered = instance.of(inventory).serving.postgres, copy.offered(fleet, leader.host, target)
    names = [row["name"] for row in Psql(fleet, leader.host, port, "postgres").ask(_DATABASES)]
    return {name: gates.gates(Psql(fleet, leader.host, port, name), offered, target=target) for name in names}
