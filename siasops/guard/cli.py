"""`sias guard status|pause|resume`: what the room guard does, and how to keep it still."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from siasops import remote
from siasops.console import emit_json, json_option, out
from siasops.errors import HELD, USAGE, VERDICT_FAILED, UserError
from siasops.guard.witness import MAINTENANCE
from siasops.inventory import Inventory
from siasops.remote import Fleet

JOURNAL = "/var/lib/sias-guard/decisions.jsonl"
PKI = "/etc/sias/pki"
LONGEST_MINUTES = 24 * 60


@click.group()
def guard() -> None:
    """Look at the room guard, or keep it still during work on the network.

    The guard hands the primary's lease on in about a second when its host or its room is dead. It never acts on one
    observer alone and never without cutting the old primary off first; siasops/guard/ARGUMENT.md says why that is safe.
    """


@guard.command()
@click.option("--last", "count", default=5, show_default=True, help="How many decisions to show.")
@json_option
@click.pass_obj
def status(inventory: Inventory, count: int, as_json: bool) -> None:
    """Show what the guard and its agents do, and the last decisions with what was seen.

    Exit code 0 when the guard and every agent run and nothing hinders them, 1 otherwise.
    """
    with remote.connect(inventory, [h.name for h in _hosts(inventory)]) as fleet:
        found = _look(inventory, fleet, count)
    held = not found["hindered"] and all(unit == "active" for unit in found["units"].values())
    if as_json:
        emit_json({**found, "held": held})
        sys.exit(HELD if held else VERDICT_FAILED)
    for host, unit in found["units"].items():
        what = "guard" if host in {h.name for h in inventory.group("witnesses")} else "agent"
        out.print(Text(f"{host}: {what} {unit}", style="" if unit == "active" else "bold red"))
    out.print(f"Phase: {found['phase']}{' (dry: it only says what it would do)' if found['dry'] else ''}")
    for why in found["hindered"]:
        out.print(Text(f"Kept from acting: {why}", style="yellow"))
    if found["decisions"]:
        table = Table(title="Last decisions", title_justify="left", header_style="bold")
        for column in ("When (UTC)", "What", "Why"):
            table.add_column(column)
        for line in found["decisions"]:
            table.add_row(line["at"][:23].replace("T", " "), line["event"], str(line.get("why") or ""))
        out.print(table)
    sys.exit(HELD if held else VERDICT_FAILED)


@guard.command()
@click.option(
    "--for", "minutes", type=click.IntRange(1, LONGEST_MINUTES), required=True, help="Minutes; then it acts again."
)
@click.option("--reason", required=True, help="Shown to whoever looks, and in the alert.")
@click.pass_obj
def pause(inventory: Inventory, minutes: int, reason: str) -> None:
    """Keep the guard still for some minutes; it ends by itself: `sias guard pause --for 20 --reason "new switch in room A"`.

    Plain Patroni goes on watching: a lost primary is replaced after its lease, 20 s and more.
    """
    if not reason.strip():
        raise UserError("Say the reason: it is what a colleague reads at night.", USAGE)
    grant = f"etcdctl lease grant {minutes * 60} | cut -d' ' -f2"
    _on_witness(inventory, f"lease=$({grant}); etcdctl put --lease=$lease {MAINTENANCE} {shlex.quote(reason)}")
    out.print(f"The guard keeps still for {minutes} min: {reason}. `sias guard resume` ends it earlier.")


@guard.command()
@click.pass_obj
def resume(inventory: Inventory) -> None:
    """Let the guard act again, now."""
    said = _on_witness(inventory, f"etcdctl del {MAINTENANCE}")
    out.print("The guard acts again." if said.strip() == "1" else "The guard was not paused.")


def _hosts(inventory: Inventory) -> list[Any]:
    return [*inventory.group("witnesses"), *inventory.group("databases")]


def _on_witness(inventory: Inventory, command: str) -> str:
    """Run on the first witness that answers.

    Raises:
        UserError: none does, or etcd there refuses.
    """
    names = [h.name for h in inventory.group("witnesses")]
    with remote.connect(inventory, names) as fleet:
        for name in names:
            result = fleet.run(name, f"set -eu; {command}", timeout=15.0)
            if result.ok:
                return result.stdout
    raise UserError(f"{', '.join(names)}: {result.stderr.strip() or 'no answer'}. See `sias cluster status`.")


def _look(inventory: Inventory, fleet: Fleet, count: int) -> dict[str, Any]:
    port = inventory.ports["guard_metrics"]
    witness = inventory.group("witnesses")[0].name
    commands: dict[str, str | list[str]] = {
        h.name: "systemctl is-active sias-guard-agent || true" for h in inventory.group("databases")
    }
    commands[witness] = (
        f"systemctl is-active sias-guard || true; tail -n {int(count)} {JOURNAL} 2>/dev/null || true; echo ===;"
        f" curl -s --max-time 3 --cacert {PKI}/ca.crt --cert {PKI}/host.crt --key {PKI}/host.key"
        f" https://localhost:{port}/metrics || true"
    )
    said = fleet.run_each(commands, timeout=10.0)
    top, _, metrics = said[witness].stdout.partition("===\n")
    state, *lines = top.splitlines() or ["silent"]
    units = {witness: state} | {
        h.name: said[h.name].stdout.strip() or "silent" for h in inventory.group("databases")
    }  # fmt: skip
    figures = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith("sias_guard_"))
    return {
        "units": units,
        "phase": next(
            (_label(k) for k, v in figures.items() if k.startswith("sias_guard_phase{") and float(v)), "unknown"
        ),
        "hindered": [_label(k) for k, v in figures.items() if k.startswith("sias_guard_hindered{") and float(v)],
        "dry": float(figures.get("sias_guard_dry", 0)) == 1,
        "acts": {_label(k): int(float(v)) for k, v in figures.items() if k.startswith("sias_guard_acts_total{")},
        "decisions": [json.loads(line) for line in lines if line.startswith("{")],
    }


def _label(series: str) -> str:
    return series.partition('="')[2].rstrip('"}')
