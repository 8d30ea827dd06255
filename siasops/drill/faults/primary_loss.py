"""The primary's host loses its power: database, Patroni and an etcd member die together."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, primary
from siasops.drill.means.power import PowerFault


class PrimaryLoss(PowerFault):
    """See the module."""

    name = "primary-loss"
    title = "the primary's host powered off, then powered on"
    expected = "The synchronous standby of the other room is promoted; the host rejoins by itself and follows."
    spares = "every other host"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the primary's host."""
        return [primary(view).host]
