"""Debian 12 to 13 on every host of a lab, under load, and back again; as `sias upgrade debian` does it anywhere.

Takes half an hour and more on two cores. What each host took, and what users felt, is printed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from siasops.cluster import absence
from siasops.cluster.check import check, healthy
from siasops.cluster.view import look
from siasops.inventory import Inventory
from siasops.remote import Fleet
from tests.changes.conftest import change, debians, sias, told

pytestmark = [pytest.mark.changes, pytest.mark.timeout(4 * 3600)]


def by_host(key: str) -> str:
    """Name the host that a phase is about."""
    return key.split(":", maxsplit=1)[0] if ":" in key else "the rest"


def test_every_host_goes_to_the_next_debian_and_back_and_nobody_notices(
    inventory: Inventory, lab_of: Callable[[str, str], Fleet], capsys: pytest.CaptureFixture[str]
) -> None:
    lab, fleet = inventory, lab_of("12", "15")
    planned = sias("upgrade", "debian", "plan", "--json")
    assert {phase["key"] for phase in planned["phases"]} >= {f"{name}:return" for name in lab.hosts}
    before = look(lab, fleet)
    assert sias("upgrade", "debian", "check", "--json")["held"]

    there = change("upgrade", "debian", "run")
    with capsys.disabled():
        print(told(lab, "Debian 12 to 13", there, by_host))
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

    back = change("upgrade", "debian", "rollback")
    with capsys.disabled():
        print(told(lab, "and back to Debian 12", back, by_host))
    fleet.rebuilt(lab.hosts)
    assert debians(lab, fleet) == {"12"}
    home = look(lab, fleet)
    assert healthy(check(home))
    assert {m.system_id for m in home.members} == {m.system_id for m in before.members}
    assert "nothing to go back from" in sias("upgrade", "debian", "rollback", "--yes")
    sias("backup", "check")
    for way in (there, back):
        assert way["held"], way["sentence"]
