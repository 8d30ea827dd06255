"""A folder of PostgreSQL's that has no place left.

A container shares its disk with the machine that carries it, so the folder is moved to a small file system in memory first:
on the standby, at rest, and the primary is then switched over to it.
"""

from __future__ import annotations

import json
from typing import ClassVar

from siasops import remote
from siasops.cluster import instance, switchover
from siasops.cluster.check import check, healthy
from siasops.cluster.view import View, look
from siasops.console import Progress
from siasops.drill.faults import Fault, Plan, Stage, standby
from siasops.drill.means.signals import place
from siasops.errors import UserError

SMALL = "/run/sias-drill/small"
WHERE = "folder=$(ls -d {folder}); small=" + SMALL + "; "
MOVE = (
    WHERE + "set -e; systemctl stop {unit}; install -d $small;"
    " mount -t tmpfs -o size=$(($(du -sm $folder | cut -f1) + {spare}))m,mode=0700 none $small; chown postgres: $small;"
    " cp -a $folder/. $small/; mount --bind $small $folder; systemctl start {unit}"
)
FILL = (
    # The file system shrinks to what it holds, which takes no memory as filling it would.
    WHERE + "mount -o remount,size=$(du -sk $small | cut -f1)k $small;"
    # Segments that are there already are used up first.
    " for n in $(seq 60); do runuser -u postgres -- psql -Xqd postgres -c 'SELECT pg_switch_wal()' || break;"
    " sleep 0.1; done >/dev/null 2>&1; true"
)
# Done in this order it may be done again, wherever it was interrupted.
PUT_BACK = (
    WHERE + "if mountpoint -q $small; then set -e; systemctl stop {unit};"
    " ! mountpoint -q $folder || umount $folder; find $folder -mindepth 1 -delete; cp -a $small/. $folder/; umount $small;"
    " fi; systemctl start {unit}"
)


class SmallDisk(Fault):
    """The folder fills up on the primary, which a switchover made of the host that was given the small file system."""

    folder: ClassVar[str]
    """The folder, as the shell finds it; `{data}` is the data folder of the cluster that serves."""
    spare_mb: ClassVar[int]
    """MiB that the small file system has beyond what it holds when it is made."""

    def unable(self, stage: Stage) -> str:
        """Say so where no file system can be mounted, or the folder would take more than half of a host's memory."""
        databases = stage.inventory.group("databases")
        probe = "mkdir -p /run/sias-drill/try && mount -t tmpfs none /run/sias-drill/try && umount /run/sias-drill/try"
        answer = stage.fleet.run(databases[0].name, probe)
        if not answer.ok:
            return f"nothing can be mounted: {answer.stderr.strip()}"
        for host in databases:
            answer = stage.fleet.run(
                host.name, self._line("du -sm {folder} | cut -f1", stage), timeout=60.0, check=True
            )
            need = int(answer.stdout.split()[0]) + self.spare_mb
            if 2 * need > host.memory_mb:
                return f"{host.name} has {host.memory_mb} MiB of memory, and half of it does not hold {need}: load fewer persons"
        return super().unable(stage)

    def plan(self, stage: Stage, view: View) -> Plan:
        """Take the synchronous standby, which becomes the primary."""
        return {"host": standby(view).host}

    def prepare(self, stage: Stage, plan: Plan) -> None:
        """Move its folder to the small file system, and the primary to it."""
        stage.fleet.run(plan["host"], self._line(MOVE, stage), timeout=120.0, check=True)
        _healthy(stage)
        # PostgreSQL waits for it before Patroni says so to the quorum, without which nobody switches.
        remote.wait_until(
            lambda: _named(stage, plan["host"]), f"Patroni names {plan['host']} the standby", deadline=60.0
        )
        room = stage.inventory.hosts[plan["host"]].room
        done = switchover.run(stage.inventory, room, dry=False, progress=Progress())
        if not done.held:
            raise UserError(f"The switchover was not done: {done.sentence}")
        _healthy(stage)

    def start(self, stage: Stage, plan: Plan) -> None:
        """Leave no place in it."""
        stage.fleet.run(plan["host"], self._line(FILL, stage), timeout=40.0, check=True)

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Move the folder back to its disk."""
        stage.fleet.run(plan["host"], self._line(PUT_BACK, stage), timeout=180.0, check=True)

    def describe(self, plan: Plan) -> str:
        """See `Fault.describe`."""
        return f"{self.title}: {plan['host']}, made primary on a small file system that filled up"

    def _line(self, line: str, stage: Stage) -> str:
        return place(line.replace("{folder}", self.folder).replace("{spare}", f"{self.spare_mb}"), stage)


def _named(stage: Stage, host: str) -> bool:
    config = instance.learn(stage.inventory, stage.fleet).serving.config
    answer = stage.fleet.run(host, ["patronictl", "-c", config, "list", "-f", "json"], timeout=30.0)
    return answer.ok and any(
        row["Member"] == host and row["Role"] == "Sync Standby" for row in json.loads(answer.stdout)
    )


def _healthy(stage: Stage) -> None:
    remote.wait_until(
        lambda: healthy(check(look(stage.inventory, stage.fleet))), "the cluster is healthy", deadline=120.0, every=1.0
    )
