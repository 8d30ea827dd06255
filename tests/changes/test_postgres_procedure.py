"""PostgreSQL 15 to 17 on the platform itself, under load, and back again; as `sias migrate postgres` does it anywhere.

Wants a lab on Debian 13 whose cluster is still 15 (`sias upgrade debian` leaves it so). Takes half an hour and more on two cores.
What each phase took, how long clients were held, and what users felt, is printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from siasops import remote
from siasops.change import state as states
from siasops.cluster import instance
from siasops.cluster.check import check, healthy
from siasops.cluster.view import look
from siasops.errors import HELD, VERDICT_FAILED
from siasops.inventory import ROOT, Inventory
from siasops.migrate.database import Psql
from siasops.remote import Fleet

pytestmark = [pytest.mark.changes, pytest.mark.timeout(4 * 3600)]
COUNT = "SELECT count(*) AS n, (SELECT setting FROM pg_settings WHERE name = 'server_version') AS v FROM public.repertoire_person"


def sias(*words: str, code: int = HELD) -> Any:
    """Run a command as people do; its progress goes to the terminal."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "sias"), *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == code, f"sias {' '.join(words)}: exit code {done.returncode}\n{done.stdout[-6000:]}"
    return json.loads(done.stdout) if "--json" in words else done.stdout


def persons(inventory: Inventory, fleet: Fleet) -> tuple[int, str]:
    """How many there are, and the major version that says so: the one that serves."""
    serving = instance.learn(inventory, fleet).serving
    leader = look(inventory, fleet).leader
    assert leader is not None
    (row,) = Psql(fleet, leader.host, serving.postgres, inventory.cluster).ask(COUNT)
    return row["n"], row["v"].split(".")[0]


def tell(inventory: Inventory, what: str, outcome: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Print seconds per phase, the cutover's steps, and what users felt."""
    state = next(s for s in states.every(inventory) if s.id == outcome["change"])
    journal = [json.loads(line) for line in (state.folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()]
    with capsys.disabled():
        print(f"\n{what}: {sum(state.seconds.values()):.0f} s in all\n{json.dumps(state.seconds, indent=1)}")
        print(json.dumps([line for line in journal if line.get("event") == "cutover"], indent=1))
        for promise in outcome["felt"]["promises"]:
            print(f"  {'held    ' if promise['held'] else 'not held'}  {promise['what']}: {promise['found']}")
        print(json.dumps(outcome["felt"]["figures"], indent=1, default=str))


@pytest.fixture
def fleet(inventory: Inventory) -> Iterator[Fleet]:
    """A whole lab on Debian 13 whose PostgreSQL is 15; at the end it is so again."""
    assert inventory.is_lab, "only in a lab"
    with remote.connect(inventory) as made:
        if persons(inventory, made)[1] != "15":
            pytest.skip("its PostgreSQL is not 15: `sias upgrade debian` from Debian 12 leaves a lab on 13 with it")
        release = made.run(inventory.group("databases")[0].name, "cat /etc/os-release", check=True).stdout
        if "trixie" not in release:
            pytest.skip("it is no Debian 13, whose archive has PostgreSQL 17")
        yield made


def test_postgresql_17_serves_and_15_serves_again_while_nobody_notices(
    inventory: Inventory, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    before, _ = persons(inventory, fleet)
    assert before > 0
    assert sias("migrate", "postgres", "check", "--json")["held"]

    outcome = sias("migrate", "postgres", "run", "--yes", "--json")
    tell(inventory, "There", outcome, capsys)
    assert persons(inventory, fleet)[1] == "17"
    assert persons(inventory, fleet)[0] >= before
    assert healthy(check(look(inventory, fleet)))
    assert "nothing to do" in sias("migrate", "postgres", "run", "--yes")
    assert sias("migrate", "postgres", "verify", "--json")["held"]
    # Only asked: the way back is what is tried next.
    assert "Nothing was touched" in sias("migrate", "postgres", "settle")

    outcome = sias("migrate", "postgres", "rollback", "--yes", "--json")
    tell(inventory, "Back", outcome, capsys)
    assert persons(inventory, fleet)[1] == "15"
    assert persons(inventory, fleet)[0] >= before
    now = instance.learn(inventory, fleet)
    assert now.beside is None
    assert healthy(check(look(inventory, fleet)))
    left = "/var/lib/postgresql/17/sias /var/lib/postgresql/15/sias-copy /etc/systemd/system/patroni-green.service"
    for host in inventory.group("databases"):
        assert fleet.run(host.name, f"ls -d {left} 2>/dev/null").stdout == ""
    assert "nothing to go back from" in sias("migrate", "postgres", "rollback", "--yes")
    sias("migrate", "postgres", "verify", code=VERDICT_FAILED)
