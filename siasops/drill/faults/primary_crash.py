"""The primary's PostgreSQL dies at once: kill -9 of its postmaster. The machine, its etcd and Patroni live on."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, primary
from siasops.drill.means.signals import POSTMASTER, SignalFault


class PrimaryCrash(SignalFault):
    """See the module."""

    name = "primary-crash"
    title = "kill -9 of the primary's postmaster"
    expected = (
        "Patroni gives the lease up at once, the synchronous standby of the other room is promoted, HAProxy and "
        "PgBouncer lead writers there; the former primary rewinds and follows."
    )
    spares = "Patroni, etcd and the machine"
    lasts = False
    least = 3.0
    find = POSTMASTER
    unit = "{unit}"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the primary."""
        return [primary(view).host]
