"""PostgreSQL 15 to 17 on the platform itself, under load, and back again; as `sias migrate postgres` does it anywhere.

And the same while its controller is killed in the cutover, and while hosts lose their power: whatever happens, one cluster serves
and holds every acknowledged write.

Wants a lab on Debian 13 whose cluster is still 15 (`sias upgrade debian` leaves it so). Takes an hour and more on two cores.
What each phase took, how long clients were held, and what users felt, is printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from siasops.change import state as states
from siasops.change.watch import Watch
from siasops.cluster import instance
from siasops.cluster.check import check, healthy
from siasops.cluster.view import look
from siasops.console import Progress
from siasops.drill.faults import Stage
from siasops.drill.run import converge
from siasops.errors import COULD_NOT_RUN, HELD, VERDICT_FAILED
from siasops.inventory import Inventory
from siasops.lab.machines import provider
from siasops.migrate.database import Psql
from siasops.migrate.sides import Side
from siasops.remote import Fleet
from tests.changes.conftest import Begun, bear, sias, to_17, told

pytestmark = [pytest.mark.changes, pytest.mark.timeout(4 * 3600)]
COUNT = "SELECT count(*) AS n, (SELECT setting FROM pg_settings WHERE name = 'server_version') AS v FROM public.repertoire_person"

KEPT = {"Acknowledged writes lost", "Duplicates", "Unknown writes resolved", "Acknowledged documents lost"}
"""Promises that hold whoever dies; how long users wait then is another matter."""
DELAYS = (0.0, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Seconds from the moment at which clients are held until the controller is killed."""
SERVED_LIMIT = 60.0
"""Seconds for users to be served again after a controller's death; the watchers need 7."""


def persons(inventory: Inventory, fleet: Fleet) -> tuple[int, str]:
    """How many there are, and the major version that says so: the one that serves."""
    serving = instance.learn(inventory, fleet).serving
    leader = look(inventory, fleet).leader
    assert leader is not None
    (row,) = Psql(fleet, leader.host, serving.postgres, inventory.cluster).ask(COUNT)
    return row["n"], row["v"].split(".")[0]


@pytest.fixture
def fleet(lab_of: Callable[[str, str], Fleet]) -> Fleet:
    """A whole lab on Debian 13 whose PostgreSQL is 15; at the end it is so again."""
    return lab_of("13", "15")


