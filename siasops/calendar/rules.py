"""What speaks against a change. Pure: the calendar, a time, and what others found in; lines of evidence out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from siasops.calendar.model import Calendar, Change
from siasops.cluster.check import Line

SAID = "%a %d %b %Y %H:%M"


@dataclass(frozen=True)
class Conflict:
    """Two things that cannot both be. `changes` are identifiers."""

    changes: tuple[str, ...]
    text: str


def conflicts(calendar: Calendar, environment: str) -> list[Conflict]:
    """Everything in an environment's plan that cannot stand as written."""
    changes = calendar.of(environment)
    found = [
        Conflict((one.id, other.id), text)
        for i, one in enumerate(changes)
        for other in changes[i + 1 :]
        if (text := _clash(calendar, one, other))
    ]
    for change in changes:
        for line in (_window(calendar, change), _freeze(calendar, change)):
            found += [] if line.ok else [Conflict((change.id,), f"{change.id}: {line.found}")]
    return found


def lines(
    calendar: Calendar, change: Change, now: datetime, *, in_force: str | None, cluster: Sequence[Line]
) -> list[Line]:
    """Go or no-go, now.

    Args:
        calendar: the whole plan.
        change: what is about to begin.
        now: local time, without an offset.
        in_force: the drill or the change that runs right now, in words; None when there is none.
        cluster: what `sias cluster check` found.
    """
    return [
        _time(change, now),
        _approval(change, now),
        _window(calendar, change),
        _freeze(calendar, change),
        _alone(calendar, change),
        Line(
            in_force is None,
            "Nothing else is under way",
            in_force or "no drill and no recorded change",
            "" if in_force is None else "Wait until it has ended; `sias drill heal` if it was killed.",
        ),
        _redundancy(cluster),
    ]


def _time(change: Change, now: datetime) -> Line:
    ok = change.starts <= now < change.ends
    span = f"{change.starts:{SAID}} to {change.ends:%H:%M}"
    when = "too early" if now < change.starts else "too late"
    return Line(
        ok,
        "It is its time",
        f"planned {span}, now {now:{SAID}}" + ("" if ok else f": {when}"),
        "" if ok else "Wait for it, or plan it anew and have that approved.",
    )


def _approval(change: Change, now: datetime) -> Line:
    what = "Somebody else has approved it"
    if change.approved is None:
        return Line(
            False, what, "nobody has", "Write `approved: {by, date}` in inventory/calendar.yml, by another person."
        )
    ok = change.approved.at <= now.date()
    found = f"{change.approved.by} on {change.approved.at:%d %b %Y}, for {change.by}"
    return Line(ok, what, found, "" if ok else "An approval cannot lie in the future.")


def _window(calendar: Calendar, change: Change) -> Line:
    what = "It lies within a window of its kind"
    fitting = [w for w in calendar.windows if change.kind in w.kinds]
    for window in fitting:
        if window.holds(change.starts, change.ends):
            return Line(True, what, window.name)
    if change.urgent:
        return Line(True, what, f"outside every window, urgent: {change.urgent}")
    names = "; ".join(f"{w.name}: {','.join(w.days)} {w.begins:%H:%M}-{w.ends:%H:%M}" for w in fitting)
    return Line(
        False,
        what,
        f"{change.starts:{SAID}} to {change.ends:%H:%M} lies in no window for {change.kind}",
        f"Move it into one ({names or 'there is none'}), or say under `urgent` why it cannot wait.",
    )


def _freeze(calendar: Calendar, change: Change) -> Line:
    what = "No freeze forbids it"
    days = change.starts.date(), change.ends.date()
    hit = [f for f in calendar.freezes if f.begins <= days[1] and days[0] <= f.ends and change.kind not in f.allows]
    if not hit:
        return Line(True, what, "none on that day")
    named = "; ".join(f"{f.name}, {f.begins:%d %b} to {f.ends:%d %b %Y}: {f.reason}" for f in hit)
    if change.urgent:
        return Line(True, what, f"during {named}; urgent: {change.urgent}")
    return Line(False, what, f"during {named}", "Move it, or say under `urgent` why it cannot wait.")


def _alone(calendar: Calendar, change: Change) -> Line:
    what = "No other change or drill is planned at the same time"
    clashes = [
        t for other in calendar.of(change.environment) if other != change and (t := _clash(calendar, change, other))
    ]
    return Line(not clashes, what, "; ".join(clashes) or "none", "Move one of them." if clashes else "")


def _clash(calendar: Calendar, one: Change, other: Change) -> str | None:
    first, second = sorted((one, other), key=lambda c: (c.starts, c.id))
    if second.starts >= first.ends + timedelta(minutes=calendar.apart_minutes):
        return None
    kind = "the drill " if "drill" in {first.kind, second.kind} else ""
    if second.starts < first.ends:
        return f"{second.id} begins {second.starts:{SAID}}, during {kind}{first.id} (until {first.ends:%H:%M})"
    return (
        f"{second.id} begins {second.starts:{SAID}}, less than {calendar.apart_minutes} minutes after "
        f"{kind}{first.id} (until {first.ends:%H:%M})"
    )


def _redundancy(cluster: Sequence[Line]) -> Line:
    what = "The platform could lose a room now"
    wrong = [line for line in cluster if not line.ok]
    if cluster and not wrong:
        return Line(True, what, f"all {len(cluster)} checks of `sias cluster check` hold")
    found = "; ".join(f"{line.what}: {line.found}" for line in wrong) or "the cluster was not looked at"
    return Line(False, what, found, "Mend that first: a change must never start from a wounded platform.")
