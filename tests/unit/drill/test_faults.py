"""Every fault on a platform of paper, in both sizes: what it plans, whom it touches, and that a fresh process can heal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from siasops import inventory as facts
from siasops.cluster.instance import FACT
from siasops.cluster.view import Member, RoomAddress, Standby, View, Voter
from siasops.drill import registry
from siasops.drill.faults import Plan, Stage
from siasops.drill.means import power
from siasops.drill.run import session
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.remote import Result


@dataclass
class Paper:
    """A fleet that only writes down what it is told; every command finds two processes."""

    told: list[tuple[str, str]] = field(default_factory=list)

    def run(self, host: str, command: str | list[str], **_: Any) -> Result:
        if FACT in command:
            return Result(host, 0, "", "")  # a question, and blue serves
        self.told.append((host, command if isinstance(command, str) else " ".join(command)))
        return Result(host, 0, "4242\n4243\n", "")

    def run_each(self, commands: Mapping[str, str | list[str]], **_: Any) -> dict[str, Result]:
        return {host: self.run(host, command) for host, command in commands.items()}

    def run_all(self, command: str | list[str], *, hosts: Iterable[str], **_: Any) -> dict[str, Result]:
        return {host: self.run(host, command) for host in hosts}

    def forget(self, hosts: Iterable[str]) -> None:
        """Nothing is kept."""


def view(inventory: Inventory) -> View:
    """A healthy platform: the first database host leads."""
    databases = inventory.group("databases")
    standbys = tuple(
        Standby(h.name, "streaming", "sync" if h.room != databases[0].room else "async") for h in databases[1:]
    )
    members = tuple(
        Member(h.name, h.room, True, "primary" if n == 0 else "replica", "running", standbys=standbys if n == 0 else ())
        for n, h in enumerate(databases)
    )
    voters = tuple(Voter(h.name, h.room, True, leads=h.room == "w") for h in inventory.group("etcd"))
    rooms = tuple(
        RoomAddress(r.letter, r.address, (inventory.group("applications", room=r.letter)[0].name,), True)
        for r in inventory.rooms.values()
    )
    return View(inventory.environment, members, voters, (), (), rooms, {}, inventory.synchronous_count)


@cache
def environment(name: str) -> Inventory:
    """Read once: it is the same for every test."""
    return facts.load(facts.resolve(name))


@pytest.fixture(params=["lab", "lab-full"])
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(environment(request.param), Paper())  # type: ignore[arg-type]


def named(plan: Plan, inventory: Inventory) -> set[str]:
    """Hosts that a plan names, anywhere in it."""
    return set(re.findall(r'"([\w-]+)"', json.dumps(plan))) & set(inventory.hosts)


@pytest.mark.parametrize("name", registry.DRILLS)
def test_a_plan_names_hosts_of_the_inventory_and_can_be_written_down(name: str, stage: Stage) -> None:
    fault = registry.find(name)
    plan = fault.plan(stage, view(stage.inventory))
    assert json.loads(json.dumps(plan)) == plan
    victims = named(plan, stage.inventory)
    assert victims
    assert fault.describe(plan)


@pytest.mark.parametrize("name", registry.DRILLS)
def test_a_fresh_process_heals_by_the_plan_alone_and_touches_nobody_else(
    name: str, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = registry.find(name).plan(stage, view(stage.inventory))
    powered: list[str] = []
    monkeypatch.setattr(power, "give", lambda _, names: powered.extend(names))
    thawed: list[str] = []

    class Provider:
        def thaw(self, host: Any) -> None:
            thawed.append(host.name)

    monkeypatch.setattr("siasops.drill.faults.host_freeze.provider", lambda _: Provider())
    fleet = Paper()
    registry.find(name).heal(Stage(stage.inventory, fleet), json.loads(json.dumps(plan)))  # type: ignore[arg-type]
    touched = {host for host, _ in fleet.told} | set(powered) | set(thawed)
    assert touched, "healing does nothing"
    if name != "switchover":  # it holds writers back on every application host
        assert touched <= named(plan, stage.inventory)


@pytest.mark.parametrize("name", [n for n, f in registry.DRILLS.items() if getattr(f, "signal", None) == "STOP"])
def test_what_was_stopped_goes_on_when_it_is_healed(name: str, stage: Stage) -> None:
    fault, fleet = registry.find(name), Paper()
    plan = fault.plan(stage, view(stage.inventory))
    fault.start(Stage(stage.inventory, fleet), plan)  # type: ignore[arg-type]
    stopped = {host for host, line in fleet.told if line.startswith("kill -STOP")}
    fault.heal(Stage(stage.inventory, fleet), plan)  # type: ignore[arg-type]
    assert stopped
    assert {host for host, line in fleet.told if "kill -CONT 4242 4243" in line} == stopped


def test_a_brick_is_killed_where_one_is_even_when_another_host_holds_the_address(stage: Stage) -> None:
    fronts = {h.name for h in stage.inventory.group("applications", room="a")}
    (host,) = registry.find("brick-kill").plan(stage, view(stage.inventory))["pids"]
    assert host in fronts & {h.name for h in stage.inventory.group("bricks")}


def test_the_loss_of_a_room_takes_every_host_of_it_and_none_other(stage: Stage) -> None:
    inventory = stage.inventory
    lost = registry.find("room-loss").plan(stage, view(inventory))["hosts"]
    assert set(lost) == {h.name for h in inventory.hosts.values() if h.room == "a"}
    other = registry.find("other-room-loss").plan(stage, view(inventory))["hosts"]
    assert set(other) == {h.name for h in inventory.hosts.values() if h.room == "b"}


def test_a_cut_between_the_rooms_leaves_both_with_the_witness(stage: Stage) -> None:
    peers = registry.find("room-cut").plan(stage, view(stage.inventory))["peers"]
    assert not {h.name for h in stage.inventory.group("witnesses")} & (
        set(peers) | {p for ps in peers.values() for p in ps}
    )


def test_an_isolated_room_reaches_nobody_outside_it(stage: Stage) -> None:
    peers = registry.find("room-isolated").plan(stage, view(stage.inventory))["peers"]
    outside = {h.name for h in stage.inventory.hosts.values() if h.room != "a"}
    assert all(set(names) == outside for names in peers.values())


def test_no_network_fault_is_about_a_controller(stage: Stage) -> None:
    controllers = set(stage.inventory.facts["sias_controller_addresses"])
    for name in registry.DRILLS:
        fault = registry.find(name)
        if hasattr(fault, "rules"):
            rules = fault.rules(stage, fault.plan(stage, view(stage.inventory)))
            addressed = {a for text in rules.values() for a in re.findall(r"[\d.]{7,}", text)}
            assert addressed
            assert not addressed & controllers


def test_production_refuses_drills() -> None:
    production = environment("production.example")
    with pytest.raises(UserError, match="refused in production"), session(production):
        pass


@pytest.mark.parametrize("name", [n for n, f in registry.DRILLS.items() if f.needs_lab])
def test_a_fault_that_needs_power_is_unable_where_nobody_gives_it(name: str) -> None:
    production = environment("production.example")
    assert "power" in registry.find(name).unable(Stage(production, Paper()))  # type: ignore[arg-type]