def test_postgresql_17_serves_and_15_serves_again_while_nobody_notices(
    inventory: Inventory, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    before, _ = persons(inventory, fleet)
    assert before > 0
    assert sias("migrate", "postgres", "check", "--json")["held"]

    outcome = to_17(inventory)
    with capsys.disabled():
        print(told(inventory, "There", outcome, str))
    assert outcome["held"], outcome["sentence"]
    assert persons(inventory, fleet)[1] == "17"
    assert persons(inventory, fleet)[0] >= before
    assert healthy(check(look(inventory, fleet)))
    assert "nothing to do" in sias("migrate", "postgres", "run", "--yes")
    assert sias("migrate", "postgres", "verify", "--json")["held"]
    # The schema is held still until it is settled: what deploys the platform runs all the same.
    for host in inventory.group("applications"):
        assert fleet.run(host.name, "sias-manage migrate --no-input").ok
    # Only asked: the way back is what is tried next.
    assert "Nothing was touched" in sias("migrate", "postgres", "settle")

    outcome = sias("migrate", "postgres", "rollback", "--yes", "--json")
    with capsys.disabled():
        print(told(inventory, "Back", outcome, str))
    assert outcome["held"], outcome["sentence"]
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


@contextmanager
def load(inventory: Inventory, fleet: Fleet, folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Watch]:
    """The drills' whole load for the block; at its end nothing that was acknowledged is missing anywhere."""
    folder.mkdir()
    watch = Watch(
        Stage(inventory, fleet), "postgres", f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{folder.name}", folder, Progress()
    )
    try:
        watch.start()
        yield watch
        felt = watch.judge(folder.name, [])
    finally:
        watch.stop()
    with capsys.disabled():
        for promise in felt.promises:
            print(f"  {'held    ' if promise.held else 'not held'}  {promise.what}: {promise.found}")
    assert {promise.what for promise in felt.promises if promise.held} >= KEPT


def begin(verb: str, folder: Path) -> Begun:
    """Begin `run` or `rollback`, under the load that is there already."""
    return Begun(folder, "migrate", "postgres", verb, "--no-load")


def cuts_over(inventory: Inventory, verb: str, folder: Path) -> tuple[Begun, bool]:
    """Begin, and wait until clients are held for a cutover; a finding of the plan gate that is known is borne on the way.

    Returns:
        The command, and whether it cuts over: without, it has ended, for there was no cutover left to do.
    """
    for _ in range(2):
        begun = begin(verb, folder)
        if begun.until(lambda begun=begun: begun.says("clients wait from now on")):
            return begun, True
        if begun.end() != COULD_NOT_RUN or not bear(inventory):
            break
    return begun, False


def served_after(watch: Watch, since: float) -> float:
    """Seconds from a moment until a write that began later was acknowledged."""
    end = time.monotonic() + SERVED_LIMIT
    while time.monotonic() < end:
        times = [op.ended for op in watch.history().ledger if op.ended and op.outcome == "ok" and op.invoked > since]
        if times:
            return min(times) - since
        time.sleep(0.5)
    raise AssertionError(f"nobody could write for {SERVED_LIMIT:.0f} s")


def test_a_controller_that_is_killed_in_the_cutover_leaves_one_side_that_serves(
    inventory: Inventory, fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = 0
    with load(inventory, fleet, tmp_path / "killed", capsys) as watch:
        for verb, major in (("run", "17"), ("rollback", "15")):
            for delay in DELAYS:
                begun, cuts = cuts_over(inventory, verb, tmp_path)
                if not cuts:
                    break
                time.sleep(delay)
                begun.kill()
                waited = served_after(watch, time.monotonic())
                cut += 1
                with capsys.disabled():
                    print(f"{verb}: killed {delay:.2f} s into the cutover, the next write after {waited:.2f} s")
            else:
                begun = begin(verb, tmp_path)
            assert begun.end() == HELD, begun.said()[-3000:]
            assert persons(inventory, fleet)[1] == major
            assert healthy(check(look(inventory, fleet)))
    assert cut >= 2, "no cutover was cut short"


@pytest.mark.parametrize("leads", ["both", "the new one", "the old one"])
def test_a_host_that_is_lost_in_the_cutover_loses_nothing(
    leads: str, inventory: Inventory, fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    power = provider(inventory)
    stage = Stage(inventory, fleet)

    def lose(name: str) -> None:
        power.power_cut([inventory.hosts[name]])
        fleet.forget([name])

    def bring_back(name: str) -> None:
        power.power_on([inventory.hosts[name]])
        converge(stage, Progress())

    def leaders() -> tuple[str, str]:
        """Who leads the old cluster, and who leads the new one."""
        now = instance.learn(inventory, fleet)
        assert now.beside is not None
        old, new = (Side(inventory, fleet, one).leader() for one in (now.serving, now.beside))
        return old, new

    with load(inventory, fleet, tmp_path / "lost", capsys):
        begun = begin("run", tmp_path)
        assert begun.until(lambda: begun.says("A full backup of PostgreSQL 17")), begun.said()
        begun.kill()
        if leads == "both":
            # The new cluster fails over while it follows, to the host that leads the old one: it goes on following.
            _, lost = leaders()
            lose(lost)
            time.sleep(5)
            bring_back(lost)
        old, new = leaders()
        assert (old == new) == (leads == "both")
        # Then in the cutover: back, or forward when it was decided.
        begun, cuts = cuts_over(inventory, "run", tmp_path)
        assert cuts, begun.said()[-3000:]
        lost = new if leads == "the new one" else old
        lose(lost)
        code = begun.end()
        bring_back(lost)
        with capsys.disabled():
            print(f"{lost} was lost, who led {leads}: exit {code}, {begun.said()[-600:]}")
        begun = begin("run", tmp_path)
        begun.end()
        state = states.every(inventory)[0]
        assert state.status in {"done", "rolled back"}, begun.said()[-3000:]
        version = persons(inventory, fleet)[1]
        assert version == ("17" if state.status == "done" else "15")
        if version == "17":
            begun = begin("rollback", tmp_path)
            assert begun.end() == HELD, begun.said()[-3000:]
        assert persons(inventory, fleet)[1] == "15"
        assert healthy(check(look(inventory, fleet)))
