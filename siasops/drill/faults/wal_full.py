"""The primary's pg_wal has no place left: PostgreSQL cannot write another byte.

A container shares its disk with the machine that carries it, so pg_wal is moved to a small file system in memory first:
on the standby, at rest, and the primary is then switched over to it.
"""

from __future__ import annotations

from siasops import remote
from siasops.cluster import switchover
from siasops.cluster.check import check, healthy
from siasops.cluster.view import View, look
from siasops.console import Progress
from siasops.drill.faults import Fault, Plan, Stage, standby
from siasops.drill.means.signals import place
from siasops.errors import UserError

SMALL = "/run/sias-drill/wal"
SPARE_MB = 96
"""MiB that the small file system has beyond what pg_wal holds when it is made."""
WAL = "wal=$(ls -d {data}/pg_wal); small=" + SMALL + "; "
MOVE = (
    WAL + "set -e; systemctl stop {unit}; install -d $small;"
    " mount -t tmpfs -o size=$(($(du -sm $wal | cut -f1) + {spare}))m,mode=0700 none $small; chown postgres: $small;"
    " cp -a $wal/. $small/; mount --bind $small $wal; systemctl start {unit}"
)
FILL = (
    WAL + "dd if=/dev/zero of=$wal/sias-drill bs=64k status=none;"
    # Segments that are there already are used up first.
    " for n in $(seq 60); do runuser -u postgres -- psql -Xqd postgres -c 'SELECT pg_switch_wal()' || break;"
    " sleep 0.1; done >/dev/null 2>&1; true"
)
# Done in this order it may be done again, wherever it was interrupted.
PUT_BACK = (
    WAL + "rm -f $wal/sias-drill; if mountpoint -q $small; then set -e; systemctl stop {unit};"
    " ! mountpoint -q $wal || umount $wal; find $wal -mindepth 1 -delete; cp -a $small/. $wal/; umount $small; fi;"
    " systemctl start {unit}"
)


class WalFull(Fault):
    """See the module."""

    name = "wal-full"
    title = "no place left in the primary's pg_wal"
    expected = (
        "PostgreSQL stops rather than acknowledge what it cannot write; the standby is promoted. When there is room "
        "again the former primary follows."
    )
    spares = "the disk of the machine, and the standby"

    def unable(self, stage: Stage) -> str:
        """Say so where no file system can be mounted."""
        host = stage.inventory.group("databases")[0].name
        probe = "mkdir -p /run/sias-drill/try && mount -t tmpfs none /run/sias-drill/try && umount /run/sias-drill/try"
        answer = stage.fleet.run(host, probe)
        return super().unable(stage) or ("" if answer.ok else f"nothing can be mounted: {answer.stderr.strip()}")

    def plan(self, stage: Stage, view: View) -> Plan:
        """Take the synchronous standby, which becomes the primary."""
        return {"host": standby(view).host}

    def prepare(self, stage: Stage, plan: Plan) -> None:
        """Move its pg_wal to the small file system, and the primary to it."""
        move = place(MOVE, stage).replace("{spare}", f"{SPARE_MB}")
        stage.fleet.run(plan["host"], move, timeout=120.0, check=True)
        _healthy(stage)
        room = stage.inventory.hosts[plan["host"]].room
        done = switchover.run(stage.inventory, room, dry=False, progress=Progress())
        if not done.held:
            raise UserError(f"The switchover was not done: {done.sentence}")
        _healthy(stage)

    def start(self, stage: Stage, plan: Plan) -> None:
        """Fill it."""
        stage.fleet.run(plan["host"], place(FILL, stage), timeout=40.0, check=True)

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Make room, and move pg_wal back to its disk."""
        back = place(PUT_BACK, stage)
        stage.fleet.run(plan["host"], back, timeout=180.0, check=True)

    def describe(self, plan: Plan) -> str:
        """See `Fault.describe`."""
        return f"pg_wal of {plan['host']}, made primary and given a small file system for it, filled up"


def _healthy(stage: Stage) -> None:
    remote.wait_until(
        lambda: healthy(check(look(stage.inventory, stage.fleet))), "the cluster is healthy", deadline=120.0, every=1.0
    )
