"""The command `sias`. Groups live beside what they act on; this file only gathers them."""

from __future__ import annotations

import importlib
import sys

import click

from siasops import inventory
from siasops.console import err
from siasops.errors import COULD_NOT_RUN, UserError

COMMANDS = {
    "lab": "siasops.lab.cli:lab",
    "cluster": "siasops.cluster.cli:cluster",
    "switchover": "siasops.cluster.cli:switchover",
    "release": "siasops.release.cli:release",
    "host": "siasops.cluster.cli:host",
    "upgrade": "siasops.upgrade.cli:upgrade",
    "migrate": "siasops.migrate.cli:migrate",
    "guard": "siasops.guard.cli:guard",
    "backup": "siasops.backup.cli:backup",
    "data": "siasops.data.cli:data",
    "drill": "siasops.drill.cli:drill",
    "load": "siasops.load.cli:load",
    "calendar": "siasops.calendar.cli:calendar",
}
"""Where each command lives. Imported when called, so that `sias --help` answers at once."""


class Commands(click.Group):
    """Loads a command's module when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order a newcomer meets them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - a registration error, not a user's
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "-i",
    "--inventory",
    "inventory_name",
    metavar="NAME|PATH",
    envvar="SIAS_INVENTORY",
    default="lab",
    show_default=True,
    help="Which environment: a name in inventory/ or a path.",
)
@click.pass_context
def sias(ctx: click.Context, inventory_name: str) -> None:
    """Operate SIAS in its two rooms.

      \b
      First steps with a lab (`make lab` builds one):
        sias cluster status          who leads, which room serves what
        sias cluster check           go / no-go, with what was found and what to do
    sias guard status            what watches the primary, and its last decisions
        sias drill run room-loss     power off the primary's room under load, and count what was lost
        sias backup list             what each room's repository could restore

      Exit codes: 0 it holds, 1 the verdict is negative, 2 wrong usage, 3 it could not run.
    """
    ctx.obj = inventory.load(inventory.resolve(inventory_name)) if ctx.invoked_subcommand else None


def main() -> None:
    """Entry point: a user's mistake is one sentence, never a traceback."""
    try:
        code = sias(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except UserError as error:
        err.print(f"[bold red]sias:[/bold red] {error}", markup=True)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        err.print("[bold red]sias:[/bold red] interrupted; the same command can be run again.")
        sys.exit(COULD_NOT_RUN)


if __name__ == "__main__":
    main()
