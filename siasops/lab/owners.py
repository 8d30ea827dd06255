"""Which checkout built the lab that is on this machine: there is one lab per machine, and only its builder acts on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory

HOME = Path("/var/lib/sias-lab")
"""What this machine knows of its lab, whichever checkout made it."""
OWNER = HOME / "owner.json"


@dataclass(frozen=True)
class Owner:
    """Which checkout built the lab of this machine, for which environment, on which Debian."""

    checkout: str
    environment: str
    debian: str


def owner() -> Owner | None:
    """Who built the lab that is on this machine; None when nobody did or the record is unreadable."""
    try:
        return Owner(**json.loads(OWNER.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def require_own(inventory: Inventory) -> None:
    """Refuse to act on the power of machines that another checkout, or another environment, built.

    Raises:
        UserError: naming who built them and what to do.
    """
    present = owner()
    if present is None or (present.checkout, present.environment) != (str(ROOT), inventory.environment):
        built = (
            f"{present.checkout} built the {present.environment} that is"
            if present
            else "Nobody is known to have built what is"
        )
        raise UserError(
            f"{built} on this machine; this checkout ({ROOT}) leaves its power alone. "
            "Work there, or `make lab` here: that clears it and builds this one."
        )
