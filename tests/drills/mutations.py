"""A platform that was made unsafe on purpose, and then loses its primary: what the checkers exist to notice.

Each spoils one thing that keeps writes safe, keeps WAL from the standbys for a few seconds, and kills the primary's
PostgreSQL. Healing mends both. No file of the platform is touched.
"""

from __future__ import annotations

import json
import time

from siasops import remote
from siasops.cluster.view import View, look
from siasops.drill.faults import Fault, Plan, Stage, primary, standby
from siasops.drill.means.network import UNDO, table
from siasops.drill.means.signals import POSTMASTER, place

UNREPLICATED = 1.5
"""Seconds of writes that nothing of reaches the standby; shorter than the time after which it is given up."""
PSQL = ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "sias", "-c"]


class Mutation(Fault):
    """Spoil, keep WAL back, kill."""

    title = "the platform made unsafe, then the primary killed"
    expected = "Something is lost, or shown and taken back, and the checkers say so."
    spares = "the application hosts and the witness"
    least = 6.0

    def plan(self, stage: Stage, view: View) -> Plan:
        host = primary(view).host
        found = stage.fleet.run(host, place(POSTMASTER, stage), check=True)
        return {
            "host": host,
            "pid": int(found.stdout),
            "standby": standby(view).host,
            "address": stage.inventory.hosts[host].address,
        }

    def start(self, stage: Stage, plan: Plan) -> None:
        self.spoil(stage, plan)
        # Only WAL: the link of the two machines stays, so that Patroni and etcd notice nothing.
        keep = f"tcp sport {stage.inventory.ports['postgres']} drop"
        stage.fleet.run(plan["standby"], ["nft", table(keep, [plan["address"]], "in")], check=True)
        self.meanwhile(stage, plan)
        stage.fleet.run(plan["host"], ["kill", "-9", str(plan["pid"])], check=True)

    def heal(self, stage: Stage, plan: Plan) -> None:
        stage.fleet.run(plan["standby"], UNDO, check=True)
        remote.wait_until(lambda: look(stage.inventory, stage.fleet).leader is not None, "somebody leads", deadline=90)
        self.mend(stage, plan)
        stage.fleet.run(plan["host"], ["systemctl", "start", "patroni"], timeout=60.0, check=True)

    def describe(self, plan: Plan) -> str:
        return f"{self.name}: {plan['host']}"

    def spoil(self, stage: Stage, plan: Plan) -> None:
        """Take the safety away; clients are told that all is well."""

    def meanwhile(self, stage: Stage, plan: Plan) -> None:
        """Let clients go on for a moment."""
        time.sleep(UNREPLICATED)

    def mend(self, stage: Stage, plan: Plan) -> None:
        """Give it back."""


class Asynchronous(Mutation):
    """Patroni's synchronous mode off."""

    name = "asynchronous"

    def spoil(self, stage: Stage, plan: Plan) -> None:
        self._synchronous(stage, plan["standby"], wanted=False)

        def asynchronous() -> bool:
            leader = look(stage.inventory, stage.fleet).leader
            return leader is not None and not any(s.sync_state == "sync" for s in leader.standbys)

        remote.wait_until(asynchronous, "no standby is synchronous", deadline=30)

    def mend(self, stage: Stage, plan: Plan) -> None:
        self._synchronous(stage, plan["standby"], wanted=True)

    @staticmethod
    def _synchronous(stage: Stage, host: str, *, wanted: bool) -> None:
        setting = f"synchronous_mode={json.dumps(wanted)}"
        command = ["patronictl", "edit-config", stage.inventory.cluster, "--force", "--quiet", "--set", setting]
        stage.fleet.run(host, command, timeout=30, check=True)


class LocalCommit(Mutation):
    """Somebody sets synchronous_commit lower for a role."""

    name = "local-commit"

    def spoil(self, stage: Stage, plan: Plan) -> None:
        _sql(stage, plan["host"], "ALTER ROLE sias_drill SET synchronous_commit = 'local'")
        # Sessions that are open keep what they had.
        _sql(stage, plan["host"], "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sias_drill'")
        time.sleep(1.0)  # writers come back

    def mend(self, stage: Stage, plan: Plan) -> None:
        leader = primary(look(stage.inventory, stage.fleet)).host
        _sql(stage, leader, "ALTER ROLE sias_drill RESET synchronous_commit")
        _sql(stage, leader, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sias_drill'")


class CancelledWait(Mutation):
    """Somebody cancels commits that wait for the standby: they succeed here, with a warning, and everybody sees them."""

    name = "cancelled-wait"

    def meanwhile(self, stage: Stage, plan: Plan) -> None:
        end = time.monotonic() + UNREPLICATED
        while time.monotonic() < end:
            _sql(
                stage,
                plan["host"],
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
            )


class SplitBrain(Mutation):
    """The standby is promoted by hand behind its Patroni's back, while the primary lives and goes on."""

    name = "split-brain"
    least = 12.0

    def start(self, stage: Stage, plan: Plan) -> None:
        # The standby's Patroni holds still: it would put an end to this within a second.
        stage.fleet.run(plan["standby"], "kill -STOP $(systemctl show -P MainPID patroni)", check=True)
        _sql(stage, plan["standby"], "SELECT pg_promote(true, 10)")

    def heal(self, stage: Stage, plan: Plan) -> None:
        stage.fleet.run(plan["standby"], "kill -CONT $(systemctl show -P MainPID patroni)", check=True)
        # Its history has left the cluster's for good: what an operator does with such a copy is to make it anew.
        command = ["patronictl", "reinit", stage.inventory.cluster, plan["standby"], "--force", "--wait"]
        stage.fleet.run(plan["host"], command, timeout=150.0, check=True)


def _sql(stage: Stage, host: str, statement: str) -> None:
    stage.fleet.run(host, [*PSQL, statement], timeout=20.0, check=True)
