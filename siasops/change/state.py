"""Where a change stands, on disk after every phase: a killed run is resumed from it, or taken back."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from siasops.errors import UserError
from siasops.inventory import Inventory

Status = Literal["open", "done", "rolled back", "abandoned"]


@dataclass
class State:
    """One change. Everything in it is plain data."""

    id: str
    kind: str
    environment: str
    story: str
    facts: dict[str, Any]
    started: str
    status: Status = "open"
    direction: Literal["forward", "back"] = "forward"
    done: list[str] = field(default_factory=list)
    """Keys of the phases that came to their end in this direction, in order."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each took."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What phases keep for later ones."""
    why: str = ""
    """Why it stopped, or went back."""
    attempts: int = 0
    """How many processes have worked on it."""
    folder: Path = field(default=Path(), repr=False)

    def write(self) -> None:
        """Put it on the disk, whole or not at all."""
        data = {key: value for key, value in asdict(self).items() if key != "folder"}
        draft = self.folder / "state.json.new"
        with draft.open("w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / "state.json")

    @property
    def settled(self) -> str:
        """When its way back was ended; empty while there is one."""
        return str(self.notes.get("settled", ""))

    def settle(self) -> None:
        """End its way back, durably: before anything that needs the end, whether or not that comes to its own."""
        self.notes["settled"] = datetime.now(UTC).isoformat(timespec="seconds")
        self.write()


def to_settle(inventory: Inventory, kind: str) -> State:
    """Return the change of a kind whose way back may be ended: the last one that came to its end.

    Raises:
        UserError: there is none, or a change stands half-way.
    """
    last, open_one = latest(inventory, kind), unfinished(inventory)
    if open_one is not None:
        raise UserError(f"{open_one.id} ({open_one.story}) stands half-way: go on with it or take it back first.")
    if last is None:
        raise UserError(f"No {kind} has come to its end in {inventory.environment}; nothing to settle.")
    return last


def home(inventory: Inventory) -> Path:
    """Return where an environment's changes are kept; made when absent."""
    path = inventory.var / "changes" / inventory.environment
    path.mkdir(parents=True, exist_ok=True)
    return path


def every(inventory: Inventory) -> list[State]:
    """Return every change of an environment, the latest first.

    Raises:
        UserError: a state cannot be read; names the file.
    """
    found = []
    for path in sorted(home(inventory).glob("*/state.json"), reverse=True):
        try:
            found.append(State(**json.loads(path.read_text(encoding="utf-8")), folder=path.parent))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} cannot be read ({error}): mend it by hand before any other change.") from error
    return found


def unfinished(inventory: Inventory) -> State | None:
    """Return the change that was begun here and came to no end, None when there is none."""
    return next((state for state in every(inventory) if state.status == "open"), None)


def abandon(inventory: Inventory, why: str) -> State | None:
    """End the change that stands half-way because nothing is left to go on with, or back to: its machines are gone.

    Returns:
        It; None when there is none.
    """
    state = unfinished(inventory)
    if state is not None:
        state.status, state.why = "abandoned", why
        state.write()
    return state


def latest(inventory: Inventory, kind: str, status: Status = "done") -> State | None:
    """Return the last change of a kind that ended so, None when there is none."""
    return next((s for s in every(inventory) if s.kind == kind and s.status == status), None)
