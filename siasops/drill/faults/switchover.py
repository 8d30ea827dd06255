"""The primary is moved to the other room on purpose: a planned change, which nobody may feel as an error."""

from __future__ import annotations

from siasops.cluster import switchover
from siasops.cluster.view import View
from siasops.console import Progress
from siasops.drill.faults import Fault, Plan, Stage, other_room, primary
from siasops.errors import UserError


class Switchover(Fault):
    """See the module."""

    name = "switchover"
    title = "planned switchover to the other room"
    expected = "PgBouncer holds writers back while the primary moves; everybody waits, nobody fails."
    spares = "everything: it is the same command that operators use"
    lasts = False
    least = 3.0

    def plan(self, stage: Stage, view: View) -> Plan:
        """Choose the other room."""
        leader = primary(view)
        return {"from": leader.host, "room": other_room(stage, leader.room)}

    def start(self, stage: Stage, plan: Plan) -> None:
        """Switch over."""
        done = switchover.run(stage.inventory, plan["room"], dry=False, progress=Progress())
        if not done.held:
            raise UserError(f"The switchover was not done: {done.sentence}")

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Let clients through, should the process that held them back have died."""
        inventory = stage.inventory
        console = switchover.PGBOUNCER_CONSOLE.format(
            port=inventory.ports["pgbouncer"], command=f"RESUME {inventory.cluster}"
        )
        hosts = [h.name for h in inventory.group("applications")]
        answers = stage.fleet.run_all(f"runuser -u $(systemctl show -P User pgbouncer) -- {console}", hosts=hosts)
        stuck = [name for name, a in answers.items() if not a.ok and "not paused" not in a.stderr]
        if stuck:
            raise UserError(f"PgBouncer on {', '.join(stuck)} still holds clients back: run `RESUME` there now.")

    def describe(self, plan: Plan) -> str:
        """See `Fault.describe`."""
        return f"{self.title}: from {plan['from']} to room {plan['room']}"
