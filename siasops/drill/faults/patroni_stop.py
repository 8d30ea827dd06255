"""Patroni of the primary holds still (SIGSTOP) and renews no lease, while its PostgreSQL would go on writing."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, primary
from siasops.drill.means.signals import SignalFault, main_process


class PatroniStop(SignalFault):
    """See the module."""

    name = "patroni-stop"
    title = "SIGSTOP of the primary's Patroni"
    expected = (
        "The lease ends and the standby is promoted; the former primary can acknowledge nothing, because its synchronous "
        "standby no longer follows it; once it goes on it demotes itself and rewinds."
    )
    spares = "PostgreSQL, etcd and the machine"
    signal = "STOP"
    find = main_process("{unit}")
    unit = "{unit}"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the primary."""
        return [primary(view).host]
