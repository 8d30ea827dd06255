"""The standby's PostgreSQL is restarted, and the primary's host dies in the moment in which it streams again but may not
yet be known as synchronous (Patroni #3662).
"""  # noqa: D205 - one sentence

from __future__ import annotations

from siasops import remote
from siasops.cluster import instance
from siasops.cluster.client import Asker
from siasops.cluster.view import View
from siasops.drill.faults import Fault, Plan, Stage, primary, standby
from siasops.drill.means import power
from siasops.drill.means.signals import place


class RejoinThenLoss(Fault):
    """See the module."""

    name = "rejoin-then-loss"
    title = "the synchronous standby restarted, the primary's host lost the moment it streams again"
    expected = (
        "If the standby was known as synchronous it is promoted, otherwise nobody is until the primary is back: either "
        "way nothing acknowledged is lost, and the cluster finds a leader by itself."
    )
    spares = "the application hosts and the witness"
    needs_lab = True
    least = 12.0
    most = 40.0

    def plan(self, stage: Stage, view: View) -> Plan:
        """Take the primary's host and the standby."""
        return {"primary": primary(view).host, "standby": standby(view).host}

    def start(self, stage: Stage, plan: Plan) -> None:
        """Restart the standby; the primary dies as soon as it streams."""
        crash = place("systemctl kill --signal=KILL --kill-whom=all {unit}", stage)
        stage.fleet.run(plan["standby"], crash, check=True)
        address, port = stage.inventory.hosts[plan["primary"]].address, instance.of(stage.inventory).serving.patroni
        with Asker(stage.inventory, timeout=1.0) as asker:

            def streams() -> bool:
                answer = asker.json(address, port, "/patroni") or {}
                return any(
                    s.get("application_name") == plan["standby"] and s.get("state") == "streaming"
                    for s in answer.get("replication") or []
                )

            remote.wait_until(lambda: not streams(), "the standby is away", deadline=15.0, every=0.05)
            remote.wait_until(streams, "the standby streams again", deadline=30.0, every=0.05)
        power.cut(stage, [plan["primary"]])

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Power on; systemd has started Patroni on the standby."""
        power.give(stage, [plan["primary"]])
        stage.fleet.run(plan["standby"], place("systemctl start {unit}", stage), timeout=60.0, check=True)

    def describe(self, plan: Plan) -> str:
        """See `Fault.describe`."""
        return f"kill PostgreSQL and Patroni of {plan['standby']}; power off {plan['primary']} when it streams again"
