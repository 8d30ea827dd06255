"""The primary's host and the witness lose sight of each other; everybody else sees both."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, primary
from siasops.drill.means.network import NetworkFault


class WitnessPrimaryCut(NetworkFault):
    """See the module."""

    name = "witness-primary-cut"
    title = "the primary's host and the witness cut from each other"
    expected = (
        "The room guard does not act on its own eyes alone: the standby still sees the primary, which goes on, by Patroni's "
        "failsafe mode where it reaches no majority of etcd. Nobody is promoted."
    )

    def peers(self, stage: Stage, view: View) -> dict[str, list[str]]:
        """Cut the primary's host from the witness site."""
        return {primary(view).host: [h.name for h in stage.inventory.group("witnesses")]}
