"""The fault that is in force, on disk before it starts, so that a fresh process can heal it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siasops.errors import UserError
from siasops.inventory import Inventory


@dataclass(frozen=True)
class Active:
    """A fault that was started, or was about to be."""

    environment: str
    name: str
    plan: dict[str, Any]
    run: str


def folder(inventory: Inventory) -> Path:
    """Return where drills keep their state and reports; made when absent."""
    path = inventory.var / "drills"
    path.mkdir(parents=True, exist_ok=True)
    return path


def read(inventory: Inventory) -> Active | None:
    """Return the fault in force, None when there is none."""
    path = folder(inventory) / "active.json"
    if not path.exists():
        return None
    return Active(**json.loads(path.read_text(encoding="utf-8")))


def record(inventory: Inventory, active: Active) -> None:
    """Make a fault known, durably: it may start only after this returns."""
    path = folder(inventory) / "active.json"
    draft = path.with_suffix(".new")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(vars(active), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear(inventory: Inventory) -> None:
    """Forget the fault: it is healed."""
    (folder(inventory) / "active.json").unlink(missing_ok=True)


@contextmanager
def only_one(inventory: Inventory) -> Iterator[None]:
    """Hold the lock of drills for the block; the kernel releases it when the process dies.

    Raises:
        UserError: another drill runs.
    """
    with (folder(inventory) / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"Another drill runs here (process {file.read().strip() or 'unknown'}); wait for it, or stop it there."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
