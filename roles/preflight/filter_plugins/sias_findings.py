"""Filter `sias_findings`: what makes a description unsafe. The rules are siasops.topology, where they are tested."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from siasops import inventory, topology


def sias_findings(inventory_file: str, secrets: Mapping[str, str] | None, wanted: list[str]) -> list[str]:
    """Sentences; empty when the description may be deployed."""
    facts = inventory.load(Path(inventory_file))
    return topology.findings(facts, secrets=secrets, wanted_secrets=tuple(wanted))


class FilterModule:
    """Register the filter."""

    def filters(self) -> dict[str, Any]:
        """Names for Jinja."""
        return {"sias_findings": sias_findings}
