"""`sias upgrade debian plan|check|run|verify|rollback|settle`."""

from __future__ import annotations

import sys

import click

from siasops import remote
from siasops.change import cli
from siasops.change import state as states
from siasops.console import Progress, out
from siasops.drill import active
from siasops.errors import HELD, VERDICT_FAILED, UserError
from siasops.inventory import Inventory
from siasops.upgrade import documents, hosts
from siasops.upgrade.procedure import Debian


@click.group()
def upgrade() -> None:
    """Take the hosts to the next release of what they run on."""


@upgrade.group()
def debian() -> None:
    """Take every host to Debian's next release, one after the other, while users notice nothing.

    \b
    sias upgrade debian plan          which hosts, in which order, and how long
    sias upgrade debian check         go or no-go, with what to do
    sias upgrade debian run --yes     do it, or go on where it stopped
    sias upgrade debian verify        prove the result again
    sias upgrade debian rollback --yes    back: each host is made anew on the former release
    sias upgrade debian settle        end the way back, and remove what was kept for it
    """


cli.verbs(
    debian,
    Debian(),
    forward=[
        click.option("--to", metavar="RELEASE", help="Debian release; by default the latest that the platform knows.")
    ],
)


@debian.command()
@click.option("--yes", is_flag=True, help="Really act; otherwise only say what would happen.")
@click.pass_obj
def settle(inventory: Inventory, *, yes: bool) -> None:
    """End the way back of the last upgrade, when everybody is content with it.

    Raises the document volume's operating version, which no Gluster of the former Debian can join any more; and removes
    what nobody needs now: libraries, and the former Python with the kept releases that run on it. Exit code 0 it is
    settled or may be, 1 it is not time for it.
    """
    last = states.to_settle(inventory, Debian.kind)
    with active.only_one(inventory), remote.connect(inventory) as fleet:
        found = hosts.states(fleet, inventory.hosts)
        other = [name for name, one in found.items() if one is None or one.debian != last.facts["to"] or not one.whole]
        if other:
            out.print(f"[bold red]no-go[/]: {', '.join(other)} do not run a whole Debian {last.facts['to']}.")
            sys.exit(VERDICT_FAILED)
        if last.notes.get("tidied"):
            out.print(f"{last.story} was settled on {last.settled}; nothing to do.")
            sys.exit(HELD)
        present, highest = documents.versions(inventory, fleet)
        if not yes:
            out.print(
                f"Would raise Gluster's operating version from {present} to {highest} and remove what Debian "
                f"{last.facts['from']} left on {len(found)} hosts. [bold]Afterwards `rollback` is refused.[/bold] Nothing was "
                "touched; `--yes` does it."
            )
            sys.exit(HELD)
        progress = Progress()
        last.settle()
        with progress.step("The document volume"):
            progress.say(documents.settle(inventory, fleet))
        with progress.step("What the former release left"):
            wrong = [answer for answer in hosts.tidy(fleet, inventory.hosts).values() if not answer.ok]
            if wrong:
                told = "; ".join(
                    f"{answer.host}: {(answer.stderr or answer.stdout).strip()[-200:]}" for answer in wrong
                )
                raise UserError(f"Not everything could be removed ({told}); run it again.")
        last.notes["tidied"] = True
        last.write()
    out.print(
        f"{last.story}: settled. Releases that were kept for a way back ran on the former Python and do so no more."
    )
