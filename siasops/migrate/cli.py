"""`sias migrate gates`: whether the databases could go to the next major version, long before anybody does it; and
`sias migrate postgres plan|check|run|accept|verify|rollback|settle`.
"""  # noqa: D205 - one sentence

from __future__ import annotations

import getpass
import json
import sys

import click

from siasops import remote
from siasops.change import state as states
from siasops.change.cli import verbs
from siasops.cluster import instance
from siasops.cluster.check import Line, check, healthy
from siasops.cluster.cli import print_lines
from siasops.cluster.view import look
from siasops.console import Progress, emit_json, json_option, out
from siasops.drill import active
from siasops.drill.faults import Stage
from siasops.errors import HELD, USAGE, VERDICT_FAILED, UserError
from siasops.inventory import Inventory
from siasops.lab import deploy
from siasops.migrate import copy, gates, plans
from siasops.migrate.check import DATABASES
from siasops.migrate.database import Psql
from siasops.migrate.procedure import FINDINGS, Postgres, accepted
from siasops.migrate.procedure import settle as end


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
    names = [row["name"] for row in Psql(fleet, leader.host, port, "postgres").ask(DATABASES)]
    return {name: gates.gates(Psql(fleet, leader.host, port, name), offered, target=target) for name in names}


@migrate.group()
def postgres() -> None:
    """Take PostgreSQL to its next major version beside the one that serves, while users notice nothing.

    \b
    sias migrate postgres plan            what would be done, and how long
    sias migrate postgres check           go or no-go, with what to do
    sias migrate postgres run --yes       do it, or go on where it stopped
    sias migrate postgres accept          bear a query's new plan, with a reason
    sias migrate postgres verify          prove the result again
    sias migrate postgres rollback --yes  back to the former version, with the same proof
    sias migrate postgres settle          end the way back, and remove the former cluster
    """


verbs(
    postgres,
    Postgres(),
    forward=[
        click.option(
            "--to", metavar="MAJOR", help="Version to arrive at; by default the latest that the platform knows."
        )
    ],
)


@postgres.command()
@click.argument("query")
@click.argument("rule")
@click.option("--reason", required=True, help="Why it is borne; kept with the plan that it is said of.")
@click.pass_obj
def accept(inventory: Inventory, query: str, rule: str, reason: str) -> None:
    """Bear a finding of the plan gate: a QUERY's name and the RULE that it broke, as the gate has shown them."""
    open_one = states.unfinished(inventory)
    path = None if open_one is None or open_one.kind != Postgres.kind else open_one.folder / FINDINGS
    if path is None or not path.exists():
        raise UserError("No migration stands at its plan gate here: there is nothing to accept.")
    fitting = [
        row for row in json.loads(path.read_text(encoding="utf-8")) if (row["query"], row["rule"]) == (query, rule)
    ]
    if not fitting:
        raise UserError(f"The gate found no “{rule}” of “{query}”; see {path}.", USAGE)
    for row in fitting:
        after = None if row["plan"] is None else plans.Measure(row["plan"])
        finding = plans.Finding(query, (), rule, row["text"], None, after)
        accepted(inventory.state).add(finding, reason, getpass.getuser())
    out.print(f"Accepted: {query}, {rule}. `sias migrate postgres run --yes` goes on.")


@postgres.command()
@click.option("--yes", is_flag=True, help="Really act; otherwise only say what would happen.")
@click.pass_obj
def settle(inventory: Inventory, *, yes: bool) -> None:
    """End the way back of the last migration, when everybody is content with it.

    Stops the former cluster and deletes its data on every database host, ends the flow to it, and lets the schema be changed
    again. Its backups stay in the repositories. Exit code 0 it is settled or may be, 1 it is not time for it.
    """
    last = states.to_settle(inventory, Postgres.kind)
    with active.only_one(inventory), remote.connect(inventory) as fleet:
        stage = Stage(inventory, fleet)
        now, view = instance.learn(inventory, fleet), look(inventory, fleet)
        wrong = [line for line in check(view) if not line.ok]
        if now.serving.slot != last.facts["new"] or wrong:
            told = (
                "; ".join(f"{line.what}: {line.found}" for line in wrong) or f"PostgreSQL {last.facts['from']} serves"
            )
            out.print(f"[bold red]no-go[/]: {told}.")
            sys.exit(VERDICT_FAILED)
        if last.settled and now.beside is None:
            out.print(f"{last.story} was settled on {last.settled}; nothing to do.")
            sys.exit(HELD)
        if not yes:
            out.print(
                f"Would stop PostgreSQL {last.facts['from']} and delete its data on every database host. [bold]Afterwards "
                "`rollback` is refused.[/bold] Nothing was touched; `--yes` does it."
            )
            sys.exit(HELD)
        progress = Progress()
        last.settle()

        def deployed(tags: str) -> None:
            deploy.playbook(inventory, "site", say=progress.say, arguments=("--tags", tags))

        with progress.step(f"The end of PostgreSQL {last.facts['from']}"):
            end(stage, last, progress.say, deployed)
    out.print(
        f"{last.story}: settled. Backups of {last.facts['from']} stay: stanza {last.facts['old_stanza']} of each repository."
    )
