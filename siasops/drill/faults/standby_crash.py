"""The synchronous standby's PostgreSQL dies at once: kill -9 of its postmaster."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, standby
from siasops.drill.means.signals import POSTMASTER, SignalFault


class StandbyCrash(SignalFault):
    """See the module."""

    name = "standby-crash"
    title = "kill -9 of the synchronous standby's postmaster"
    expected = "Writers wait until Patroni has it started again or has let it go; nobody else is promoted."
    spares = "the primary"
    lasts = False
    least = 3.0
    find = POSTMASTER
    unit = "{unit}"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the synchronous standby."""
        return [standby(view).host]
