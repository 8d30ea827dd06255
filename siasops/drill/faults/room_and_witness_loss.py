"""The primary's room and the witness site lose their power together: what is left has no majority."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, hosts_of, primary
from siasops.drill.means.power import PowerFault
from siasops.inventory import WITNESS_ROOM


class RoomAndWitnessLoss(PowerFault):
    """See the module."""

    name = "room-and-witness-loss"
    title = "the primary's room and the witness powered off at once, then powered on"
    expected = (
        "The room that is left must not elect a primary, since it cannot know that it is not the one that is cut off: no "
        "write is acknowledged, the replica goes on answering reads, and all is as before when the power is back."
    )
    spares = "the other room"
    takes_copies = True
    stops_writes = True
    least = 12.0

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the primary's room and every witness."""
        return [*hosts_of(stage, primary(view).room), *hosts_of(stage, WITNESS_ROOM)]
