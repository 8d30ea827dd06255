"""Which drills exist. A drill is a fault under load; a test sees to it that every fault of the folder stands here."""

from __future__ import annotations

from siasops.drill.faults import Fault
from siasops.drill.faults.primary_crash import PrimaryCrash
from siasops.drill.faults.room_loss import RoomLoss
from siasops.errors import USAGE, UserError

DRILLS: dict[str, type[Fault]] = {fault.name: fault for fault in (PrimaryCrash, RoomLoss)}


def find(name: str) -> Fault:
    """Return the fault of that name.

    Raises:
        UserError: there is none; names those that exist.
    """
    if name not in DRILLS:
        raise UserError(f"There is no drill “{name}”. There are: {', '.join(DRILLS)}.", USAGE)
    return DRILLS[name]()
