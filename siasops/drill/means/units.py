"""Transient units: what goes on happening on a host, known to its systemd, so that a fresh process can end it."""

from __future__ import annotations

from collections.abc import Iterable

from siasops.drill.faults import Stage
from siasops.errors import UserError

LIMIT = 600
"""Seconds after which systemd ends such a unit by itself, should nobody heal."""


def start_unit(stage: Stage, host: str, name: str, line: str) -> None:
    """Run a shell line on a host until it is stopped."""
    stage.fleet.run(
        host,
        [
            "systemd-run", "--quiet", "--collect", f"--unit=sias-drill-{name}", f"--property=RuntimeMaxSec={LIMIT}",
            "/bin/sh", "-c", line,
        ],
        check=True,
    )  # fmt: skip


def stop_units(stage: Stage, hosts: Iterable[str], name: str) -> None:
    """Stop it; hosts on which it does not run are left alone."""
    line = f"systemctl stop sias-drill-{name} 2>/dev/null; ! systemctl is-active --quiet sias-drill-{name}"
    for answer in stage.fleet.run_all(line, hosts=hosts, timeout=20.0).values():
        if not answer.ok:
            raise UserError(f"{answer.host}: sias-drill-{name} could not be stopped: {answer.stderr.strip()}")
