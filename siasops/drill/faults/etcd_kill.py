"""The etcd member that leads dies at once, its machine lives on."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage
from siasops.drill.means.signals import SignalFault, main_process


class EtcdKill(SignalFault):
    """See the module."""

    name = "etcd-kill"
    title = "kill -9 of the leading etcd member"
    expected = (
        "The two others elect a leader within a second, Patroni keeps its lease; systemd starts the member again."
    )
    spares = "the other members, Patroni and PostgreSQL"
    lasts = False
    least = 3.0
    find = main_process("etcd")
    unit = "etcd"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the member that leads."""
        return [v.host for v in view.voters if v.leads]
