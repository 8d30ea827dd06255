"""One packet in twenty is lost between the rooms, both ways."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, hosts_of, other_room, primary
from siasops.drill.means.network import NetworkFault


class PacketLoss(NetworkFault):
    """See the module."""

    name = "packet-loss"
    title = "5 % of the packets between the rooms are lost"
    expected = "TCP repeats what is lost: everything is slower, nobody is promoted, nothing is lost."
    action = "numgen random mod 100 < 5 drop"
    takes_copies = True
    most = 20.0

    def peers(self, stage: Stage, view: View) -> dict[str, list[str]]:
        """Cut every host of the primary's room from every host of the other."""
        room = primary(view).room
        others = hosts_of(stage, other_room(stage, room))
        return dict.fromkeys(hosts_of(stage, room), others)
