"""The network between hosts, by an nftables table of the drill's own on the victims: no file of the platform is edited.

Controllers are never cut off: the drill heals over ssh, and measures.
"""

from __future__ import annotations

import abc
from pathlib import Path
from typing import ClassVar

from siasops.cluster.view import View
from siasops.drill.faults import Fault, Plan, Stage
from siasops.drill.means.units import start_unit, stop_units
from siasops.errors import UserError

TABLE = "inet sias_drill"
UNDO = f"nft delete table {TABLE} 2>/dev/null; true"
QUEUE = 57
"""Number of the netfilter queue that delays packets."""
HOLDER = Path(__file__).with_name("hold_packets.py")


def table(action: str, peers: list[str], ways: str = "both") -> str:
    """Write the table: `action` on packets from (in), to (out), or from and to (both) these addresses."""
    addresses = ", ".join(peers)
    chains = {"in": ("input", "saddr"), "out": ("output", "daddr")}
    parts = [
        f"chain {name} {{ type filter hook {hook} priority -300; policy accept; ip {field} {{ {addresses} }} {action}; }};"
        for name, (hook, field) in chains.items()
        if ways in {name, "both"}
    ]
    return f"table {TABLE} {{ {' '.join(parts)} }};"


class NetworkFault(Fault):
    """Something is done to the packets between each victim and its peers."""

    action: ClassVar[str] = "drop"
    """What nftables does to a packet."""
    ways: ClassVar[str] = "both"
    """in, out or both, as the victim sees it."""
    spares = "the controllers, from which it is healed and measured, and the tables of the role firewall"

    @abc.abstractmethod
    def peers(self, stage: Stage, view: View) -> dict[str, list[str]]:
        """Name, for each victim, the hosts that it is troubled with."""

    def plan(self, stage: Stage, view: View) -> Plan:
        """Choose victims and peers."""
        return {"peers": self.peers(stage, view)}

    def rules(self, stage: Stage, plan: Plan) -> dict[str, str]:
        """Write each victim's table."""
        hosts = stage.inventory.hosts
        return {
            victim: table(self.action, [hosts[name].address for name in names], self.ways)
            for victim, names in plan["peers"].items()
        }

    def start(self, stage: Stage, plan: Plan) -> None:
        """Load the tables everywhere at once."""
        _each(stage, {host: ["nft", text] for host, text in self.rules(stage, plan).items()})

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Remove the tables."""
        _each(stage, dict.fromkeys(plan["peers"], UNDO))

    def describe(self, plan: Plan) -> str:
        """See `Fault.describe`."""
        peers = sorted({name for names in plan["peers"].values() for name in names})
        return f"{self.title}: {', '.join(plan['peers'])} from {', '.join(peers)}"


class FlappingFault(NetworkFault):
    """The same, put in force and lifted again by turns, by a transient unit on each victim."""

    seconds: ClassVar[float] = 2.0
    """How long each state lasts."""

    def start(self, stage: Stage, plan: Plan) -> None:
        """Start the unit everywhere."""
        for host, text in self.rules(stage, plan).items():
            loop = f"while :; do nft '{text}'; sleep {self.seconds}; {UNDO}; sleep {self.seconds}; done"
            start_unit(stage, host, "network", loop)

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Stop the units, then remove what they left."""
        stop_units(stage, plan["peers"], "network")
        super().heal(stage, plan)


class DelayFault(NetworkFault):
    """Packets are held for a while by a process on each victim, in netfilter's queue: netem is not needed."""

    action = f"queue num {QUEUE} bypass"
    ways = "out"
    milliseconds: ClassVar[float]
    jitter: ClassVar[float]

    def unable(self, stage: Stage) -> str:
        """Say so when the kernel has no packet queue."""
        host = next(iter(stage.inventory.hosts))
        probe = f"nft '{table(self.action, ['192.0.2.1'], self.ways)}'; loaded=$?; {UNDO}; exit $loaded"
        answer = stage.fleet.run(host, probe)
        lacking = (
            "" if answer.ok else f"nftables has no packet queue in this kernel ({answer.stderr.partition(chr(10))[0]})"
        )
        return super().unable(stage) or lacking

    def start(self, stage: Stage, plan: Plan) -> None:
        """Start what holds packets, then send packets there."""
        for host in plan["peers"]:
            stage.fleet.run(
                host,
                "install -d -m 0700 /run/sias-drill && cat > /run/sias-drill/hold_packets.py",
                stdin=HOLDER.read_text(encoding="utf-8"),
                check=True,
            )
            command = f"exec python3 /run/sias-drill/hold_packets.py {QUEUE} {self.milliseconds} {self.jitter}"
            start_unit(stage, host, "network", command)
        super().start(stage, plan)

    def heal(self, stage: Stage, plan: Plan) -> None:
        """Remove the tables first: a queue that nobody reads must not be in the way."""
        super().heal(stage, plan)
        stop_units(stage, plan["peers"], "network")


def _each(stage: Stage, commands: dict[str, str | list[str]]) -> None:
    for answer in stage.fleet.run_each(commands).values():
        if not answer.ok:
            raise UserError(f"{answer.host}: nftables refused: {answer.stderr.strip() or 'no answer'}")
