"""`inventory/calendar.yml` as checked data. Every error names the entry, the key, and what is allowed there."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from siasops.errors import UserError
from siasops.inventory import ROOT

Kind = Literal["release", "debian_upgrade", "postgres_upgrade", "switchover", "room_work", "configuration", "drill"]
"""What a change is. `room_work`: power, network or machines of a room; `configuration`: a run of a playbook."""
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Words = Annotated[str, Field(min_length=3)]
CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


class _Entry(BaseModel):
    """What all entries share: unknown keys are errors, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Window(_Entry):
    """When changes of some kinds may happen, every week, in the calendar's own time zone."""

    name: Words
    days: list[Day] = Field(min_length=1)
    begins: time = Field(alias="from")
    ends: time = Field(alias="to")
    kinds: list[Kind] = Field(min_length=1)

    @field_validator("begins", "ends", mode="before")
    @classmethod
    def _clock(cls, value: object) -> time:
        # YAML reads an unquoted 12:15 as the number 735: say what to do instead of guessing.
        if not isinstance(value, str) or not CLOCK.fullmatch(value):
            raise ValueError(f'a time of day is written "hh:mm", in quotes; found {value!r}')
        return time.fromisoformat(value)

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.ends <= self.begins:
            raise ValueError("it ends before it begins; a night needs two windows")
        return self

    def holds(self, begin: datetime, end: datetime) -> bool:
        """Whether a local span lies within this window."""
        same_day = begin.date() == end.date()
        return (
            same_day and DAYS[begin.weekday()] in self.days and self.begins <= begin.time() and end.time() <= self.ends
        )


class Freeze(_Entry):
    """Days, the last included, on which nothing changes unless its kind is allowed or it is urgent."""

    name: Words
    begins: date = Field(alias="from")
    ends: date = Field(alias="to")
    reason: Words
    allows: list[Kind] = []

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.ends < self.begins:
            raise ValueError("its last day lies before its first")
        return self


class Approval(_Entry):
    """Who said yes, and on which day."""

    by: Words
    at: date = Field(alias="date")


class Change(_Entry):
    """Something planned. `starts` is local time without an offset; `minutes` is how long it may take, rollback included."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    kind: Kind
    environment: str
    what: Words
    rooms: list[Literal["a", "b"]] = ["a", "b"]
    starts: datetime
    minutes: int = Field(ge=1, le=24 * 60)
    by: Words
    approved: Approval | None = None
    rollback: Words
    urgent: str = ""
    """Why it cannot wait for a window or the end of a freeze; empty when it can."""

    @field_validator("starts")
    @classmethod
    def _local(cls, value: datetime) -> datetime:
        if value.tzinfo is not None:
            raise ValueError("it is local time, without an offset: 2026-12-01T12:15")
        return value

    @model_validator(mode="after")
    def _four_eyes(self) -> Self:
        if self.approved and self.approved.by == self.by:
            raise ValueError(f"{self.by} may not approve what {self.by} does: ask somebody else")
        return self

    @property
    def ends(self) -> datetime:
        """Local time at which it must be over."""
        return self.starts + timedelta(minutes=self.minutes)


class Calendar(_Entry):
    """The whole file."""

    timezone: str
    in_service: date
    """First day that counts for availability."""
    apart_minutes: int = Field(ge=0, le=24 * 60)
    """Minutes between the end of a change and the start of the next one, so that a cause can be told."""
    windows: list[Window]
    freezes: list[Freeze] = []
    changes: list[Change] = []

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"there is no time zone {value!r}; write for instance Europe/Paris") from error
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        seen: set[str] = set()
        for change in self.changes:
            if change.id in seen:
                raise ValueError(f"two changes are called {change.id}: records could not tell them apart")
            seen.add(change.id)
            for moment in (change.starts, change.ends):
                aware = moment.replace(tzinfo=self.zone)
                if aware.astimezone(UTC).astimezone(self.zone).replace(tzinfo=None) != moment:
                    raise ValueError(
                        f"{change.id}: {moment} does not exist in {self.timezone}: the clock jumps over it"
                    )
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of every local time here."""
        return ZoneInfo(self.timezone)

    def now(self) -> datetime:
        """Local time now, without an offset, as changes are written."""
        return datetime.now(self.zone).replace(tzinfo=None)

    def aware(self, moment: datetime) -> datetime:
        """A local time with its offset."""
        return moment.replace(tzinfo=self.zone)

    def find(self, wanted: str) -> Change:
        """The change of that name.

        Raises:
            UserError: there is none; names those that there are.
        """
        for change in self.changes:
            if change.id == wanted:
                return change
        known = ", ".join(c.id for c in self.changes) or "none"
        raise UserError(f"The calendar has no change “{wanted}”. It has: {known}. Add it to inventory/calendar.yml.")

    def of(self, environment: str) -> list[Change]:
        """Changes of an environment, in order of time."""
        return sorted((c for c in self.changes if c.environment == environment), key=lambda c: (c.starts, c.id))


def load(path: Path = ROOT / "inventory" / "calendar.yml") -> Calendar:
    """Read the calendar.

    Raises:
        UserError: it cannot be read or an entry is wrong; names every entry and key that is.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YAML: {error}") from error
    try:
        return Calendar.model_validate(document)
    except ValidationError as error:
        wrong = "; ".join(
            f"{_place(document, found['loc'])}: {found['msg'].removeprefix('Value error, ')}"
            for found in error.errors()
        )
        raise UserError(f"{path.name}: {wrong}.") from None


def _place(document: object, location: tuple[int | str, ...]) -> str:
    """Say where an error is, by the entry's own name where it has one."""
    words = []
    for step in location:
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
        named = document.get("id") or document.get("name") if isinstance(document, dict) else None
        words.append(str(named or step))
    return " / ".join(words) or "the file"
