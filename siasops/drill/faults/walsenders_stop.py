"""The primary's walsenders hold still (SIGSTOP): connected, but nothing reaches the standbys."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, primary
from siasops.drill.means.signals import WALSENDERS, SignalFault


class WalsendersStop(SignalFault):
    """See the module."""

    name = "walsenders-stop"
    title = "SIGSTOP of the primary's walsenders"
    expected = (
        "Commits wait for as long as it lasts: PostgreSQL counts a stopped walsender as streaming, and it keeps the "
        "standby's slot. Nobody is promoted, nothing is lost, and everybody goes on when it does."
    )
    spares = "every other process of the primary"
    signal = "STOP"
    most = 20.0
    find = WALSENDERS
    unit = "{unit}"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the primary."""
        return [primary(view).host]
