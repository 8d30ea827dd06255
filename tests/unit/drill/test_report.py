"""The verdict against the objectives, and the three forms of the report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from siasops import inventory as facts
from siasops.drill import report
from siasops.drill.history import (
    GENESIS,
    DocumentOp,
    DocumentRead,
    History,
    HttpOp,
    LedgerOp,
    LedgerRead,
    LedgerRow,
    Outcome,
    chain_hash,
)
from siasops.drill.observer import Sight
from siasops.drill.verdict import Moments, Result, judge

RUN = "20261121-223000-primary-crash"
FAULT, END = 10.0, 40.0
GAP = 3.0
RATES = {"read": 10.0, "write": 2.0}
SIGHTS = [Sight(t / 2, "db-a1", 1, redundant=not 20 <= t < 30) for t in range(80)]


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
    reads = [
        LedgerRead(database, home, home, t / 10, t / 10 + 0.01, Outcome.OK, "db-b1", {0: 10**6, 1: 10**6})
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
    return History(ops, reads, documents, back, http), rows


def judged(gap: float = GAP, **changes: object) -> tuple[Result, History]:
    made, rows = history(gap)
    made = replace(made, **changes)
    result = Result("primary-crash", RUN, "lab", {}, "kill -9", Moments(0.0, FAULT, 25.0, 35.0, END, copies_back=15.0))
    judge(
        result, made, {"db-a1": rows, "db-b1": rows}, expected_nodes=["db-a1", "db-b1"], rooms=["a", "b"], rates=RATES,
        objectives=facts.load(facts.resolve("lab")).objectives, takes_machines=False,
    )  # fmt: skip
    return result, made


def test_a_drill_in_which_all_went_well_holds() -> None:
    result, _ = judged()
    assert (result.verdict, result.findings, result.valid) == ("held", [], True)
    assert result.figures["write_gap"] == pytest.approx(GAP, abs=0.11)
    assert result.figures["redundancy_back"] == 5.0


def test_a_gap_longer_than_the_objective_fails() -> None:
    limit = facts.load(facts.resolve("lab")).objectives["write_gap"]["primary_crash"]
    result, _ = judged(gap=limit + 1)
    assert [p.what for p in result.promises if not p.held] == ["Longest time without an acknowledged write"]
    assert result.verdict == "failed"


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


@pytest.mark.parametrize("part", ["ledger", "reads", "documents"])
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
