"""The primary's host is cut from every other host of the platform: it lives, and is alone."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, primary
from siasops.drill.means.network import NetworkFault


class PrimaryIsolated(NetworkFault):
    """See the module."""

    name = "primary-isolated"
    title = "the primary's host cut from every other host"
    expected = (
        "It loses its lease and demotes itself; the synchronous standby is promoted. Nothing acknowledged is lost."
    )

    def peers(self, stage: Stage, view: View) -> dict[str, list[str]]:
        """Cut the primary's host from all the others."""
        host = primary(view).host
        return {host: [name for name in stage.inventory.hosts if name != host]}
