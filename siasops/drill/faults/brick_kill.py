"""A document brick's process dies on one application host; the host and the mount live on."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Plan, Stage, primary
from siasops.drill.means.signals import BRICK, SignalFault


class BrickKill(SignalFault):
    """See the module."""

    name = "brick-kill"
    title = "kill -9 of a document brick"
    expected = (
        "Documents are stored and read through the other brick and the arbiter without a stall; once the brick serves "
        "again it is healed. Nothing but an operator starts a killed brick: the drill does what a runbook says."
    )
    spares = "the other bricks and the mounts"
    takes_copies = True
    find = BRICK
    unit = "glusterd"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the brick of the primary's room."""
        return [stage.inventory.group("bricks", room=primary(view).room)[0].name]

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Start it, as an operator would."""
        super().heal(stage, plan)
        for host in plan["pids"]:
            stage.fleet.run(
                host, ["gluster", "volume", "start", stage.inventory.cluster, "force"], timeout=30.0, check=True
            )
