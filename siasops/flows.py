"""Who may talk to whom: turns the table `flows` of the inventory into what one host accepts. Pure; see roles/firewall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from siasops.cluster import instance
from siasops.errors import UserError
from siasops.inventory import Host, Inventory


@dataclass(frozen=True)
class Rule:
    """One thing a host accepts: from these addresses or networks, on this port (None for a protocol without ports)."""

    name: str
    protocol: str
    port: str | None
    sources: tuple[str, ...]


def holds(inventory: Inventory, flow: Mapping[str, Any]) -> bool:
    """Whether a row is in force here now."""
    when = flow.get("when")
    if when == "drills":
        return inventory.drills_allowed
    return when is None or when in {one.slot for one in instance.of(inventory).slots}


def accepted(inventory: Inventory, host: Host) -> list[Rule]:
    """What a host accepts, from whom; everything else is refused. Clusters of PostgreSQL: those of `instance.of`.

    Raises:
        UserError: when a row names a group that does not exist.
    """
    rules = []
    for flow in inventory.facts["flows"]:
        if not holds(inventory, flow):
            continue
        if not any(_is_in(inventory, host, group, flow["name"]) for group in flow["to"]):
            continue
        sources = sorted(
            {s for group in flow["from"] for s in _sources(inventory, group, flow["name"])} - {host.address}
        )
        if sources:
            port = str(flow["port"]) if "port" in flow else None
            rules.append(Rule(flow["name"], flow["protocol"], port, tuple(sources)))
    return rules


def _is_in(inventory: Inventory, host: Host, group: str, flow: str) -> bool:
    _known(inventory, group, flow)
    return group == "all" or group in host.groups


def _sources(inventory: Inventory, group: str, flow: str) -> list[str]:
    if group == "controllers":
        return [str(a) for a in inventory.facts["sias_controller_addresses"]]
    if group == "users":
        return [str(inventory.facts["sias_network"])]
    _known(inventory, group, flow)
    return [h.address for h in inventory.hosts.values() if group == "all" or group in h.groups]


def _known(inventory: Inventory, group: str, flow: str) -> None:
    known = {"all"}.union(*(h.groups for h in inventory.hosts.values()))
    if group not in known:
        raise UserError(f"Flow “{flow}” names the group {group}, which {inventory.path.name} does not have.")
