"""Every etcd member is slow: stopped for 200 ms, running for 200 ms, again and again, as on a starved disk."""

from __future__ import annotations

from siasops.cluster.view import View
from siasops.drill.faults import Fault, Plan, Stage
from siasops.drill.means.units import start_unit, stop_units
from siasops.errors import UserError

TURNS = "while :; do kill -STOP {pid}; sleep 0.2; kill -CONT {pid}; sleep 0.2; done"


class EtcdSlow(Fault):
    """See the module."""

    name = "etcd-slow"
    title = "every etcd member stopped half of the time, 200 ms at once"
    expected = "Leases are renewed late but in time; nobody is promoted, writers do not notice."
    spares = "Patroni and PostgreSQL"
    least = 12.0
    most = 25.0

    def plan(self, stage: Stage, view: View) -> Plan:
        """Find every member's process."""
        hosts = [voter.host for voter in view.voters]
        found = stage.fleet.run_all("systemctl show -P MainPID etcd | grep -vx 0", hosts=hosts)
        if not all(answer.ok for answer in found.values()):
            raise UserError("An etcd member does not run. See `sias cluster check`.")
        return {"pids": {host: int(answer.stdout.split()[0]) for host, answer in found.items()}}

    def start(self, stage: Stage, plan: Plan) -> None:
        """Begin the turns."""
        for host, pid in plan["pids"].items():
            start_unit(stage, host, "etcd", TURNS.format(pid=pid))

    def heal(self, stage: Stage, plan: Plan) -> None:
        """End the turns, and let each go on."""
        stop_units(stage, plan["pids"], "etcd")
        commands: dict[str, str | list[str]] = {
            host: f"kill -CONT {pid}; systemctl start etcd" for host, pid in plan["pids"].items()
        }
        for answer in stage.fleet.run_each(commands, timeout=60.0).values():
            if not answer.ok:
                raise UserError(f"{answer.host}: etcd does not run: {answer.stderr.strip()}")

    def describe(self, plan: Plan) -> str:
        """See `Fault.describe`."""
        return f"{self.title}: {', '.join(plan['pids'])}"
