"""The verdict against the objectives, and the three forms of the report."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import replace
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from siasops import inventory as facts
from siasops.drill import report
from siasops.drill.faults import Fault
from siasops.drill.faults.primary_crash import PrimaryCrash
from siasops.drill.faults.room_and_witness_loss import RoomAndWitnessLoss
from siasops.drill.faults.switchover import Switchover
from siasops.drill.history import (
    ACCOUNTS,
    GENESIS,
    OPENING,
    Claim,
    DocumentOp,
    DocumentRead,
    Final,
    History,
    HttpOp,
    LedgerOp,
    LedgerRead,
    LedgerRow,
    Outcome,
    ProbeOp,
    Snapshot,
    Transfer,
    chain_hash,
)
from siasops.drill.observer import Sight
from siasops.drill.verdict import Moments, Result, Span, judge

RUN = "20261121-223000-primary-crash"
FAULT, HEALED, END = 10.0, 25.0, 40.0
GAP = 3.0
OBJECTIVES = facts.load(facts.resolve("lab")).objectives
RATES = {"read": 10.0, "write": 2.0}
FINAL = Final(
    balances={n: OPENING + {0: -5, 1: 5}.get(n, 0) for n in range(ACCOUNTS)},
    transfers=frozenset({"a1"}),
    claims={"1": (0, 7)},
    probes=frozenset({("db-a1", 1)}),
)
SIGHTS = [Sight(t / 2, "db-a1", 1, redundant=not 20 <= t < 30) for t in range(80)]


@cache
def history(gap: float = GAP) -> tuple[History, list[LedgerRow]]:
    """One client per room; nothing is acknowledged for `gap` seconds from the fault on."""
    ops, rows = [], []
    for client, home in enumerate("ab"):
        previous, sequence, at = GENESIS, 0, client * 0.05
        while at < END:
            if FAULT <= at < FAULT + gap:
                at = FAULT + gap
            sequence += 1
            digest = chain_hash(previous, RUN, client, sequence, sequence)
            timeline, node = (1, "db-a1") if at < FAULT else (2, "db-b1")
            row = len(rows) + 1
            ops.append(
                LedgerOp(
                    client, sequence, sequence, digest, home, home, at, at + 0.01, Outcome.OK,
                    row=row, node=node, timeline=timeline,
                )
            )  # fmt: skip
            rows.append(LedgerRow(row, client, sequence, sequence, previous, digest))
            previous, at = digest, at + 0.1
    ended = {client: [op.ended or END for op in ops if op.client == client] for client in (0, 1)}
    reads = [
        LedgerRead(database, home, home, t / 10, t / 10 + 0.01, Outcome.OK, "db-b1", _seen(ended, t / 10))
        for t in range(int(END * 10))
        for home in "ab"
        for database in ("sias", "sias_ro")
    ]
    documents = [DocumentOp(n, "same", "ab"[n % 2], float(n), n + 0.2, Outcome.OK, "/x") for n in range(int(END))]
    back = [DocumentRead(n, room, END, "same", final=True) for n in range(int(END)) for room in "ab"]
    http = [
        HttpOp(kind, "ab"[n % 2], n / rate, n / rate, n / rate + 0.1, True, 200)
        for kind, rate in RATES.items()
        for n in range(int(END * rate))
    ]
    return History(
        ops, reads, documents, back, http,
        [Transfer("a1", 0, 1, 5, 1.0, 1.1, Outcome.OK)],
        [Claim("1", 0, 1.0, 1.1, Outcome.OK, 7)],
        [Snapshot("sias", 2.0, "db-a1", ACCOUNTS, ACCOUNTS * OPENING)],
        [ProbeOp("db-a1", 1, 1.0, 1.1, Outcome.OK, 1)],
    ), rows  # fmt: skip


def _seen(ended: dict[int, list[float]], at: float) -> dict[int, int]:
    """What every client had acknowledged at a time: its sequences count from one."""
    return {client: bisect_right(times, at) for client, times in ended.items()}


def judged(gap: float = GAP, *, fault: Fault = PrimaryCrash(), **changes: object) -> tuple[Result, History]:  # noqa: B008
    made, rows = history(gap)
    made = replace(made, **changes)
    moments = Moments(0.0, FAULT, FAULT, HEALED, 35.0, END, copies_back=15.0)
    result = Result(fault.name, RUN, "lab", {}, "kill -9", moments)
    judge(
        result, made, {"db-a1": rows, "db-b1": rows}, {"db-a1": FINAL, "db-b1": FINAL}, fault=fault,
        expected_nodes=["db-a1", "db-b1"], rooms=["a", "b"], rates=RATES,
        objectives=OBJECTIVES, limits=OBJECTIVES["drills"][fault.name.replace("-", "_")],
    )  # fmt: skip
    return result, made


def test_a_drill_in_which_all_went_well_holds() -> None:
    result, _ = judged()
    assert (result.verdict, result.findings, result.valid) == ("held", [], True)
    assert result.figures["write_gap"] == pytest.approx(GAP, abs=0.11)
    assert result.figures["redundancy_back"] == 5.0


def test_the_report_of_a_change_shows_its_phases_instead_of_a_fault() -> None:
    result, made = judged()
    result.event, result.spans = "change", [Span("Drain app-a1 & <warm> it", FAULT, FAULT + 4), Span("Verify", 20, 21)]
    page = report.html(result, made, [])
    assert "Drain app-a1 &amp; &lt;warm&gt; it: 4.0 s" in page
    assert "change under way" in page
    assert "fault in force" not in page
    assert "| Drain app-a1 & <warm> it | +0.0 s | 4.0 s |" in report.markdown(result)


def test_a_gap_longer_than_the_objective_fails() -> None:
    limit = OBJECTIVES["drills"]["primary_crash"]["write_gap"]
    result, _ = judged(gap=limit + 1)
    assert [p.what for p in result.promises if not p.held] == ["Longest time without an acknowledged write"]
    assert result.verdict == "failed"


def test_a_write_in_a_room_without_a_majority_fails_however_quick_it_is() -> None:
    result, _ = judged(fault=RoomAndWitnessLoss(), gap=HEALED - FAULT)
    assert result.figures["writes_in_force"] == 0
    assert [p.what for p in result.promises if not p.held] == [
        "Redundancy back after the healing"
    ]  # no documents' time
    result, _ = judged(fault=RoomAndWitnessLoss())
    assert result.figures["writes_in_force"] > 0
    assert "Writes acknowledged while it is in force" in [p.what for p in result.promises if not p.held]


def test_a_request_that_fails_in_a_planned_change_fails_it() -> None:
    assert judged(fault=Switchover())[0].verdict == "held"
    made, _ = history()
    http = [
        op if op.intended < FAULT or op.intended > FAULT + 0.2 else replace(op, ok=False, why="503", served_by="app-a1")
        for op in made.http
    ]
    result, _ = judged(fault=Switchover(), http=http)
    (promise,) = [p for p in result.promises if not p.held]
    assert promise.what == "Failed requests"
    assert re.fullmatch(r"[1-9]\d* \(.*[1-9]\d* × 503, room [ab], served by app-a1; 0\.\d to 0\.\d s\)", promise.found)


def test_a_document_that_somebody_waits_for_too_long_fails() -> None:
    made, _ = history()
    limit = OBJECTIVES["drills"]["primary_crash"]["document_wait"]
    late = [replace(op, ended=op.invoked + limit + 1) if op.number == 12 else op for op in made.documents]
    result, _ = judged(documents=late)
    assert [p.what for p in result.promises if not p.held] == ["Longest wait to store a document"]


def test_a_document_that_is_gone_fails() -> None:
    made, _ = history()
    result, _ = judged(document_reads=made.document_reads[:-1])
    assert result.figures["documents_lost"] == 1
    assert result.verdict == "failed"


def test_a_starved_generator_makes_the_run_invalid_and_says_so() -> None:
    made, _ = history()
    result, _ = judged(http=made.http[::2])
    assert result.verdict == "invalid"
    assert "not fully offered" in report.markdown(result)


@pytest.mark.parametrize("part", ["ledger", "reads", "documents", "transfers", "snapshots", "claims", "probes"])
def test_a_drill_that_compared_nothing_fails(part: str) -> None:
    result, _ = judged(**{part: []})
    assert result.verdict == "failed"


def test_reports_are_written_in_three_forms_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, made = judged()
    lab = facts.load(facts.resolve("lab"))
    monkeypatch.setattr(facts, "ROOT", tmp_path)
    folder = tmp_path / "var" / "drills" / RUN
    folder.mkdir(parents=True)
    report.write(folder, result, made, SIGHTS)
    assert json.loads((folder / "result.json").read_text())["verdict"] == "held"
    assert "| Acknowledged writes lost | 0 of" in (folder / "report.md").read_text()
    assert [past["run"] for past in report.past(lab)] == [RUN]


def test_the_page_is_self_contained_and_its_plot_is_sound() -> None:
    result, made = judged()
    page = report.html(result, made, SIGHTS)
    assert not re.search(r"<script|<link|<img|@import|url\(", page)
    assert set(re.findall(r'https?://[^"\s]+', page)) == {"http://www.w3.org/2000/svg"}
    svg = re.search(r"<svg.*</svg>", page, re.DOTALL)
    assert svg
    root = ET.fromstring(svg.group())  # noqa: S314 - written above
    width = float(root.attrib["viewBox"].split()[2])
    for element in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 <= float(element.attrib["x"]) <= width
        assert float(element.attrib["width"]) >= 0
    assert "db-b1 · timeline 2" in svg.group()
