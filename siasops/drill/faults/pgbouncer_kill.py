"""PgBouncer dies on the application host that holds the address of the primary's room."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, front, primary
from siasops.drill.means.signals import SignalFault, main_process


class PgbouncerKill(SignalFault):
    """See the module."""

    name = "pgbouncer-kill"
    title = "kill -9 of PgBouncer on an application host"
    expected = "systemd has it back in a second; requests meanwhile are retried where that is safe."
    spares = "the database and HAProxy"
    lasts = False
    least = 3.0
    find = main_process("pgbouncer")
    unit = "pgbouncer"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the host that holds the address of the primary's room."""
        return [front(view, primary(view).room)]
