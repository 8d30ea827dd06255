"""Whether it is a change's time: what the calendar says now, beside what runs and how the cluster stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from siasops.calendar import model, records, rules
from siasops.cluster.check import Line, together
from siasops.drill import active
from siasops.inventory import Inventory


def due(inventory: Inventory, kind: str, cluster: Sequence[Line]) -> Line:
    """Outside a lab a change stands in the calendar, approved, and this is its time.

    Args:
        inventory: the environment.
        kind: of the change, as the calendar has it.
        cluster: what `sias cluster check` found.
    """
    what = "It is its time"
    if inventory.is_lab:
        return Line(True, what, "a lab has no windows and no freezes")
    plan = model.load()
    now = plan.now()
    found = [c for c in plan.of(inventory.environment) if c.kind == kind and c.starts <= now < c.ends]
    if not found:
        said = f"no {kind} of {inventory.environment} is planned for now"
        return Line(
            False, what, said, "Plan it in inventory/calendar.yml, and have it approved: see `sias calendar list`."
        )
    lines = rules.lines(plan, found[0], now, in_force=in_force(inventory), cluster=cluster)
    return together(f"{what} ({found[0].id})", lines, "`sias calendar check` says more.")


def in_force(inventory: Inventory) -> str | None:
    """What runs right now: a drill's fault, or a recorded change; None when nothing does."""
    fault: Any = active.read(inventory)
    if fault is not None:
        return f"the drill {fault.name} of {fault.run} is in force"
    change = records.under_way(inventory)
    return f"{change['kind']} “{change['what']}” is under way" if change else None
