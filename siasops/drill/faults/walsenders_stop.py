"""The primary's walsenders hold still (SIGSTOP): connected, but nothing reaches the standbys."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, primary
from siasops.drill.means.signals import WALSENDERS, SignalFault


class WalsendersStop(SignalFault):
    """See the module."""

    name = "walsenders-stop"
    title = "SIGSTOP of the primary's walsenders"
    expected = "The standby gives the silent link up and streams through a new walsender; commits wait meanwhile, none is lost."
    spares = "every other process of the primary"
    signal = "STOP"
    find = WALSENDERS
    unit = "patroni"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the primary."""
        return [primary(view).host]
