"""Filter `sias_flows`: what a host accepts. The rule itself is siasops.flows, where it is tested."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from siasops import flows, inventory
from siasops.cluster import instance


def sias_flows(host: str, inventory_file: str, postgresql: dict[str, Any]) -> list[dict[str, Any]]:
    """Rules of a host as plain dictionaries: name, protocol, port, sources."""
    facts = inventory.load(Path(inventory_file))
    instance.know(facts, instance.parse(facts, postgresql))
    return [rule.__dict__ | {"sources": list(rule.sources)} for rule in flows.accepted(facts, facts.host(host))]


class FilterModule:
    """Register the filter."""

    def filters(self) -> dict[str, Any]:
        """Names for Jinja."""
        return {"sias_flows": sias_flows}
