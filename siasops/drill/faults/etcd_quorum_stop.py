"""Two of three etcd members hold still (SIGSTOP), the leading one among them: no lease can be renewed."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Stage
from siasops.drill.means.signals import SignalFault, main_process


class EtcdQuorumStop(SignalFault):
    """See the module."""

    name = "etcd-quorum-stop"
    title = "SIGSTOP of two of three etcd members"
    expected = (
        "Patroni's failsafe mode: as long as every database host answers the primary it goes on without a lease; "
        "nobody is promoted."
    )
    spares = "Patroni and PostgreSQL"
    signal = "STOP"
    least = 12.0
    find = main_process("etcd")
    unit = "etcd"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the majority, the leader first."""
        members = sorted(view.voters, key=lambda v: not v.leads)
        return [v.host for v in members[: len(members) // 2 + 1]]
