"""The rooms are cut from each other, both ways, while each still sees the witness."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, hosts_of, other_room, primary
from siasops.drill.means.network import NetworkFault


class RoomCut(NetworkFault):
    """See the module."""

    name = "room-cut"
    title = "the rooms cut from each other, both with the witness"
    expected = (
        "Writers wait until the standby that no longer answers is let go; the primary keeps its lease, nobody is promoted; "
        "each room's address stays in its room."
    )
    takes_copies = True

    def peers(self, stage: Stage, view: View) -> dict[str, list[str]]:
        """Cut every host of the primary's room from every host of the other."""
        room = primary(view).room
        others = hosts_of(stage, other_room(stage, room))
        return dict.fromkeys(hosts_of(stage, room), others)
