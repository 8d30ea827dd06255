"""The whole application dies on one host: kill -9 of gunicorn and its workers."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, front, primary
from siasops.drill.means.signals import SignalFault, all_processes


class GunicornKill(SignalFault):
    """See the module."""

    name = "gunicorn-kill"
    title = "kill -9 of gunicorn and its workers on an application host"
    expected = "HAProxy sends requests to the other application host until systemd has the application back."
    spares = "the database, HAProxy and the documents"
    lasts = False
    least = 3.0
    find = all_processes("sias-web")
    unit = "sias-web"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the host that holds the address of the primary's room."""
        return [front(view, primary(view).room)]
