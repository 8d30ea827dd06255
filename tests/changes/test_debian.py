"""Debian 12 to 13 on every host of a lab, under load, and back again; as `sias upgrade debian` does it anywhere.

And the same when a host loses its power on the way, and when users wait: nothing more is taken away from them.

Takes an hour and more on two cores. What each host took, and what users felt, is printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from siasops.change import state as states
from siasops.cluster import absence
from siasops.cluster.check import check, healthy
from siasops.cluster.view import look
from siasops.drill.history import read_http, records
from siasops.errors import COULD_NOT_RUN
from siasops.inventory import Inventory
from siasops.lab.provider import provider
from siasops.remote import Fleet
from tests.changes.conftest import Begun, change, debians, sias, told

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


def test_a_host_that_is_lost_stops_it_and_users_who_wait_lose_no_other_one(
    inventory: Inventory, lab_of: Callable[[str, str], Fleet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab, fleet = inventory, lab_of("12", "15")
    planned = sias("upgrade", "debian", "plan", "--json")
    first, second, *_ = (phase["key"].split(":")[0] for phase in planned["phases"] if phase["key"].endswith(":leave"))
    power = provider(lab)

    run = Begun(tmp_path, "upgrade", "debian", "run")
    assert run.until(lambda: run.says(f"{first}: deploy it")), run.said()[-3000:]
    time.sleep(5)  # into the playbook
    power.power_cut([lab.hosts[first]])
    assert run.end() == COULD_NOT_RUN, run.said()[-3000:]
    assert f"stopped at “{first}: deploy it" in run.said()
    state = states.unfinished(lab)
    assert state is not None
    (log,) = state.folder.glob("*/http.jsonl*")
    requests = read_http(records(log.with_name("http.jsonl")))
    failed = [op for op in requests if not op.ok]
    with capsys.disabled():
        print(f"{first} was lost: {len(failed)} of {len(requests)} requests failed\n{run.said()[-600:]}")
    assert failed == []
    assert len(requests) > 100
    fleet.forget([first])
    assert look(lab, fleet).leader is not None
    power.power_on([lab.hosts[first]])

    # It goes on with that host; then users wait, and the next one is not taken away from them.
    run = Begun(tmp_path, "upgrade", "debian", "run")
    assert run.until(lambda: run.says(f"{first}: it serves again")), run.said()[-3000:]
    applications = [host.name for host in lab.group("applications")]
    fleet.forget(lab.hosts)
    fleet.run_all("true", hosts=applications)  # connected: users are looked at for a second or two
    assert run.until(lambda: run.says(f"{second}: its users")), run.said()[-3000:]
    fleet.run_all("systemctl stop --no-block sias-web", hosts=applications)
    try:
        assert run.until(lambda: run.says("users wait:")), run.said()[-3000:]
        time.sleep(5)
        assert absence.away(fleet) == []
        assert not run.says(f"{second}: packages of")
    finally:
        fleet.run_all("systemctl start sias-web", hosts=applications)
    assert run.until(lambda: run.says(f"{second}: packages of")), run.said()[-3000:]
    time.sleep(10)  # into what apt does
    run.stop()
    assert run.end() == COULD_NOT_RUN, run.said()[-3000:]

    back = change("upgrade", "debian", "rollback")
    with capsys.disabled():
        print(told(lab, "and back, from half-way", back, by_host))
    fleet.rebuilt(lab.hosts)
    assert debians(lab, fleet) == {"12"}
    assert healthy(check(look(lab, fleet)))
    assert back["held"], back["sentence"]
