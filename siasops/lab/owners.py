"""Which checkout built the labs that are on this machine: one per environment, and only its builder acts on it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory

HOME = Path("/var/lib/sias-lab")
"""What this machine knows of its labs, whichever checkout made them."""
OWNERS = HOME / "owners"
"""One record per environment, `<environment>.json`."""


@dataclass(frozen=True)
class Owner:
    """Which checkout built a lab of this machine, for which environment, on which Debian."""

    checkout: str
    environment: str
    debian: str

    def write(self) -> None:
        """Record that this checkout builds the lab, before its first machine exists."""
        OWNERS.mkdir(parents=True, exist_ok=True)
        (OWNERS / f"{self.environment}.json").write_text(json.dumps(asdict(self)), encoding="utf-8")


def owner(environment: str) -> Owner | None:
    """Who built the lab of this environment; None when nobody did or the record is unreadable."""
    try:
        return Owner(**json.loads((OWNERS / f"{environment}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def environment_of(container: str) -> str | None:
    """The environment that a container belongs to, of those on record; None when no record says."""
    names = sorted((path.stem for path in OWNERS.glob("*.json")), key=len, reverse=True)  # lab-full before lab
    return next((name for name in names if container.startswith(f"sias-{name}-")), None)


def forget(environment: str) -> None:
    """Remove the record of a lab whose machines are gone."""
    (OWNERS / f"{environment}.json").unlink(missing_ok=True)


def require_own(inventory: Inventory) -> None:
    """Refuse to act on the power of machines that another checkout, or another environment, built.

    Raises:
        UserError: naming who built them and what to do.
    """
    present = owner(inventory.environment)
    if present is None or present.checkout != str(ROOT):
        built = (
            f"{present.checkout} built the {present.environment} that is"
            if present
            else f"Nobody is known to have built a {inventory.environment} that is"
        )
        raise UserError(
            f"{built} on this machine; this checkout ({ROOT}) leaves its power alone. "
            "Work there, or `make lab` here: that clears it and builds this one."
        )
