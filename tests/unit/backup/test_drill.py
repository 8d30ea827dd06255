"""The judgement of a restore drill: what must stand in a copy, and what must not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siasops.backup import drill
from siasops.backup.check import Line
from siasops.backup.drill import BEFORE, CHANGED, REMOVED, Drill, Write, judge, parse, payload, script
from siasops.backup.restore import Proof

BEGIN = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)
RUN = "20261125-040000"


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def session(run: str = RUN) -> str:
    """What psql answers to the script when every write is acknowledged: a second for each line."""
    clock, said = 0, []
    for line in script(run).splitlines():
        if line.startswith("SELECT"):
            clock += 1
            said.append(line.split("'")[1] + f"{at(clock):%Y-%m-%dT%H:%M:%S.%f}")
    return "\n".join(said)


def copy_at(moment: datetime | None, writes: list[Write]) -> dict[int, str]:
    """What a right copy holds."""
    rows: dict[int, str] = {}
    for write in writes:
        if moment is not None and write.sent > moment:
            break
        if write.kind == "insert":
            rows[write.number] = payload(RUN, write.number)
        for number in [n for n in rows if n <= write.number]:
            if write.kind == "change":
                rows[number] = "mistake"
            elif write.kind == "remove":
                del rows[number]
    return rows


@pytest.fixture(scope="module")
def told() -> tuple[list[Write], datetime]:
    writes, moment = parse(session())
    assert moment is not None
    return writes, moment


def test_a_session_is_read_back_with_its_clocks(told: tuple[list[Write], datetime]) -> None:
    writes, moment = told
    assert len(writes) == drill.BEFORE + drill.AFTER + 2
    assert all(write.acknowledged == write.sent + timedelta(seconds=1) for write in writes)
    assert writes[BEFORE - 1].acknowledged is not None
    assert writes[BEFORE - 1].acknowledged < moment < writes[BEFORE].sent


def test_a_write_whose_acknowledgement_never_came_is_unknown() -> None:
    writes, _ = parse("\n".join(session().splitlines()[:3]))
    assert [write.acknowledged is None for write in writes] == [False, True]


def test_a_right_copy_of_the_moment_holds_and_has_the_mistake_undone(told: tuple[list[Write], datetime]) -> None:
    writes, moment = told
    rows = copy_at(moment, writes)
    assert len(rows) == BEFORE
    assert judge(RUN, writes, rows, moment).ok


def test_a_right_copy_of_the_end_holds_and_has_the_mistake(told: tuple[list[Write], datetime]) -> None:
    writes, _ = told
    rows = copy_at(None, writes)
    assert REMOVED not in rows
    assert rows[CHANGED] == "mistake"
    assert judge(RUN, writes, rows, None).ok


@pytest.mark.parametrize("target", ["moment", "end"])
@pytest.mark.parametrize("fault", ["missing", "changed", "empty"])
def test_each_fault_of_a_copy_turns_it_red(told: tuple[list[Write], datetime], target: str, fault: str) -> None:
    writes, moment = told
    stop = moment if target == "moment" else None
    rows = copy_at(stop, writes)
    if fault == "missing":
        del rows[BEFORE]
    elif fault == "changed":
        rows[BEFORE] = "something else"
    else:
        rows = {}
    line = judge(RUN, writes, rows, stop)
    assert not line.ok
    assert line.advice


def test_a_write_later_than_the_moment_turns_it_red(told: tuple[list[Write], datetime]) -> None:
    writes, moment = told
    rows = copy_at(moment, writes) | {BEFORE + 1: payload(RUN, BEFORE + 1)}
    assert f"write {BEFORE + 1}" in judge(RUN, writes, rows, moment).found


def test_the_mistake_in_the_copy_of_the_moment_turns_it_red(told: tuple[list[Write], datetime]) -> None:
    writes, moment = told
    assert not judge(RUN, writes, copy_at(None, writes), moment).ok


@given(st.integers(1, BEFORE), st.booleans())
def test_an_unknown_write_may_be_there_or_not_and_nothing_else(number: int, there: bool) -> None:
    writes, moment = parse(session())
    writes[number - 1] = Write("insert", number, writes[number - 1].sent, None)
    rows = copy_at(moment, writes)
    if not there:
        del rows[number]
    assert judge(RUN, writes, rows, moment).ok
    rows[number] = "something else"
    assert not judge(RUN, writes, rows, moment).ok


def proof(*lines: Line) -> Proof:
    return Proof("app-a1", "a", "db-a1", "the end of the archive", label="20261125-010000F", lines=list(lines))


def test_a_report_says_what_did_not_hold_and_what_to_do(tmp_path: Path) -> None:
    found = Drill(
        RUN, "lab", BEGIN, [], [proof(Line(True, "ledger", "all")), proof(Line(False, "amcheck", "<bad>", "look"))]
    )
    drill.report(tmp_path, found)
    assert json.loads((tmp_path / "result.json").read_text())["held"] is False
    assert "**not held** | amcheck | <bad>. Do: look" in (tmp_path / "report.md").read_text()
    page = (tmp_path / "report.html").read_text()
    assert "&lt;bad&gt;<br>Do: look" in page
    assert "<script" not in page


def test_a_drill_without_a_proof_does_not_hold() -> None:
    assert not Drill(RUN, "lab", BEGIN, []).held
    assert Drill(RUN, "lab", BEGIN, [], [proof(Line(True, "ledger", "all"))]).held


def test_the_ledger_of_writes_is_on_disk_before_anything_is_restored(tmp_path: Path, told: Any) -> None:
    writes, moment = told
    drill.keep_ledger(tmp_path, Drill(RUN, "lab", moment, writes))
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == len(writes)
