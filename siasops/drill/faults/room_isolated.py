"""The primary's room is cut from every other site: it lives, and is alone."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, hosts_of, primary
from siasops.drill.means.network import NetworkFault


class RoomIsolated(NetworkFault):
    """See the module."""

    name = "room-isolated"
    title = "the primary's room cut from the other room and from the witness"
    expected = (
        "It loses its lease and demotes itself; the other room, with the witness, elects and serves both addresses. What "
        "the lone primary is asked meanwhile is acknowledged to nobody."
    )
    takes_copies = True

    def peers(self, stage: Stage, view: View) -> dict[str, list[str]]:
        """Cut every host of the primary's room from every host outside it."""
        room = primary(view).room
        outside = [h.name for h in stage.inventory.hosts.values() if h.room != room]
        return dict.fromkeys(hosts_of(stage, room), outside)
