"""Patroni of the primary dies; PostgreSQL lives on without it."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, primary
from siasops.drill.means.signals import SignalFault, main_process


class PatroniKill(SignalFault):
    """See the module."""

    name = "patroni-kill"
    title = "kill -9 of the primary's Patroni"
    expected = "PostgreSQL goes on; systemd starts Patroni again within its lease, and nobody is promoted."
    spares = "PostgreSQL, etcd and the machine"
    lasts = False
    least = 3.0
    find = main_process("{unit}")
    unit = "{unit}"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the primary."""
        return [primary(view).host]
