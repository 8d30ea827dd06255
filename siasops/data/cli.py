"""`sias data`: the synthetic population."""

from __future__ import annotations

import time

import click

from siasops.console import Progress, emit_json, json_option, out
from siasops.data import population
from siasops.errors import USAGE, UserError
from siasops.inventory import Inventory


@click.group()
def data() -> None:
    """Load and count the data of an environment."""


@data.command()
@click.option("--persons", type=click.IntRange(1), default=population.DEPARTMENT, show_default=True, help="How many.")
@click.option("--seed", type=int, default=57, show_default=True, help="The same seed gives the same persons.")
@click.option("--replace", is_flag=True, help="Remove the present population first. Only on a lab.")
@json_option
@click.pass_obj
def load(inventory: Inventory, persons: int, seed: int, replace: bool, as_json: bool) -> None:
    """Make a population of the Moselle and load it: real communes, invented people.

    Refuses to touch a database that holds persons already, unless --replace. Interrupted, it is run again.
    """
    if replace and not inventory.is_lab:
        raise UserError(f"{inventory.environment} is not a lab: its persons are not replaced by invented ones.", USAGE)
    progress = Progress()
    began = time.monotonic()
    with progress.step(f"{persons} persons, seed {seed}"):
        loaded = population.load(inventory, persons=persons, seed=seed, replace=replace, say=progress.say)
    seconds = time.monotonic() - began
    if as_json:
        emit_json({**loaded.__dict__, "seconds": round(seconds, 1)})
    else:
        out.print(f"{loaded.persons} persons in {loaded.households} households, {seconds:.0f} s")


@data.command()
@json_option
@click.pass_obj
def stats(inventory: Inventory, as_json: bool) -> None:
    """Count persons, households and documents."""
    counted = population.stats(inventory)
    if as_json:
        emit_json(counted.__dict__)
    else:
        out.print(f"{counted.persons} persons in {counted.households} households, {counted.documents} documents")
