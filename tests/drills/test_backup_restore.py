"""A mistake is undone: rows are written, changed by mistake, and read back as they were a moment before."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from siasops import remote
from siasops.backup import archive
from siasops.backup.catalogue import repository_hosts
from siasops.backup.restore import BASE, PREFIX
from siasops.inventory import ROOT, Inventory
from siasops.remote import Fleet

ROWS = 1000
"""Rows before the backup, and as many after it."""
MAKE = """
DROP TABLE IF EXISTS drill.restoration;
CREATE TABLE drill.restoration (n bigint PRIMARY KEY, text text);
INSERT INTO drill.restoration SELECT n, md5(n::text) FROM generate_series(1, 1000) n;
"""
ADD = "INSERT INTO drill.restoration SELECT n, md5(n::text) FROM generate_series(1001, 2000) n"
SPOIL = """
UPDATE drill.restoration SET text = 'mistake' WHERE n % 2 = 0;
DELETE FROM drill.restoration WHERE n <= 10;
"""
FINGERPRINT = (
    "SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM drill.restoration t"
)
NOW = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00:00'"


@pytest.fixture
def fleet(lab: Inventory) -> Iterator[Fleet]:
    with remote.connect(lab) as connected:
        yield connected


def sias(*arguments: str) -> tuple[int, str]:
    """Run the command as an operator would; exit code and standard output."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "sias"), "backup", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=900, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def primary(lab: Inventory, fleet: Fleet) -> str:
    found = archive.look(lab, fleet)
    assert found is not None, "no database host is primary"
    return found.host


def ask(fleet: Fleet, host: str, sql: str) -> str:
    command, stdin = archive.psql(sql, database="sias")
    return fleet.run(host, command, timeout=60, stdin=stdin, check=True).stdout.strip()


@pytest.mark.parametrize("room", ["a", "b"])
def test_a_moment_before_a_mistake_reads_back_exactly_from_the_repository_of_each_room(
    lab: Inventory, fleet: Fleet, room: str
) -> None:
    leader = primary(lab, fleet)
    ask(fleet, leader, MAKE)
    code, _ = sias("take", "--type", "incr", "--room", room)
    assert code == 0

    ask(fleet, leader, ADD)
    expected = ask(fleet, leader, FINGERPRINT)
    moment = ask(fleet, leader, NOW)
    time.sleep(0.01)  # the mistake gets a later microsecond
    ask(fleet, leader, SPOIL)
    spoilt = ask(fleet, leader, FINGERPRINT)
    assert spoilt != expected

    code, output = sias("restore", "--room", room, "--to-time", moment, "--query", FINGERPRINT, "--json")
    assert code == 0, output
    proof = json.loads(output)
    assert proof["queries"][FINGERPRINT] == expected
    assert proof["rows"]["drill.restoration"] == 2 * ROWS
    assert proof["room"] == room

    assert ask(fleet, leader, FINGERPRINT) == spoilt, "the live database is not what it was"
    left = fleet.run_all(f"ls -d {BASE}/{PREFIX}* 2>/dev/null", hosts=[host.name for host in lab.group("databases")])
    assert not any(result.stdout for result in left.values()), "a copy was left behind"
    ask(fleet, leader, "DROP TABLE drill.restoration")


def test_the_latest_state_restores_with_every_row_of_the_live_database(lab: Inventory) -> None:
    for repository in repository_hosts(lab):
        code, output = sias("restore", "--room", repository.room, "--to-latest", "--json")
        assert code == 0, output
        assert json.loads(output)["held"]


def test_backups_meet_their_objectives(lab: Inventory) -> None:
    code, output = sias("check", "--json")
    assert code == 0, output
    assert all(line["ok"] for line in json.loads(output)["lines"])
