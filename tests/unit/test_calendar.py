"""The release calendar: what is refused, what contradicts, what may go ahead, what it cost."""

from __future__ import annotations

import dataclasses
import io
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import icalendar
import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from siasops.calendar import cli as command
from siasops.calendar import export, model, records, rules
from siasops.calendar.model import Calendar
from siasops.calendar.records import Felt
from siasops.cluster.check import Line
from siasops.errors import UserError
from siasops.inventory import Inventory

TUESDAY_NOON = datetime(2026, 12, 1, 12, 20)  # noqa: DTZ001 - local time, as the calendar writes it
WHOLE = [Line(ok=True, what="Every host answers", found="all")]


def change(**changed: Any) -> dict[str, Any]:
    return {
        "id": "one", "kind": "release", "environment": "lab", "what": "version 2", "starts": "2026-12-01T12:15",
        "minutes": 30, "by": "Ada", "approved": {"by": "Grace", "date": "2026-11-30"}, "rollback": "the former link",
        **changed,
    }  # fmt: skip


def document(*changes: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "timezone": "Europe/Paris", "in_service": "2026-11-01", "apart_minutes": 30,
        "windows": [{"name": "midi", "days": ["tue", "wed"], "from": "12:15", "to": "12:45", "kinds": ["release"]}],
        "freezes": [{"name": "clôture", "from": "2026-12-14", "to": "2026-12-31", "reason": "payments close"}],
        "changes": list(changes), **changed,
    }  # fmt: skip


def plan(*changes: dict[str, Any], **changed: Any) -> Calendar:
    return Calendar.model_validate(document(*changes, **changed))


