"""The synchronous standby's host loses its power."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, standby
from siasops.drill.means.power import PowerFault


class StandbyLoss(PowerFault):
    """See the module."""

    name = "standby-loss"
    title = "the synchronous standby's host powered off, then powered on"
    expected = (
        "Writers wait until Patroni has let it go, then go on with the primary alone; nobody is promoted; it rejoins."
    )
    spares = "the primary"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the synchronous standby's host."""
        return [standby(view).host]
