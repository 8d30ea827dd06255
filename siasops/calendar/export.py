"""The calendar as iCalendar (RFC 5545), for the calendars that managers already look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from icalendar import Calendar as Ics
from icalendar import Event, vRecur

from siasops.calendar.model import DAYS, Calendar


def ics(calendar: Calendar, environment: str, *, stamp: datetime | None = None) -> bytes:
    """Write windows (weekly, free), freezes (whole days) and changes (busy) of an environment.

    Args:
        calendar: the plan.
        environment: whose changes.
        stamp: when it was written, with an offset; now by default.
    """
    made = Ics()
    made.add("prodid", f"-//SIAS//siasops {version('siasops')}//FR")
    made.add("version", "2.0")
    made.add("x-wr-calname", f"SIAS {environment}")
    made.add("x-wr-timezone", calendar.timezone)
    written = (stamp or datetime.now(UTC)).astimezone(UTC)
    for change in calendar.of(environment):
        event = _event(f"{change.id}@{environment}", change.what, written)
        event.add("dtstart", calendar.aware(change.starts))
        event.add("dtend", calendar.aware(change.ends))
        event.add("categories", [change.kind])
        event.add("status", "CONFIRMED" if change.approved else "TENTATIVE")
        approved = (
            f"approved by {change.approved.by} on {change.approved.at}" if change.approved else "not approved yet"
        )
        event.add(
            "description",
            f"{change.kind}, rooms {', '.join(change.rooms)}. By {change.by}, {approved}. Way back: {change.rollback}"
            + (f" Urgent: {change.urgent}" if change.urgent else ""),
        )
        made.add_component(event)
    for freeze in calendar.freezes:
        event = _event(f"freeze-{freeze.begins}@{environment}", f"Gel : {freeze.name}", written)
        event.add("dtstart", freeze.begins)
        event.add("dtend", freeze.ends + timedelta(days=1))
        event.add("description", freeze.reason)
        event.add("transp", "TRANSPARENT")
        made.add_component(event)
    for number, window in enumerate(calendar.windows):
        event = _event(f"window-{number}@{environment}", f"Créneau : {window.name}", written)
        first = next(
            day
            for day in (calendar.in_service + timedelta(days=n) for n in range(7))
            if DAYS[day.weekday()] in window.days
        )
        event.add("dtstart", calendar.aware(datetime.combine(first, window.begins)))
        event.add("dtend", calendar.aware(datetime.combine(first, window.ends)))
        event.add("rrule", vRecur({"FREQ": "WEEKLY", "BYDAY": [day[:2].upper() for day in window.days]}))
        event.add("description", ", ".join(window.kinds))
        event.add("transp", "TRANSPARENT")
        made.add_component(event)
    made.add_missing_timezones()
    return bytes(made.to_ical())


def _event(uid: str, summary: str, written: datetime) -> Event:
    event = Event()
    event.add("uid", uid)
    event.add("dtstamp", written)
    event.add("summary", summary)
    return event
