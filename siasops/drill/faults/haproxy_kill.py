"""HAProxy dies on the application host that holds the address of the primary's room."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, front, primary
from siasops.drill.means.signals import SignalFault, all_processes


class HaproxyKill(SignalFault):
    """See the module."""

    name = "haproxy-kill"
    title = "kill -9 of HAProxy on an application host"
    expected = "keepalived moves the room's address unless systemd has HAProxy back before; PgBouncer reconnects."
    spares = "the database and the application"
    lasts = False
    least = 3.0
    find = all_processes("haproxy")
    unit = "haproxy"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the host that holds the address of the primary's room."""
        return [front(view, primary(view).room)]
