"""A room loses its power: every host of the primary's room at once, links first, then the machines."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, hosts_of, primary
from siasops.drill.means.power import PowerFault


class RoomLoss(PowerFault):
    """See the module."""

    name = "room-loss"
    title = "every host of the primary's room powered off at once, then powered on"
    expected = (
        "The other room's synchronous standby becomes primary and its application hosts serve both rooms' addresses; "
        "when the power is back the room's hosts rejoin by themselves, rewind, heal documents and take the address back."
    )
    spares = "the other room and the witness"
    takes_copies = True

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the room that hurts most: the primary's."""
        return hosts_of(stage, primary(view).room)
