"""First the synchronous standby's host dies, then the primary's, then the standby alone comes back (Patroni #3327).

The primary has acknowledged writes while it was alone, which the standby has never seen.
"""

from __future__ import annotations

from siasops import remote
from siasops.cluster.view import View, look
from siasops.drill.faults import Fault, Plan, Stage, primary
from siasops.drill.means import power


class BothDatabasesInTurn(Fault):
    """See the module."""

    name = "both-databases-in-turn"
    title = "the standbys lost, then the primary, then the standbys back alone"
    expected = (
        "Nobody is promoted: the standbys know that they miss acknowledged writes. No write is acknowledged until the "
        "former primary is back, and then nothing is lost."
    )
    spares = "the application hosts and the witness"
    stops_writes = True
    least = 25.0
    needs_lab = True

    def plan(self, stage: Stage, view: View) -> Plan:
        """Take the primary and every other database host."""
        leader = primary(view)
        return {"primary": leader.host, "standbys": [m.host for m in view.members if m.host != leader.host]}

    def start(self, stage: Stage, plan: Plan) -> None:
        """Standbys off; writers go on alone; primary off; standbys on."""
        power.cut(stage, plan["standbys"])
        remote.wait_until(
            lambda: _alone(look(stage.inventory, stage.fleet)), "the primary goes on alone", deadline=30.0
        )
        power.cut(stage, [plan["primary"]])
        power.give(stage, plan["standbys"])

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Power on."""
        power.give(stage, [plan["primary"], *plan["standbys"]])

    def describe(self, plan: Plan) -> str:
        """See `Fault.describe`."""
        return f"power off {', '.join(plan['standbys'])}, then {plan['primary']}, then power on {', '.join(plan['standbys'])}"


def _alone(view: View) -> bool:
    return view.leader is not None and not any(s.sync_state in {"sync", "quorum"} for s in view.leader.standbys)
