"""The primary writes WAL that no commit waits for (a checkpoint), and its host dies at once (Patroni #3703)."""

from __future__ import annotations

from siasops.cluster.switchover import CHECKPOINT
from siasops.cluster.view import View
from siasops.drill.faults import Plan, Stage
from siasops.drill.faults.primary_loss import PrimaryLoss
from siasops.drill.means.power import PowerFault


class CheckpointThenLoss(PowerFault):
    """See the module."""

    name = "checkpoint-then-loss"
    title = "a checkpoint on the primary, and its host powered off before the standby can have confirmed it"
    expected = (
        "The standby lacks a few bytes that no client was promised. It is promoted all the same: the lag that Patroni "
        "allows must never be zero, and the cluster must not stay without a leader."
    )
    spares = "every other host"

    def victims(self, stage: Stage, view: View) -> list[str]:
        """Take the primary's host."""
        return PrimaryLoss().victims(stage, view)

    def start(self, stage: Stage, plan: Plan) -> None:
        """Stop the walsenders for a blink, so that the checkpoint reaches nobody; then cut."""
        host = plan["hosts"][0]
        stage.fleet.run(
            host, "pkill -STOP -f '^postgres: .*walsender '; timeout 5 " + " ".join(CHECKPOINT), timeout=8.0
        )
        super().start(stage, plan)

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Power on; a host that never lost it has walsenders to be let go."""
        super().heal(stage, plan)
        stage.fleet.run(plan["hosts"][0], "pkill -CONT -f '^postgres: .*walsender '", timeout=3.0)
