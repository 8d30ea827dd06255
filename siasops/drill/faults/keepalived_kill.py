"""keepalived dies on the application host that holds the address of the primary's room."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, front, primary
from siasops.drill.means.signals import SignalFault, all_processes


class KeepalivedKill(SignalFault):
    """See the module."""

    name = "keepalived-kill"
    title = "kill -9 of keepalived on an application host"
    expected = (
        "The other room's application host takes the address until systemd has keepalived back; both answer meanwhile."
    )
    spares = "HAProxy and the application"
    lasts = False
    least = 3.0
    find = all_processes("keepalived")
    unit = "keepalived"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the host that holds the address of the primary's room."""
        return [front(view, primary(view).room)]
