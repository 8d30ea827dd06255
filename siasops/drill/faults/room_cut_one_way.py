"""Packets from the other room no longer reach the primary's room; the other way is open."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, hosts_of, other_room, primary
from siasops.drill.means.network import NetworkFault


class RoomCutOneWay(NetworkFault):
    """See the module."""

    name = "room-cut-one-way"
    title = "packets from the other room no longer reach the primary's room"
    expected = "As when the rooms are cut: a link that works one way is of no use to TCP."
    takes_copies = True
    ways = "in"

    def peers(self, stage: Stage, view: View) -> dict[str, list[str]]:
        """Cut every host of the primary's room from every host of the other."""
        room = primary(view).room
        others = hosts_of(stage, other_room(stage, room))
        return dict.fromkeys(hosts_of(stage, room), others)
