"""The ledger against a real PostgreSQL that is killed under it, and one whose rows are tampered with."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from siasops.drill import checker
from siasops.drill.history import History, LedgerRow, Outcome, load, records

from .conftest import Server, wait_for

DOOR = [{"host": "localhost", "address": "127.0.0.1"}]


def describe(server: Server, folder: Path, run: str) -> dict[str, Any]:
    return {
        "run": run, "folder": str(folder), "rooms": {"a": DOOR, "b": DOOR}, "port": server.port, "user": "postgres",
        "password": "unused", "sslmode": "disable", "ca": "", "database": "postgres", "replica_database": "postgres",
        "clients": 4, "period": 0.02, "read_period": 0.05,
    }  # fmt: skip


@contextmanager
def writing(server: Server, folder: Path, run: str) -> Iterator[Path]:
    """Run the workload as the drill does; stops it by closing its standard input."""
    log = folder / "ledger.jsonl"
    with subprocess.Popen(
        [sys.executable, "-m", "siasops.drill.workloads.ledger"], stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(describe(server, folder, run)) + "\n")
        process.stdin.flush()
        wait_for(lambda: acknowledged(log) > 40)
        yield log
        process.stdin.close()
        assert process.wait(20) == 0


def acknowledged(log: Path) -> int:
    """Writes that the log calls acknowledged (reads are logged there as well)."""
    return sum(1 for line in records(log) if line["e"] == "outcome" and line["outcome"] == "ok")


def rows(server: Server, run: str) -> list[LedgerRow]:
    with server.connect() as connection:
        found = connection.execute(
            "SELECT row_number, client, sequence, attempt, previous, hash FROM drill.ledger WHERE run = %s", [run]
        )
        return [LedgerRow(*row) for row in found]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def crashed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[History, list[LedgerRow], float]:
    folder = tmp_path_factory.mktemp("run")
    with writing(server, folder, "crash") as log:
        killed = time.monotonic()
        server.kill()
        time.sleep(1.0)
        server.start()
        before = acknowledged(log)
        wait_for(lambda: acknowledged(log) > before + 40)
    return load(folder), rows(server, "crash"), killed


Crashed = tuple[History, list[LedgerRow], float]


def test_no_acknowledged_write_is_lost_when_postgres_is_killed(crashed: Crashed) -> None:
    history, final, _ = crashed
    result = checker.check_ledger("crash", history.ledger, {"db": final}, ["db"])
    assert result.findings == []
    assert result.acknowledged > 80
    assert checker.check_reads(history.ledger, history.reads) == []


def test_the_gap_is_seen_from_the_last_write_before_to_the_first_after(crashed: Crashed) -> None:
    history, _, killed = crashed
    gap = checker.longest_gap(
        [op.ended or 0.0 for op in history.ledger if op.outcome is Outcome.OK], killed, history.ledger[-1].invoked
    )
    assert gap is not None
    assert 1.0 <= gap.seconds < 20.0
    assert gap.start <= killed + 0.1


def test_a_row_that_is_deleted_by_hand_is_found(crashed: Crashed, server: Server) -> None:
    history, _, _ = crashed
    with server.connect() as connection:
        connection.execute("DELETE FROM drill.ledger WHERE run = 'crash' AND client = 2 AND sequence = 3")
    result = checker.check_ledger("crash", history.ledger, {"db": rows(server, "crash")}, ["db"])
    assert result.lost == 1
    assert {f.rule for f in result.findings} >= {"no acknowledged write is lost", "no gap below an acknowledged write"}


def test_the_workload_ends_with_its_drill(server: Server, tmp_path: Path) -> None:
    with writing(server, tmp_path, "orphan") as log:
        pass
    assert json.loads(log.read_text().splitlines()[-1])["e"] == "end"
