"""The etcd member that leads holds still (SIGSTOP): its links stay open and answer nothing."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage
from siasops.drill.means.signals import SignalFault, main_process


class EtcdStop(SignalFault):
    """See the module."""

    name = "etcd-stop"
    title = "SIGSTOP of the leading etcd member"
    expected = "The two others elect a leader, Patroni asks another member; writers go on."
    spares = "the other members, Patroni and PostgreSQL"
    signal = "STOP"
    find = main_process("etcd")
    unit = "etcd"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the member that leads."""
        return [v.host for v in view.voters if v.leads]
