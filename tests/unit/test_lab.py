"""A lab that somebody left behind is cleared with a sentence; it never makes a command fail."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from siasops import inventory as facts
from siasops.change import state as states
from siasops.change.state import State
from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory
from siasops.lab import deploy, machines, owners
from siasops.lab.provider import Lxc


@dataclasses.dataclass
class Machine:
    """A pretended machine: containers as folders, and what was said."""

    inventory: Inventory
    containers: Path
    said: list[str]

    def container(
        self, name: str, *, whole: bool = True, known: bool = True, key: bool = True, environment: str = "lab"
    ) -> Path:
        path = self.containers / f"sias-{environment}-{name}"
        (path / "rootfs" / "sbin").mkdir(parents=True) if whole else path.mkdir(parents=True)
        if known:
            identity = self.inventory.state / "vagrant" / "machines" / name / "lxc" / "id"
            identity.parent.mkdir(parents=True)
            identity.write_text(path.name)
            if key:
                (identity.parent / "private_key").write_text("key")
        return path

    def half_way(self) -> State:
        """A change that was begun on these machines and came to no end."""
        folder = states.home(self.inventory) / "x"
        folder.mkdir()
        state = State("x", "paint", "lab", "paint it red", {}, "2026-01-01T00:00:00+00:00", folder=folder)
        state.write()
        return state

    def clear(self, release: str = "12", *, beside: bool = False) -> None:
        machines.clear_leftovers(self.inventory, release, self.said.append, beside=beside)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    containers = tmp_path / "lxc"
    containers.mkdir()
    monkeypatch.setattr(machines, "CONTAINERS", containers)
    monkeypatch.setattr(machines, "HOME", tmp_path / "home")
    monkeypatch.setattr(owners, "OWNERS", tmp_path / "home" / "owners")
    monkeypatch.setattr(Inventory, "var", property(lambda _self: tmp_path / "var"))
    (tmp_path / "home").mkdir()
    return Machine(facts.load(ROOT / "inventory" / "lab.yml"), containers, [])


def own(checkout: str = str(ROOT), environment: str = "lab", debian: str = "12") -> None:
    owners.Owner(checkout, environment, debian).write()


def test_our_own_machines_are_left_alone(machine: Machine) -> None:
    own()
    path = machine.container("db-a1")
    machine.clear()
    assert path.exists()
    assert machine.said == []


@pytest.mark.parametrize(
    ("owner", "reason"),
    [
        ({"checkout": "/elsewhere"}, "another checkout (/elsewhere) made it"),
        ({"debian": "13"}, "it runs Debian 13, Debian 12 was asked for"),
        (None, "no record says who made it"),
    ],
    ids=["another checkout", "another release", "nobody"],
)
def test_machines_that_are_not_of_this_lab_are_cleared(
    machine: Machine, owner: dict[str, str] | None, reason: str
) -> None:
    if owner is not None:
        own(**owner)
    path = machine.container("db-a1")
    machine.clear()
    assert not path.exists()
    assert machine.said == [f"cleared container sias-lab-db-a1: {reason}"]
    assert not (machine.inventory.state / "vagrant").exists()


@pytest.mark.parametrize("how", ["cleared for another release", "destroyed"])
def test_a_change_that_stands_half_way_ends_with_the_lab_that_it_was_made_on(machine: Machine, how: str) -> None:
    own()
    machine.container("db-a1")
    change = machine.half_way()
    machine.clear()
    assert states.unfinished(machine.inventory) == change  # one machine is left to go on with
    if how == "destroyed":
        machines.destroy(machine.inventory, machine.said.append)
    else:
        machine.clear("13")
    assert [(state.status, state.why) for state in states.every(machine.inventory)] == [
        ("abandoned", "the lab was removed")
    ]
    assert machine.said[-1] == "x (paint it red) stood half-way and ended with it"


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside"])
def test_the_lab_of_another_environment_goes_unless_asked_to_stay(machine: Machine, beside: bool) -> None:
    own()
    own(environment="lab-full")
    ours, theirs = machine.container("db-a1"), machine.container("db-a2", known=False, environment="lab-full")
    machine.clear(beside=beside)
    assert ours.exists()
    assert theirs.exists() is beside
    assert machine.said == ([] if beside else [f"cleared container {theirs.name}: it is the environment lab-full"])


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("whole", "it is half-built"), ("key", "Vagrant was interrupted before it gave it a key")],
)
def test_a_half_built_machine_is_cleared_and_the_others_stay(machine: Machine, missing: str, reason: str) -> None:
    own()
    half, whole = machine.container("db-a1", **{missing: False}), machine.container("db-b1")
    machine.clear()
    assert not half.exists()
    assert whole.exists()
    assert machine.said == [
        f"cleared container sias-lab-db-a1: {reason}",
        "forgot machine db-a1: its container is gone",
    ]


def test_a_machine_that_vagrant_does_not_know_is_cleared(machine: Machine) -> None:
    own()
    path = machine.container("db-a1", known=False)
    machine.clear()
    assert not path.exists()


def test_an_unreadable_record_counts_as_none(machine: Machine) -> None:
    own()
    (owners.OWNERS / "lab.json").write_text("{half")
    assert machines.owner("lab") is None


def test_a_half_built_box_is_cleared_before_another_is_built(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "CACHE", tmp_path)
    half = tmp_path / "boxes" / ".box.abc"
    half.mkdir(parents=True)
    whole = machines.box(machine.inventory, "12")
    whole.write_bytes(b"box")
    assert machines.build_box(machine.inventory, "12", machine.said.append) == whole
    assert not half.exists()
    assert "half-built" in machine.said[0]


def test_the_lock_of_a_killed_run_is_free(machine: Machine) -> None:
    holder = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from siasops import inventory
        from siasops.lab import machines
        machines.HOME = Path(sys.argv[1])
        with machines.lock(inventory.load(inventory.ROOT / "inventory" / "lab.yml"), "holder", print):
            print("held", flush=True)
            time.sleep(60)
    """)
    command = [sys.executable, "-c", holder, str(machines.HOME)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=rf"held by holder \(pid {run.pid}"),
            machines.lock(machine.inventory, "second", print, deadline=0),
        ):
            pass
        run.kill()
    with machines.lock(machine.inventory, "third", print, deadline=5):
        assert f"pid {os.getpid()}" in (machines.HOME / "lock-lab").read_text()


