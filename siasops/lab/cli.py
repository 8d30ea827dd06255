"""`sias lab`: build, show, and remove the lab of this machine."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.table import Table

from siasops import remote
from siasops.cluster import check as checks
from siasops.cluster.cli import picture
from siasops.cluster.view import look
from siasops.console import Progress, clock, emit_json, err, json_option, out
from siasops.data import population
from siasops.errors import USAGE, VERDICT_FAILED, UserError
from siasops.inventory import Inventory
from siasops.lab import deploy, machines, network, owners
from siasops.lab.provider import Lxc, provider

HEALTHY_DEADLINE_S = 120.0
POPULATION = 50_000
"""Persons loaded into a new lab; `sias data load` loads the whole Moselle."""


def _lab(inventory: Inventory) -> Inventory:
    if not inventory.is_lab:
        raise UserError(f"{inventory.environment} is not a lab; its machines are not this command's to make.", USAGE)
    return inventory


@click.group()
def lab() -> None:
    """Build two rooms and a witness on this machine, look at them, remove them.

    \b
    sias lab up               everything, from nothing or from wherever it stands (make lab)
    sias lab up --debian 13   the same on Debian 13 with its PostgreSQL
    sias lab status           machines, and the playbook's last result
    sias lab accounts         who may sign in, and how to see the password
    sias lab destroy --yes    remove the machines; the packages and boxes stay cached
    """


@lab.command()
@click.option("--debian", metavar="12|13", help="Debian release; by default the one that is there, else 12.")
@click.option(
    "--postgresql", metavar="MAJOR", help="PostgreSQL of a lab that has none yet; by default that of its Debian."
)
@click.option("--beside", is_flag=True, help="Leave labs of other environments alone (they take memory and time).")
@click.option("--machines-only", is_flag=True, help="Stop when the machines answer; deploy nothing.")
@click.option("--persons", default=POPULATION, show_default=True, help="Population of a lab that has none yet.")
@click.option("--seed", default=57, show_default=True, help="Seed of that population.")
@click.pass_obj
def up(
    inventory: Inventory,
    *,
    debian: str | None,
    postgresql: str | None,
    beside: bool,
    machines_only: bool,
    persons: int,
    seed: int,
) -> None:
    """Build the machines, deploy the platform, load data, verify, and say where to go.

    Whatever stands already is kept: the second run changes nothing. What another checkout or a killed run left
    behind is cleared, with a sentence.
    """
    _lab(inventory)
    release = machines.release_for(inventory, debian)
    power = provider(inventory)
    containers = isinstance(power, Lxc)
    progress = Progress(total=3 if machines_only else 6)
    with machines.lock(inventory, f"sias lab up, Debian {release}", progress.say):
        with progress.step("The network between the rooms, the package cache and the box"):
            if containers:
                network.up(inventory)
                network.cache_up(inventory)
                machines.build_box(inventory, release, progress.say)
            else:
                progress.say(f"{power.name} makes its own network and fetches its own box")
        with progress.step("Clear what does not belong to this lab"):
            machines.clear_leftovers(inventory, release, progress.say, beside=beside)
        with progress.step(f"{len(inventory.hosts)} machines on Debian {release}"):
            machines.start(inventory, release, progress.say)
            if not containers:
                network.cache_up(inventory)  # its address exists once the provider's network does
            machines.make_secrets(inventory, progress.say)
        (inventory.state / "READY").touch()
        if machines_only:
            return
        with progress.step("Deploy the platform (playbooks/site.yml)"):
            major = ("-e", f"sias_postgresql_major={postgresql}") if postgresql else ()
            recaps = deploy.playbook(inventory, "site", say=progress.say, arguments=major)
            progress.say("changed: " + ", ".join(f"{r.host} {r.changed}" for r in recaps if r.host != "localhost"))
        with progress.step("Load the population"):
            population.ensure(inventory, persons=persons, seed=seed, say=progress.say)
        with progress.step("Verify"):
            _wait_until_healthy(inventory, progress)
    where_to_go(inventory)
    err.print(f"[bold green]The lab is up[/bold green] after {clock(progress.elapsed)}.")


def _wait_until_healthy(inventory: Inventory, progress: Progress) -> None:
    """Wait for every check of `sias cluster check`; a lab that has just started needs seconds for it."""
    end = time.monotonic() + HEALTHY_DEADLINE_S
    with remote.connect(inventory) as fleet:
        while True:
            lines = checks.check(look(inventory, fleet))
            if checks.healthy(lines):
                progress.say(f"all {len(lines)} checks hold")
                return
            if time.monotonic() > end:
                told = "\n".join(f"{x.what}: {x.found} -> {x.action}" for x in lines if not x.ok)
                raise UserError(
                    f"The platform is deployed but not healthy after {HEALTHY_DEADLINE_S:.0f} s:\n{told}",
                    VERDICT_FAILED,
                )
            time.sleep(1)


def where_to_go(inventory: Inventory) -> None:
    """Print addresses, accounts, who leads, and which room serves what."""
    with remote.connect(inventory) as fleet:
        for part in picture(inventory, look(inventory, fleet)):
            out.print(part)
    authority = (
        (inventory.pki / "ca.crt").relative_to(Path.cwd())
        if inventory.pki.is_relative_to(Path.cwd())
        else (inventory.pki / "ca.crt")
    )
    addresses = Table(box=None, show_header=False, padding=(0, 2))
    for room in inventory.rooms.values():
        addresses.add_row(f"{room.name}", f"https://{room.address}/")
    for what in ("prometheus", "alertmanager"):
        watching = [f"https://{host.address}:{inventory.ports[what]}/" for host in inventory.watchers()]
        addresses.add_row(what.capitalize(), "  ".join(watching))
    addresses.add_row("Authority to trust", str(authority))
    addresses.add_row("Accounts", "sias lab accounts")
    addresses.add_row("Next", "sias drill run room-loss     (power off the primary's room, under load)")
    out.print(addresses)


@lab.command()
@click.option("--show", is_flag=True, help="Print the passwords too.")
@click.pass_obj
def accounts(inventory: Inventory, show: bool) -> None:
    """Who may sign in to the lab; passwords only with --show."""
    secrets = _lab(inventory).secrets()
    shown = Table("account", "where", "what for", "password" if show else "password (--show)")
    for account, where, why, key in (
        ("demo", "the application", "a social worker, to look around", "app_demo_password"),
        ("sonde", "the application", "the drills' probe", "app_probe_password"),
        ("operateur", "Prometheus, Alertmanager", "operators", "prometheus_password"),
    ):
        shown.add_row(account, where, why, secrets[key] if show else "…")
    out.print(shown)


@lab.command("secrets")
@click.pass_obj
def make_secrets(inventory: Inventory) -> None:
    """Make the secrets that are missing, at random (a lab's only)."""
    machines.make_secrets(_lab(inventory), err.print)


@lab.command()
@json_option
@click.pass_obj
def status(inventory: Inventory, as_json: bool) -> None:
    """Show the machines of the lab and whether they have power."""
    power = provider(_lab(inventory)).running()
    present = owners.owner(inventory.environment)
    if as_json:
        emit_json({"owner": present.__dict__ if present else None, "power": power})
        return
    out.print(
        f"Debian {present.debian}, built by {present.checkout}"
        if present
        else f"No {inventory.environment} is on this machine."
    )
    shown = Table("host", "room", "address", "memory", "power")
    for host in inventory.hosts.values():
        state = {True: "[green]on[/green]", False: "[red]off[/red]"}.get(power.get(host.name, None), "absent")  # type: ignore[arg-type]
        shown.add_row(host.name, host.room, host.address, f"{host.memory_mb} MiB", state)
    out.print(shown)


@lab.command()
@click.option("--yes", is_flag=True, help="Really remove; otherwise only say what would go.")
@click.pass_obj
def destroy(inventory: Inventory, yes: bool) -> None:
    """Remove the machines and their data; packages and boxes stay cached."""
    _lab(inventory)
    if not yes:
        names = ", ".join(provider(inventory).running()) or "nothing"
        out.print(f"Would remove: {names}. Say --yes to do it.")
        return
    with machines.lock(inventory, "sias lab destroy", err.print):
        machines.destroy(inventory, err.print)
        network.down(inventory)
