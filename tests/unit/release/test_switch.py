"""What is asked of hosts in a switch: peers hold first, and let go whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from siasops import inventory as facts
from siasops.cluster import drain
from siasops.drill.faults import Stage
from siasops.release import host as hosts
from siasops.remote import RemoteError, Result

INVENTORY = facts.load(facts.resolve("lab-full"))
OTHERS = ["app-a2", "app-b1", "app-b2"]


class Fleet:
    """Hosts that note what they are asked."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.apply = Result("app-a1", 0, "restarted\n", "")
        self.away: set[str] = set()
        self.left: set[str] = set()

    @contextmanager
    def talk(self, host: str, command: list[str]) -> Iterator[Any]:
        if host in self.away:
            raise RemoteError(f"{host} does not answer")
        assert command[1:4] == ["hold", "--server", "app-a1"]
        self.log.append(f"{host} holds")

        def ask(text: str, mark: str, *, timeout: float) -> str:
            self.log += [f"{host} {mark.strip()}"]
            return ""

        try:
            yield SimpleNamespace(ask=ask)
        finally:
            self.log.append(f"{host} is left")

    def run(self, host: str, command: list[str], **_: object) -> Result:
        self.log.append(f"{host} {' '.join(command[1:3])}")
        if command == ["true"]:
            return Result(host, 255 if host in self.away else 0, "", "")
        return self.apply

    def run_all(self, command: list[str], *, hosts: list[str], timeout: float) -> dict[str, Result]:
        return {h: Result(h, 255 if h in self.away else 0, self._status(h), "no route") for h in hosts}

    def _status(self, host: str) -> str:
        said = {"current": "1", "running": "1", "releases": {"1": 0.0}, "ready": True, "active": False, "drained": ["app-b1"],
                "away": host in self.left, "sees": ["app-a1"], "free": 1}  # fmt: skip
        return json.dumps(said)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    class Asker:
        def __init__(self, _inventory: object) -> None:
            pass

        def __enter__(self) -> Asker:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def get(self, *_: object) -> Any:
            return SimpleNamespace(headers={"X-SIAS-Host": "app-a1"})

    monkeypatch.setattr(hosts, "Asker", Asker)
    return Fleet()


def stage(fleet: Fleet) -> Stage:
    return Stage(INVENTORY, fleet)  # type: ignore[arg-type]


def test_hosts_go_room_by_room() -> None:
    assert hosts.order(INVENTORY) == ["app-a1", *OTHERS]


def test_peers_hold_until_the_host_is_switched(fleet: Fleet) -> None:
    assert hosts.switch(stage(fleet), "app-a1", "2") == "restarted"
    at = fleet.log.index("app-a1 apply --release")
    assert all(fleet.log.index(f"{peer} drained") < at < fleet.log.index(f"{peer} ready") for peer in OTHERS)


def test_peers_let_go_of_a_host_that_could_not_be_switched(fleet: Fleet) -> None:
    fleet.apply = Result("app-a1", 1, "", "not ready; 1 runs again")
    with pytest.raises(RemoteError, match="does not run 2: not ready; 1 runs again"):
        hosts.switch(stage(fleet), "app-a1", "2")
    assert [line for line in fleet.log if line.endswith("is left")] == [f"{peer} is left" for peer in reversed(OTHERS)]


def test_a_peer_that_is_away_sends_nobody(fleet: Fleet) -> None:
    fleet.away = {"app-b1"}
    assert hosts.switch(stage(fleet), "app-a1", "2") == "restarted"
    with pytest.raises(RemoteError, match="app-b1 does not say which release it runs: no route"):
        hosts.look(stage(fleet))
    assert list(hosts.look(stage(fleet), absent=True)) == ["app-a1", "app-a2", "app-b2"]


def test_a_host_whose_worker_is_down_does_not_run_its_release(fleet: Fleet) -> None:
    assert not hosts.look(stage(fleet))["app-a1"].runs("1")


def test_only_the_drains_that_are_meant_are_undone(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    undone: list[tuple[str, str]] = []
    monkeypatch.setattr(drain, "ready", lambda _fleet, _backends, server, *, hosts: undone.append((hosts[0], server)))
    found = hosts.look(stage(fleet))
    hosts.settle(fleet, found, "app-a2")  # type: ignore[arg-type]
    assert undone == []
    hosts.settle(fleet, found)  # type: ignore[arg-type]
    assert undone == [(name, "app-b1") for name in hosts.order(INVENTORY)]
    undone.clear()
    fleet.left = {"app-b1"}  # `sias host leave` drained it on purpose
    hosts.settle(fleet, hosts.look(stage(fleet)))  # type: ignore[arg-type]
    assert undone == []
