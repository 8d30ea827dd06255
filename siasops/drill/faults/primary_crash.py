"""The primary's PostgreSQL dies at once: kill -9 of its postmaster. The machine, its etcd and Patroni live on."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Fault, Plan, Stage
from siasops.errors import UserError

FIND = (
    "set -e; pid=$(head -n 1 /var/lib/postgresql/*/{cluster}/postmaster.pid);"
    " grep -qx postgres /proc/$pid/comm; echo $pid"
)


class PrimaryCrash(Fault):
    """See the module."""

    name = "primary-crash"
    title = "kill -9 of the primary's postmaster"
    expected = (
        "Patroni gives the lease up at once, the synchronous standby of the other room is promoted, HAProxy and "
        "PgBouncer lead writers there; the former primary rewinds and follows."
    )
    hold = 15.0

    def plan(self, stage: Stage, view: View) -> Plan:
        """Find the postmaster now, so that the fault itself is a single kill."""
        if view.leader is None:
            raise UserError("Nobody leads: there is no primary to crash. See `sias cluster check`.")
        host = view.leader.host
        found = stage.fleet.run(host, FIND.format(cluster=stage.inventory.cluster), check=True)
        return {"host": host, "pid": int(found.stdout)}

    def start(self, stage: Stage, plan: Plan) -> None:
        """Kill it."""
        stage.fleet.run(plan["host"], ["kill", "-9", str(plan["pid"])], check=True)

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Patroni starts it again by itself; only see that Patroni itself runs."""
        stage.fleet.run(plan["host"], ["systemctl", "start", "patroni"], timeout=60.0, check=True)

    def describe(self, plan: Plan) -> str:
        """See `Fault.describe`."""
        return f"kill -9 of PostgreSQL (process {plan['pid']}) on {plan['host']}"
