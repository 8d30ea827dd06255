"""The link between the rooms comes and goes every two seconds."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, hosts_of, other_room, primary
from siasops.drill.means.network import FlappingFault


class RoomCutFlapping(FlappingFault):
    """See the module."""

    name = "room-cut-flapping"
    title = "the link between the rooms comes and goes"
    expected = (
        "Writers stall and go on in turns; whoever leads, nothing acknowledged is lost and never do two acknowledge."
    )
    takes_copies = True
    least = 16.0
    most = 40.0

    def peers(self, stage: Stage, view: View) -> dict[str, list[str]]:
        """Cut every host of the primary's room from every host of the other."""
        room = primary(view).room
        others = hosts_of(stage, other_room(stage, room))
        return dict.fromkeys(hosts_of(stage, room), others)
