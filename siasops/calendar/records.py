"""What was done and what users felt: one JSON line per change, appended by the procedures, never rewritten.

    with records.recording(inventory, kind="release", what="version 1.5", change="2026-12-01-version-1-5") as entry:
        ...
        entry.felt = Felt(requests=4100, failed=0, without_service={"a": 0.0, "b": 0.0})

The file stands in `var/calendar/<environment>.jsonl`. What is under way stands beside it, so that a second change, a
drill or `sias calendar check` sees it; the kernel tells whether its process still lives.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from siasops.errors import USAGE, UserError
from siasops.inventory import Inventory

Outcome = Literal["done", "rolled back", "failed", "incident"]
"""How it ended; `incident`: nobody planned it."""


@dataclass(frozen=True)
class Felt:
    """What users felt, as clients outside both rooms measured it. None: nobody measured.

    `without_service` holds, by room letter, the seconds during which that room's users got no answer.
    """

    requests: int | None = None
    failed: int | None = None
    slow: int | None = None
    without_service: dict[str, float] = field(default_factory=dict)
    writes_held: float | None = None
    """Longest time without an acknowledged write, in seconds."""


@dataclass(frozen=True)
class Record:
    """One thing that happened. `change` is the calendar's identifier, None for what stood in no calendar."""

    environment: str
    kind: str
    what: str
    change: str | None
    by: str
    started: datetime
    ended: datetime
    outcome: Outcome
    felt: Felt
    why: str = ""
    report: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "started": self.started.isoformat(), "ended": self.ended.isoformat()}


@dataclass
class Entry:
    """What a procedure fills in while it runs."""

    felt: Felt = field(default_factory=Felt)
    outcome: Outcome = "done"
    why: str = ""
    report: str = ""


def record(inventory: Inventory, made: Record) -> None:
    """Append a record, durably.

    Raises:
        UserError: it is not a record of this environment, or contradicts itself.
    """
    _sound(inventory, made)
    line = json.dumps(made.as_json(), ensure_ascii=False) + "\n"
    with _path(inventory).open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def recording(inventory: Inventory, *, kind: str, what: str, change: str | None = None) -> Iterator[Entry]:
    """Say that a change is under way for the block, and record it whatever happens.

    An exception makes it `failed`, with the exception as its reason, and goes on.

    Raises:
        UserError: another change is under way here.
    """
    entry, started = Entry(), datetime.now(UTC)
    with _only_one(inventory, {"kind": kind, "what": what, "change": change, "started": started.isoformat()}):
        try:
            yield entry
        except BaseException as error:
            entry.outcome, entry.why = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            made = Record(
                inventory.environment, kind, what, change, getpass.getuser(), started, datetime.now(UTC),
                entry.outcome, entry.felt, entry.why, entry.report,
            )  # fmt: skip
            record(inventory, made)


def under_way(inventory: Inventory) -> dict[str, Any] | None:
    """Return the change whose process runs right now, None when there is none."""
    path = _current(inventory)
    if not path.exists():
        return None
    with path.open("r", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read()
            return json.loads(text) if text else {"kind": "change", "what": "about to say what", "change": None}
    return None


def read(inventory: Inventory) -> list[Record]:
    """Return every record, the oldest first.

    Raises:
        UserError: a line is damaged; names it.
    """
    path = _path(inventory)
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            data = json.loads(line)
            moments = {key: datetime.fromisoformat(data[key]) for key in ("started", "ended")}
            found.append(Record(**{**data, **moments, "felt": Felt(**data["felt"])}))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number} is not a record ({error}): mend it by hand, lose no line."
            ) from error
    return found


@dataclass(frozen=True)
class Availability:
    """A room's year so far, in seconds. Overlapping outages count twice: the share is never too good."""

    room: str
    observed: float
    planned: float
    unplanned: float

    @property
    def share(self) -> float:
        """Part of the observed time during which the room's users were served, 0 to 1."""
        return max(0.0, 1 - (self.planned + self.unplanned) / self.observed) if self.observed else 1.0


def availability(
    made: list[Record], rooms: Mapping[str, object], year: int, *, in_service: date, now: datetime
) -> list[Availability]:
    """Return each room's availability over the part of a year that has passed, from the records alone.

    Raises:
        UserError: nothing of that year has passed in service.
    """
    begin = max(datetime(year, 1, 1, tzinfo=UTC), datetime.combine(in_service, datetime.min.time(), UTC))
    end = min(datetime(year + 1, 1, 1, tzinfo=UTC), now)
    if end <= begin:
        raise UserError(f"Nothing of {year} counts: in service since {in_service}, now {now:%d %b %Y}.", USAGE)
    observed = (end - begin).total_seconds()
    ours = [r for r in made if begin <= r.started < end]
    return [
        Availability(
            room,
            observed,
            sum(r.felt.without_service.get(room, 0.0) for r in ours if r.outcome != "incident"),
            sum(r.felt.without_service.get(room, 0.0) for r in ours if r.outcome == "incident"),
        )
        for room in rooms
    ]


def incident(inventory: Inventory, *, what: str, started: datetime, minutes: float, felt: Felt, by: str) -> Record:
    """Make and append the record of what nobody planned.

    Raises:
        UserError: it contradicts itself.
    """
    made = Record(
        inventory.environment,
        "incident",
        what,
        None,
        by,
        started,
        started + timedelta(minutes=minutes),
        "incident",
        felt,
    )
    record(inventory, made)
    return made


def _sound(inventory: Inventory, made: Record) -> None:
    wrong = []
    if made.environment != inventory.environment:
        wrong.append(f"it is about {made.environment}, not {inventory.environment}")
    if made.outcome not in get_args(Outcome):
        wrong.append(f"outcome {made.outcome!r} is none of {', '.join(get_args(Outcome))}")
    if made.started.tzinfo is None or made.ended.tzinfo is None:
        wrong.append("its times have no time zone")
    elif made.ended < made.started:
        wrong.append("it ended before it began")
    if unknown := set(made.felt.without_service) - set(inventory.rooms):
        wrong.append(f"there is no room {', '.join(sorted(unknown))}")
    span = (made.ended - made.started).total_seconds() if not wrong else 0.0
    wrong += [
        f"room {room} cannot have been without service for {seconds:g} s of {span:g}"
        for room, seconds in made.felt.without_service.items()
        if not wrong and not 0 <= seconds <= span
    ]
    if wrong:
        raise UserError(f"Not recorded: {'; '.join(wrong)}.", USAGE)


@contextmanager
def _only_one(inventory: Inventory, said: dict[str, Any]) -> Iterator[None]:
    with _current(inventory).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"Another change is under way here: {file.read() or 'unknown'}. Wait for its end."
            ) from None
        file.truncate(0)
        json.dump(said, file, ensure_ascii=False)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _folder(inventory: Inventory) -> Path:
    path = inventory.var / "calendar"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _path(inventory: Inventory) -> Path:
    return _folder(inventory) / f"{inventory.environment}.jsonl"


def _current(inventory: Inventory) -> Path:
    return _folder(inventory) / f"{inventory.environment}.current"