@pytest.fixture
def here(inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    monkeypatch.setattr(Inventory, "var", tmp_path)
    return inventory


def test_the_calendar_of_the_repository_is_valid_and_free_of_conflicts() -> None:
    calendar = model.load()
    for environment in {c.environment for c in calendar.changes}:
        assert rules.conflicts(calendar, environment) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (document(change(kind="relaese")), "one / kind"),
        (document(change(minutes=0)), "one / minutes"),
        (document(change(approved={"by": "Ada", "date": "2026-11-30"})), "Ada may not approve"),
        (document(change(starts="2026-12-01T12:15+01:00")), "without an offset"),
        (document(change(starts="2027-03-28T02:30")), "the clock jumps over it"),
        (document(change(), change()), "two changes are called one"),
        (document(change(colour="red")), "one / colour"),
        (document(timezone="Europe/Metz"), "no time zone 'Europe/Metz'"),
        (document(windows=[{"name": "midi", "days": ["tue"], "from": 735, "to": "12:45", "kinds": ["release"]}]), "in quotes"),
        (document(windows=[{"name": "n 1", "days": ["tue"], "from": "22:00", "to": "02:00", "kinds": ["drill"]}]), "two windows"),
        (document(freezes=[{"name": "gel", "from": "2026-12-31", "to": "2026-12-01", "reason": "why"}]), "before its first"),
        ({}, "timezone"),
        (None, "the file"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_named_with_its_key(wrong: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "calendar.yml"
    path.write_text(yaml.safe_dump(wrong), encoding="utf-8")
    with pytest.raises(UserError, match=r"calendar\.yml") as refused:
        model.load(path)
    assert said in str(refused.value)


def test_two_changes_at_once_or_too_close_contradict() -> None:
    during = change(id="two", starts="2026-12-01T12:30", minutes=10)
    soon = change(id="three", starts="2026-12-01T12:46", minutes=10, urgent="a hole is being used")
    found = rules.conflicts(plan(change(), during, soon), "lab")
    assert {c.changes for c in found} == {("one", "two"), ("one", "three"), ("two", "three")}
    assert "during one (until 12:45)" in found[0].text
    assert "less than 30 minutes after one" in found[1].text


def test_changes_of_two_environments_do_not_meet() -> None:
    assert rules.conflicts(plan(change(), change(id="two", environment="production")), "lab") == []


def test_a_change_during_a_drill_is_told_as_such() -> None:
    drill = change(id="break", kind="drill", starts="2026-12-01T12:00", minutes=60, urgent="an audit")
    assert any("during the drill break" in c.text for c in rules.conflicts(plan(change(), drill), "lab"))


@pytest.mark.parametrize(
    ("starts", "minutes"),
    [("2026-12-01T12:15", 31), ("2026-12-01T12:14", 10), ("2026-12-03T12:15", 10), ("2026-12-01T23:50", 30)],
)
def test_a_change_outside_every_window_is_a_conflict_unless_urgent(starts: str, minutes: int) -> None:
    outside = change(starts=starts, minutes=minutes)
    assert "lies in no window" in rules.conflicts(plan(outside), "lab")[0].text
    assert rules.conflicts(plan({**outside, "urgent": "a hole is being used"}), "lab") == []


@pytest.mark.parametrize("day", ["2026-12-15", "2026-12-16", "2026-12-30"])
def test_a_change_during_a_freeze_is_a_conflict_unless_allowed_or_urgent(day: str) -> None:
    frozen = change(starts=f"{day}T12:15")
    assert "during clôture" in rules.conflicts(plan(frozen), "lab")[0].text
    allowing = [{**document()["freezes"][0], "allows": ["release"]}]
    assert rules.conflicts(plan(frozen, freezes=allowing), "lab") == []
    assert rules.conflicts(plan({**frozen, "urgent": "a hole is being used"}), "lab") == []


def verdicts(calendar: Calendar, now: datetime = TUESDAY_NOON, **given: Any) -> list[str]:
    """What speaks against the first change."""
    found = rules.lines(calendar, calendar.changes[0], now, **{"in_force": None, "cluster": WHOLE, **given})
    assert all(line.ok or line.action for line in found), "a no-go without what to do"
    return [line.what for line in found if not line.ok]


def test_an_approved_change_in_its_window_on_a_whole_platform_may_go() -> None:
    assert verdicts(plan(change())) == []


@pytest.mark.parametrize(
    ("planned", "given", "said"),
    [
        (change(), {"now": TUESDAY_NOON - timedelta(minutes=6)}, "It is its time"),
        (change(), {"now": TUESDAY_NOON + timedelta(minutes=25)}, "It is its time"),
        (change(approved=None), {}, "Somebody else has approved it"),
        (change(approved={"by": "Grace", "date": "2026-12-02"}), {}, "Somebody else has approved it"),
        (change(), {"in_force": "the drill room-loss is in force"}, "Nothing else is under way"),
        (change(), {"cluster": []}, "The platform could lose a room now"),
        (change(), {"cluster": [*WHOLE, Line(False, "Quorum", "2 of 3")]}, "The platform could lose a room now"),
    ],
)
def test_each_thing_that_is_missing_is_a_no_go_of_its_own(
    planned: dict[str, Any], given: dict[str, Any], said: str
) -> None:
    assert verdicts(plan(planned), **given) == [said]


def test_the_export_is_read_back_by_a_calendar_program() -> None:
    calendar = plan(change(), change(id="two", starts="2026-12-02T12:15", approved=None))
    read = icalendar.Calendar.from_ical(export.ics(calendar, "lab"))
    events = {str(e["uid"]): e for e in read.walk("VEVENT")}
    assert events["one@lab"].decoded("dtstart").astimezone(UTC) == datetime(2026, 12, 1, 11, 15, tzinfo=UTC)
    assert (events["one@lab"]["status"], events["two@lab"]["status"]) == ("CONFIRMED", "TENTATIVE")
    assert events["freeze-2026-12-14@lab"].decoded("dtend") == date(2027, 1, 1)
    assert events["window-0@lab"]["rrule"].to_ical() == b"FREQ=WEEKLY;BYDAY=TU,WE"
    assert list(read.walk("VTIMEZONE")), "local times without their zone"


def test_a_change_is_recorded_with_what_users_felt_even_when_it_fails(here: Inventory) -> None:
    with records.recording(here, kind="release", what="version 2", change="one") as entry:
        assert records.under_way(here) == {
            "kind": "release", "what": "version 2", "change": "one", "started": records.under_way(here)["started"],
        }  # fmt: skip
        entry.felt = Felt(requests=100, failed=1, without_service={"a": 0.0, "b": 0.0})
    with pytest.raises(RuntimeError, match="disk"), records.recording(here, kind="release", what="version 3"):
        raise RuntimeError("disk full")
    good, bad = records.read(here)
    assert (good.outcome, good.change, good.felt.requests) == ("done", "one", 100)
    assert (bad.outcome, bad.why) == ("failed", "RuntimeError: disk full")
    assert records.under_way(here) is None


def test_two_changes_cannot_be_under_way_at_once(here: Inventory) -> None:
    with records.recording(here, kind="release", what="version 2"):
        with pytest.raises(UserError, match="version 2"), records.recording(here, kind="release", what="version 3"):
            pass
        assert command.in_force(here) == "release “version 2” is under way"
    assert [r.what for r in records.read(here)] == ["version 2"]


def test_a_damaged_record_is_named_and_nothing_is_lost(here: Inventory) -> None:
    with records.recording(here, kind="release", what="version 2"):
        pass
    path = here.var / "calendar" / f"{here.environment}.jsonl"
    path.write_text(path.read_text() + '{"kind": "rel', encoding="utf-8")
    with pytest.raises(UserError, match="line 2"):
        records.read(here)


def outage(room: str, seconds: float, outcome: records.Outcome, at: datetime) -> records.Record:
    felt = Felt(without_service={room: seconds})
    return records.Record("lab", "release", "x", None, "Ada", at, at + timedelta(hours=1), outcome, felt)


def test_availability_counts_from_the_first_day_in_service_and_tells_planned_from_unplanned() -> None:
    made = [
        outage("a", 864.0, "done", datetime(2026, 11, 5, tzinfo=UTC)),
        outage("a", 864.0, "incident", datetime(2026, 11, 6, tzinfo=UTC)),
        outage("b", 999.0, "done", datetime(2025, 12, 31, tzinfo=UTC)),
    ]
    a, b = records.availability(
        made, {"a": 0, "b": 0}, 2026, in_service=date(2026, 11, 1), now=datetime(2026, 11, 11, tzinfo=UTC)
    )
    assert (a.observed, a.planned, a.unplanned) == (864000, 864, 864)
    assert a.share == pytest.approx(0.998)
    assert b.share == 1
    with pytest.raises(UserError, match="Nothing of 2025 counts"):
        records.availability(made, {"a": 0}, 2025, in_service=date(2026, 11, 1), now=datetime(2026, 11, 11, tzinfo=UTC))


@pytest.mark.parametrize(
    ("felt", "said"), [({"z": 1.0}, "no room z"), ({"a": 61.0}, "61 s of 60"), ({"a": -1.0}, "-1 s of 60")]
)
def test_a_record_that_contradicts_itself_is_refused(here: Inventory, felt: dict[str, float], said: str) -> None:
    begun = datetime(2026, 11, 25, 10, tzinfo=UTC)
    with pytest.raises(UserError, match=said):
        records.incident(here, what="power", started=begun, minutes=1, felt=Felt(without_service=felt), by="Ada")
    assert records.read(here) == []


def test_an_incident_lowers_the_year_that_the_command_shows(here: Inventory) -> None:
    run = CliRunner()
    said = [
        "--what",
        "room a lost power",
        "--started",
        "2026-11-24T10:00",
        "--minutes",
        "30",
        "--without-service",
        "a=60",
    ]
    done = run.invoke(command.calendar, ["incident", *said], obj=here, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    shown = run.invoke(command.calendar, ["availability", "--year", "2026", "--json"], obj=here, catch_exceptions=False)
    a, b = yaml.safe_load(shown.output)["rooms"]
    assert (a["unplanned"], b["unplanned"]) == (60, 0)
    assert a["share"] < b["share"] == 1
    with pytest.raises(UserError, match="not ROOM=SECONDS"):
        run.invoke(command.calendar, ["incident", *said[:-1], "a"], obj=here, catch_exceptions=False)


def test_the_month_shows_windows_freezes_changes_and_conflicts() -> None:
    calendar = plan(change(), change(id="late", starts="2026-12-15T12:15", approved=None))
    drawn = io.StringIO()
    Console(width=150, file=drawn).print(command.picture(calendar, "lab", date(2026, 12, 1), date(2026, 12, 1)))
    text = drawn.getvalue()
    assert "■ 12:15 release" in text
    assert "□ 12:15 release" in text
    assert "15▒" in text
    assert "· 12:15-12:45" in text
    assert text.count("31") == 1


def test_records_are_plain_data() -> None:
    made = outage("a", 1.0, "done", datetime(2026, 11, 5, tzinfo=UTC)).as_json()
    assert made["felt"]["without_service"] == {"a": 1.0}
    assert set(made) == {f.name for f in dataclasses.fields(records.Record)}
