"""A room loses its power: every host of the primary's room at once, links first, then the machines."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Fault, Plan, Stage
from siasops.errors import UserError
from siasops.lab.provider import provider


class RoomLoss(Fault):
    """See the module."""

    name = "room-loss"
    title = "every host of the primary's room powered off at once, 60 s later powered on"
    expected = (
        "The other room's synchronous standby becomes primary and its application hosts serve both rooms' addresses; "
        "when the power is back the room's hosts rejoin by themselves, rewind, heal documents and take the address back."
    )
    hold = 60.0
    takes_machines = True
    needs_lab = True

    def plan(self, stage: Stage, view: View) -> Plan:
        """Take the room that hurts most: the primary's."""
        if view.leader is None:
            raise UserError("Nobody leads: there is no room of the primary to lose. See `sias cluster check`.")
        room = view.leader.room
        return {"room": room, "hosts": [h.name for h in stage.inventory.hosts.values() if h.room == room]}

    def start(self, stage: Stage, plan: Plan) -> None:
        """Links first: a killed machine must not say goodbye."""
        provider(stage.inventory).power_cut([stage.inventory.hosts[name] for name in plan["hosts"]])
        stage.fleet.forget(plan["hosts"])

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Power on; everything else must come back without hands."""
        provider(stage.inventory).power_on([stage.inventory.hosts[name] for name in plan["hosts"]])

    def describe(self, plan: Plan) -> str:
        """See `Fault.describe`."""
        return f"power off in room {plan['room']}: {', '.join(plan['hosts'])}"
