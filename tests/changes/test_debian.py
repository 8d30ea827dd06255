"""Debian 12 to 13 on every host of a lab, under load, and back again; as `sias upgrade debian` does it anywhere.

Takes half an hour and more on two cores. What each host took, and what users felt, is printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from siasops import remote
from siasops.change import state as states
from siasops.cluster import absence
from siasops.cluster.check import check, healthy
from siasops.cluster.view import look
from siasops.errors import HELD
from siasops.inventory import ROOT, Inventory
from siasops.remote import Fleet
from siasops.upgrade import hosts

pytestmark = [pytest.mark.changes, pytest.mark.timeout(4 * 3600)]


def sias(*words: str, code: int = HELD) -> Any:
    """Run a command as people do; its progress goes to the terminal."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "sias"), *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == code, f"sias {' '.join(words)}: exit code {done.returncode}\n{done.stdout[-6000:]}"
    return json.loads(done.stdout) if "--json" in words else done.stdout


def debians(inventory: Inventory, fleet: Fleet) -> set[str]:
    return {found.debian if found else "silent" for found in hosts.states(fleet, inventory.hosts).values()}


def tell(inventory: Inventory, what: str, outcome: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Print seconds per host and phase, and what users felt."""
    state = next(s for s in states.every(inventory) if s.id == outcome["change"])
    totals: Counter[str] = Counter()
    for key, seconds in state.seconds.items():
        totals[key.split(":")[0] if key.split(":")[0] in inventory.hosts else "the rest"] += seconds
    with capsys.disabled():
        print(
            f"\n{what}: {sum(state.seconds.values()):.0f} s in all; "
            + ", ".join(f"{k} {v:.0f} s" for k, v in totals.items())
        )
        print(json.dumps(state.seconds, indent=1))
        for promise in outcome["felt"]["promises"]:
            print(f"  {'held    ' if promise['held'] else 'not held'}  {promise['what']}: {promise['found']}")
        print(json.dumps(outcome["felt"]["figures"], indent=1, default=str))


@pytest.fixture
def fleet(lab: Inventory) -> Iterator[Fleet]:
    """A lab on Debian 12 whose repositories were proven to restore."""
    with remote.connect(lab) as opened:
        if debians(lab, opened) != {"12"}:
            pytest.skip("the lab does not run Debian 12 everywhere: make destroy, then make lab DEBIAN=12")
        for letter in lab.rooms:
            host = lab.group("databases", room=letter)[0].name
            sias("backup", "restore", "--room", letter, "--to-latest", "--on", host)
        yield opened


def test_every_host_goes_to_the_next_debian_and_back_and_nobody_notices(
    lab: Inventory, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = sias("upgrade", "debian", "plan", "--json")
    assert {phase["key"] for phase in planned["phases"]} >= {f"{name}:return" for name in lab.hosts}
    before = look(lab, fleet)
    assert sias("upgrade", "debian", "check", "--json")["held"]

    there = sias("upgrade", "debian", "run", "--yes", "--json")
    tell(lab, "Debian 12 to 13", there, capsys)
    assert there["held"], there["sentence"]
    assert debians(lab, fleet) == {"13"}
    sias("upgrade", "debian", "verify")
    after = look(lab, fleet)
    assert healthy(check(after))
    assert [member.version.split(".")[0] for member in after.members] == [
        m.version.split(".")[0] for m in before.members
    ]
    assert {m.system_id for m in after.members} == {m.system_id for m in before.members}
    assert absence.away(fleet) == []
    # The second run finds nothing to do, and the playbook nothing to change.
    assert "nothing to do" in sias("upgrade", "debian", "run", "--yes")
    sias("lab", "up")
    assert debians(lab, fleet) == {"13"}, "`sias lab up` took the lab for another one"

    back = sias("upgrade", "debian", "rollback", "--yes", "--json")
    tell(lab, "and back to Debian 12", back, capsys)
    assert back["held"], back["sentence"]
    fleet.rebuilt(lab.hosts)
    assert debians(lab, fleet) == {"12"}
    home = look(lab, fleet)
    assert healthy(check(home))
    assert {m.system_id for m in home.members} == {m.system_id for m in before.members}
    assert "nothing to go back from" in sias("upgrade", "debian", "rollback", "--yes")
    sias("backup", "check")
