"""The room without the primary loses its power."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, hosts_of, other_room, primary
from siasops.drill.means.power import PowerFault


class OtherRoomLoss(PowerFault):
    """See the module."""

    name = "other-room-loss"
    title = "every host of the room without the primary powered off at once, then powered on"
    expected = (
        "Writers wait until the standby is let go, then go on; both rooms' users are served by the primary's room."
    )
    spares = "the primary's room and the witness"
    takes_copies = True

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the room without the primary."""
        return hosts_of(stage, other_room(stage, primary(view).room))