def test_the_release_is_the_one_asked_for_then_the_one_there_then_the_default(machine: Machine) -> None:
    assert machines.release_for(machine.inventory, None) == "12"
    own(debian="13")
    assert machines.release_for(machine.inventory, None) == "13"
    assert machines.release_for(machine.inventory, "12") == "12"
    with pytest.raises(UserError, match="Debian “11” is unknown here; known: 12, 13"):
        machines.release_for(machine.inventory, "11")


def test_secrets_are_made_once_and_readable_by_their_owner_alone(machine: Machine) -> None:
    machines.make_secrets(machine.inventory, machine.said.append)
    first = machine.inventory.secrets()
    machines.make_secrets(machine.inventory, machine.said.append)
    assert machine.inventory.secrets() == first
    assert len(set(first.values())) == len(first) > 10
    assert machine.inventory.secrets_file.stat().st_mode & 0o077 == 0
    assert not any(value in "".join(machine.said) for value in first.values())


def test_the_recap_of_a_run_is_read() -> None:
    match = deploy._RECAP.match(
        "db-a1                      : ok=18   changed=2    unreachable=0    failed=0    skipped=1"
    )
    assert match is not None
    assert (match["host"], match["changed"]) == ("db-a1", "2")


@pytest.mark.parametrize("act", ["power_cut", "power_on"])
def test_the_power_of_another_checkout_s_machines_is_left_alone(machine: Machine, act: str) -> None:
    own(checkout="/elsewhere")
    with pytest.raises(UserError, match="/elsewhere built the lab that is on this machine"):
        getattr(Lxc(machine.inventory), act)(machine.inventory.hosts.values())


def test_one_machine_is_made_anew_and_the_others_stay(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    own()
    gone, kept = machine.container("db-a1"), machine.container("db-b1")
    inventory, told = machine.inventory, []
    (inventory.state / "known_hosts").write_text(
        "db-a1 ssh-ed25519 AAA\n192.168.56.11 ssh-ed25519 AAA\ndb-b1 ssh-ed25519 BBB\n"
    )
    monkeypatch.setattr(machines, "build_box", lambda *_: None)
    monkeypatch.setattr(machines, "box", lambda *_: Path("bookworm.box"))
    monkeypatch.setattr(machines, "vagrant", lambda _, release, *words: told.append((release, *words)))
    monkeypatch.setattr(machines, "wait_for_ssh", lambda _, names: told.append(tuple(names)))
    machines.rebuild(inventory, "db-a1", "12", machine.said.append)
    assert not gone.exists()
    assert not (inventory.state / "vagrant" / "machines" / "db-a1").exists()
    assert kept.exists()
    assert (inventory.state / "vagrant" / "machines" / "db-b1").exists()
    assert (inventory.state / "known_hosts").read_text() == "db-b1 ssh-ed25519 BBB\n"
    assert told == [("12", "up", "--no-provision", "db-a1"), ("db-a1",)]


def test_a_machine_of_another_checkout_is_not_made_anew(machine: Machine) -> None:
    own(checkout="/elsewhere")
    path = machine.container("db-a1")
    with pytest.raises(UserError, match="/elsewhere"):
        machines.rebuild(machine.inventory, "db-a1", "12", machine.said.append)
    assert path.exists()


def test_who_does_not_answer_is_said_first(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ansible = tmp_path / "ansible-playbook"
    ansible.write_text(
        textwrap.dedent("""\
            #!/bin/sh
            echo 'TASK [preflight : Read which cluster of PostgreSQL serves] ****'
            echo 'fatal: [app-b1]: UNREACHABLE! =>'
            echo '        ssh: connect to host 192.168.56.14 port 22: No route to host'
            exit 2
            """)
    )
    ansible.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(
        UserError, match=r"stopped \(exit 2\): app-b1 did not answer ssh \(No route to host\)\. It can be"
    ):
        deploy.playbook(machine.inventory, "site", say=machine.said.append)
