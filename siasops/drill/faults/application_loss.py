"""An application host loses its power: HAProxy, PgBouncer, the application, a document brick."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, front, primary
from siasops.drill.means.power import PowerFault


class ApplicationLoss(PowerFault):
    """See the module."""

    name = "application-loss"
    title = "the application host of the primary's room powered off, then powered on"
    expected = (
        "Another application host takes the room's address and its users; documents wait until the brick is given up."
    )
    spares = "the database hosts"
    takes_copies = True

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the host that holds the address of the primary's room."""
        return [front(view, primary(view).room)]
