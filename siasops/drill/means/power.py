"""Power of machines: links first, because a machine that dies must not say goodbye."""

from __future__ import annotations

import abc

from siasops.cluster.view import View
from siasops.drill.faults import Fault, Plan, Stage
from siasops.lab.provider import provider


def cut(stage: Stage, names: list[str]) -> None:
    """Take the power of hosts, all at once."""
    provider(stage.inventory).power_cut([stage.inventory.hosts[name] for name in names])
    stage.fleet.forget(names)


def give(stage: Stage, names: list[str]) -> None:
    """Give power back; hosts that have it are left alone."""
    provider(stage.inventory).power_on([stage.inventory.hosts[name] for name in names])


class PowerFault(Fault):
    """Hosts lose their power and get it back; everything else must come back without hands."""

    needs_lab = True

    @abc.abstractmethod
    def victims(self, stage: Stage, view: View) -> list[str]:
        """Name the hosts."""

    def plan(self, stage: Stage, view: View) -> Plan:
        """Choose the hosts."""
        return {"hosts": self.victims(stage, view)}

    def start(self, stage: Stage, plan: Plan) -> None:
        """Power off."""
        cut(stage, plan["hosts"])

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Power on."""
        give(stage, plan["hosts"])

    def describe(self, plan: Plan) -> str:
        """See `Fault.describe`."""
        return f"power off: {', '.join(plan['hosts'])}"
