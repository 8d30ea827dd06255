"""The primary's postmaster holds still (SIGSTOP): sessions that are open go on, new ones get no answer."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, primary
from siasops.drill.means.signals import POSTMASTER, SignalFault


class PostmasterStop(SignalFault):
    """See the module."""

    name = "postmaster-stop"
    title = "SIGSTOP of the primary's postmaster"
    expected = (
        "Open sessions go on, so that writers are not disturbed; nothing acknowledged is lost whatever Patroni decides."
    )
    spares = "the sessions that are open"
    signal = "STOP"
    find = POSTMASTER
    unit = "{unit}"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the primary."""
        return [primary(view).host]
