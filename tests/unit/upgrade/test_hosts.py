"""One host's upgrade as the controller follows it: over lost links, a systemd that is replaced, and a reboot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from siasops import remote
from siasops.inventory import Inventory
from siasops.remote import UNREACHABLE, RemoteError, Result
from siasops.upgrade import hosts as program
from siasops.upgrade.hosts import Found, Offer, Road, parse_offer, parse_state
from tests.unit.cluster.conftest import Hosts

ROAD = Road("12", "13", "bookworm", "trixie")
STATE = """debian={debian}
boot={boot}
audit=
held=
free=73593400
free_boot=73593400
kernel=0
source=bookworm|Debian
source=bookworm-updates|Debian
source=bookworm-security|Debian
unit={unit}
result={result}
said=Setting up haproxy (3.0.11-1+deb13u5) ...
"""
# What apt 2.6 said of the platform's packages on Debian 12, shortened.
APT = """Reading package lists...
Calculating upgrade...
The following packages were automatically installed and are no longer required:
  libicu72 libpython3.11-stdlib python3.11
Use 'apt autoremove' to remove them.
The following packages will be REMOVED:
  libcurl4 libdb5.3 python3-distutils
  liburcu8 python3.11-venv*
The following NEW packages will be installed:
  gcc-14-base libicu76
