"""The rooms are suddenly far apart: 20 ms (give or take 5) are added each way."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage, hosts_of
from siasops.drill.means.network import DelayFault


class Latency(DelayFault):
    """See the module."""

    name = "latency"
    title = "20 ms added each way between the rooms"
    expected = "Every commit takes the round trip longer; nobody is promoted, nothing is lost."
    milliseconds = 20.0
    jitter = 5.0
    takes_copies = True
    most = 20.0

    def peers(self, stage: Stage, view: View) -> dict[str, list[str]]:
        """Trouble every host of both rooms with every host of the other."""
        a, b = (hosts_of(stage, letter) for letter in stage.inventory.rooms)
        return {**dict.fromkeys(a, b), **dict.fromkeys(b, a)}
