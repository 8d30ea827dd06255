"""Logs are read as they were written, also when their writer was killed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from siasops.drill.history import Outcome, load, pack, records
from siasops.drill.workloads.base import Log

INTENT = {"t": 1.0, "e": "intent", "client": 0, "sequence": 1, "attempt": 1, "hash": "h", "home": "a", "via": "a"}
OUTCOME = {
    "t": 1.2, "e": "outcome", "client": 0, "sequence": 1, "attempt": 1, "outcome": "ok", "row": 7,
    "node": "192.168.56.11", "timeline": 3,
}  # fmt: skip


def write(path: Path, *lines: object, torn: str = "") -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)


def test_an_intent_without_an_outcome_is_unknown(tmp_path: Path) -> None:
    write(tmp_path / "ledger.jsonl", INTENT)
    assert load(tmp_path).ledger[0].outcome is Outcome.UNKNOWN


def test_an_outcome_completes_its_intent_and_names_the_node(tmp_path: Path) -> None:
    write(tmp_path / "ledger.jsonl", INTENT, OUTCOME)
    op = load(tmp_path, {"192.168.56.11": "db-a1"}).ledger[0]
    assert (op.outcome, op.node, op.timeline, op.row, op.ended) == (Outcome.OK, "db-a1", 3, 7, 1.2)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", INTENT, torn='{"t": 2, "e": "outc')
    assert len(list(records(tmp_path / "x.jsonl"))) == 1


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"t": 1}\nrubbish\n{"t": 2}\n')
    with pytest.raises(ValueError, match="line 2"):
        list(records(tmp_path / "x.jsonl"))


def test_an_intent_is_on_the_disk_before_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"

    async def work() -> None:
        log = Log(path)
        await log.durable("intent", number=1)
        assert json.loads(path.read_text())["number"] == 1
        await asyncio.gather(*(log.durable("intent", number=n) for n in range(2, 50)))
        assert len(path.read_text().splitlines()) == 49
        log.note("end")
        await log.close()

    asyncio.run(work())
    assert json.loads(path.read_text().splitlines()[-1])["e"] == "end"


def test_packed_logs_are_read_as_before(tmp_path: Path) -> None:
    write(tmp_path / "ledger.jsonl", INTENT, OUTCOME)
    before = load(tmp_path)
    pack(tmp_path)
    assert not (tmp_path / "ledger.jsonl").exists()
    assert load(tmp_path) == before