225 upgraded, 58 newly installed, 23 to remove and 0 not upgraded.
Need to get 171 MB of archives.
After this operation, 1,166 MB of additional disk space will be used.
Do you want to continue? [Y/n] N
Abort.
"""


def said(debian: str = "12", boot: str = "x:1", unit: str = "inactive", result: str = "") -> str:
    return STATE.format(debian=debian, boot=boot, unit=unit, result=result)


@pytest.fixture
def hosts(lab: Inventory, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    return Hosts(lab)


def answers(*texts: str | None) -> Iterator[Result | str]:
    """Answers in turn; None is a lost link; the last one stands."""
    for text in texts:
        yield Result("db-b1", UNREACHABLE, "", "lost") if text is None else text
    while True:
        yield texts[-1] or ""


def test_a_host_says_how_it_stands() -> None:
    found = parse_state("db-b1", said())
    assert found.debian == "12"
    assert (found.free, found.kernel, found.held) == (73593400 * 1024, False, ())
    assert found.sources == (("bookworm", "Debian"), ("bookworm-security", "Debian"), ("bookworm-updates", "Debian"))
    assert found.whole


@pytest.mark.parametrize("state", [said(result="begun"), said(result="failed"), said(unit="active", result="begun"),
                                   said().replace("audit=", "audit=The following packages are half configured")])  # fmt: skip
def test_a_host_that_stands_half_way_is_not_whole(state: str) -> None:
    assert not parse_state("db-b1", state).whole


def test_half_an_answer_is_refused() -> None:
    with pytest.raises(RemoteError, match="db-b1 did not say how it stands"):
        parse_state("db-b1", "debian=12\nboot=x")


def test_what_apt_would_do_is_read() -> None:
    assert parse_offer(APT) == Offer(
        171_000_000, 1_166_000_000, ("libcurl4", "libdb5.3", "python3-distutils", "liburcu8", "python3.11-venv"), 283
    )
    fetched = APT.replace("Need to get 171 MB of", "Need to get 0 B/171 MB of")
    assert parse_offer(fetched).fetch == 0
    assert parse_offer("0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.").packages == 0


def test_a_mirror_without_the_release_is_said_in_words(hosts: Hosts) -> None:
    hosts.when("db-a1", " look ", lambda: APT)
    hosts.when("db-b1", " look ", lambda: Result("db-b1", 100, "", "E: The repository has no Release file."))
    hosts.when("witness", " look ", lambda: "0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n")
    found = program.offers(hosts, ["db-a1", "db-b1", "witness"], "bookworm", "trixie", lambda _: None)  # type: ignore[arg-type]
    assert isinstance(found["db-a1"], Offer)
    assert "no Release file" in str(found["db-b1"])
    assert "apt offers nothing" in str(found["witness"])


def test_the_end_is_believed_only_when_it_was_seen_several_times(hosts: Hosts) -> None:
    running, gone = said(unit="active", result="begun"), said(unit="inactive", result="begun")
    done = said("13", unit="inactive", result="done")
    # systemd is replaced (it knows of no unit for a moment), the link is lost, and only then it is over.
    states = answers(said(), running, gone, gone, running, None, gone, gone, gone, running, done)
    hosts.when("db-b1", "-- state", lambda: next(states))
    program.upgrade(hosts, "db-b1", ROAD, lambda _: None)  # type: ignore[arg-type]
    looks = len(hosts.told("-- state"))
    assert looks == 10 + program.STOPPED_LOOKS
    assert [line for _, line in hosts.told("on_host.sh start")] == [
        f"sh {program.HOME}/on_host.sh start bookworm trixie durable"
    ]


def test_what_is_done_is_not_done_again(hosts: Hosts) -> None:
    hosts.when("db-b1", "-- state", lambda: said("13", result="done"))
    program.upgrade(hosts, "db-b1", ROAD, lambda _: None)  # type: ignore[arg-type]
    assert len(hosts.log) == 1


def test_what_still_runs_is_followed_and_not_begun_twice(hosts: Hosts) -> None:
    states = answers(said(unit="active", result="begun"), said("13", result="done"))
    hosts.when("db-b1", "-- state", lambda: next(states))
    program.upgrade(hosts, "db-b1", ROAD, lambda _: None)  # type: ignore[arg-type]
    assert not hosts.told("on_host.sh start")


@pytest.mark.parametrize("end", [said("12", result="failed"), said("12", result="done"), said("13", result="begun")])
def test_a_failed_upgrade_stops_with_what_its_log_says(hosts: Hosts, end: str) -> None:
    states = answers(said(), end)
    hosts.when("db-b1", "-- state", lambda: next(states))
    hosts.when("db-b1", "^tail", lambda: "E: Sub-process /usr/bin/dpkg returned an error code (1)")
    with pytest.raises(RemoteError, match=r"db-b1: the upgrade of its packages failed.*\n.*error code \(1\)"):
        program.upgrade(hosts, "db-b1", ROAD, lambda _: None)  # type: ignore[arg-type]


def test_a_host_is_rebooted_once_and_waited_for(hosts: Hosts) -> None:
    states = answers(said(boot="x:1"), said(boot="x:1"), None, None, said(boot="x:2"))
    hosts.when("db-b1", "-- state", lambda: next(states))
    ready = iter(["starting", "degraded"])
    hosts.when("db-b1", "is-system-running", lambda: next(ready, "running"))
    program.reboot(hosts, "db-b1", "x:1")  # type: ignore[arg-type]
    assert len(hosts.told("-- reboot")) == 1
    program.reboot(hosts, "db-b1", "x:1", limit=0)  # type: ignore[arg-type]
    assert len(hosts.told("-- reboot")) == 1


def test_a_host_that_does_not_come_back_is_named(hosts: Hosts) -> None:
    states = answers(said(boot="x:1"), None)
    hosts.when("db-b1", "-- state", lambda: next(states))
    with pytest.raises(RemoteError, match="db-b1 is back from its reboot"):
        program.reboot(hosts, "db-b1", "x:1", limit=0)  # type: ignore[arg-type]


def test_a_road_takes_its_names_from_the_platform(lab: Inventory) -> None:
    assert Road.of(lab, {"from": "12", "to": "13"}) == ROAD


def test_a_silent_host_is_none(hosts: Hosts) -> None:
    hosts.when("db-a1", "-- state", said)
    hosts.when("db-b1", "-- state", lambda: Result("db-b1", UNREACHABLE, "", ""))
    found = program.states(hosts, ["db-a1", "db-b1"])  # type: ignore[arg-type]
    assert isinstance(found["db-a1"], Found)
    assert found["db-b1"] is None
