"""Every process of the primary's PostgreSQL holds still (SIGSTOP); Patroni beside it lives on."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, primary
from siasops.drill.means.signals import EVERY_POSTGRES, SignalFault


class PostgresStop(SignalFault):
    """See the module."""

    name = "postgres-stop"
    title = "SIGSTOP of every process of the primary's PostgreSQL"
    expected = (
        "Patroni cannot ask its PostgreSQL, gives the lease up or loses it, and the standby is promoted; what the stopped "
        "processes do when they go on is acknowledged to nobody."
    )
    spares = "Patroni, etcd and the machine"
    signal = "STOP"
    find = EVERY_POSTGRES
    unit = "{unit}"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the primary."""
        return [primary(view).host]
