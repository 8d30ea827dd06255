"""The primary's host freezes: its kernel still accepts connections, nothing behind it answers."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Fault, Plan, Stage, primary
from siasops.lab.provider import provider


class HostFreeze(Fault):
    """See the module."""

    name = "host-freeze"
    title = "every process of the primary's host frozen, then thawed"
    expected = (
        "The lease ends and the standby is promoted, although the frozen host still accepts connections; when it thaws "
        "it finds its lease gone, demotes itself, acknowledges nothing and rewinds."
    )
    spares = "every other host"
    needs_lab = True

    def plan(self, stage: Stage, view: View) -> Plan:
        """Take the primary's host."""
        return {"host": primary(view).host}

    def start(self, stage: Stage, plan: Plan) -> None:
        """Freeze."""
        provider(stage.inventory).freeze(stage.inventory.hosts[plan["host"]])
        stage.fleet.forget([plan["host"]])

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Thaw."""
        provider(stage.inventory).thaw(stage.inventory.hosts[plan["host"]])

    def describe(self, plan: Plan) -> str:
        """See `Fault.describe`."""
        return f"freeze {plan['host']}"
