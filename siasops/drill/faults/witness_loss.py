"""The witness site loses its power: an etcd member, the arbiter of documents, the monitoring."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, hosts_of
from siasops.drill.means.power import PowerFault
from siasops.inventory import WITNESS_ROOM


class WitnessLoss(PowerFault):
    """See the module."""

    name = "witness-loss"
    title = "the witness powered off, then powered on"
    expected = "Nobody notices: both rooms keep a majority. Documents may wait until the arbiter is given up."
    spares = "both rooms"
    takes_copies = True

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take every witness."""
        return hosts_of(stage, WITNESS_ROOM)
