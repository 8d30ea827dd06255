"""Which drills exist: every file of `faults/` holds one. A drill is a fault under load."""

from __future__ import annotations

import importlib
import pkgutil

from siasops.drill import faults
from siasops.drill.faults import Fault
from siasops.errors import USAGE, UserError


def _load() -> dict[str, type[Fault]]:
    found: dict[str, type[Fault]] = {}
    for module in pkgutil.iter_modules(faults.__path__, f"{faults.__name__}."):
        loaded = importlib.import_module(module.name)
        here = [
            x
            for x in vars(loaded).values()
            if isinstance(x, type) and issubclass(x, Fault) and x.__module__ == module.name
        ]
        found |= {fault.name: fault for fault in here}
    return found


DRILLS: dict[str, type[Fault]] = _load()
"""By name."""


def find(name: str) -> Fault:
    """Return the fault of that name.

    Raises:
        UserError: there is none; names those that exist.
    """
    if name not in DRILLS:
        raise UserError(f"There is no drill “{name}”. There are: {', '.join(DRILLS)}.", USAGE)
    return DRILLS[name]()
