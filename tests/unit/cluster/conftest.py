"""A lab in which everything is right, from answers that were recorded there; and hosts that do as they are told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from siasops import inventory as facts
from siasops.cluster.view import APPLICATION_UNITS, Brick, Front, RoomAddress, View, members_of, voters_of
from siasops.inventory import Inventory
from siasops.remote import RemoteError, Result

PRIMARY = json.loads(
    '{"state": "running", "role": "primary", "server_version": 150020, "xlog": {"location": 100663392}, "timeline": 1,'
    ' "replication": [{"usename": "replicator", "application_name": "db-b1", "client_addr": "192.168.56.12",'
    ' "state": "streaming", "sync_state": "sync", "sync_priority": 1}], "tags": {"room": "a"},'
    ' "database_system_identifier": "7710756134266941246",'
    ' "patroni": {"version": "4.1.5", "scope": "sias", "name": "db-a1"}}'
)
STANDBY = json.loads(
    '{"state": "running", "role": "replica", "server_version": 150020, "xlog": {"received_location": 100663392,'
    ' "replayed_location": 100662368, "paused": false}, "sync_standby": true, "timeline": 1,'
    ' "replication_state": "streaming", "tags": {"room": "b"}, "database_system_identifier": "7710756134266941246",'
    ' "patroni": {"version": "4.1.5", "scope": "sias", "name": "db-b1"}}'
)
ETCD_LEADER = "4454647538695402871"
ETCD = {
    name: {"header": {"member_id": member}, "version": "3.4.23", "leader": ETCD_LEADER}
    for name, member in (("db-a1", "8000039638469076230"), ("db-b1", "9273843595261946718"), ("witness", ETCD_LEADER))
}
HEALTH = {name: {"health": "true"} for name in ETCD}


class Hosts:
    """Hosts that do as they are told; `log` is what they were told, in order. The standard input is not part of it."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.log: list[tuple[str, str]] = []
        self.answers: list[tuple[str, str, Callable[[], Result | str]]] = []
        self.hosts = list(inventory.hosts)

    def when(self, host: str, pattern: str, answer: Callable[[], Result | str]) -> None:
        self.answers.insert(0, (host, pattern, answer))

    def run(self, host: str, command: str | list[str], *, check: bool = False, **options: Any) -> Result:
        line = command if isinstance(command, str) else " ".join(command)
        self.log.append((host, line))
        result = Result(host, 1 if line.startswith(("test -e", "pgrep")) else 0, "", "")
        for name, pattern, answer in self.answers:
            if name in {host, "*"} and re.search(pattern, line):
                said = answer()
                result = said if isinstance(said, Result) else Result(host, 0, said, "")
                break
        if check and not result.ok:
            raise RemoteError(f"{host}: {line}")
        for word in result.stdout.splitlines() if options.get("tell") else ():
            options["tell"](host, word)
        return result

    def run_each(self, commands: Mapping[str, str | list[str]], **options: Any) -> dict[str, Result]:
        return {host: self.run(host, command, **options) for host, command in commands.items()}

    def run_all(self, command: str | list[str], *, hosts: Iterable[str] | None = None, **_: Any) -> dict[str, Result]:
        return {host: self.run(host, command) for host in (self.hosts if hosts is None else hosts)}

    def forget(self, hosts: Iterable[str]) -> None:
        pass

    def told(self, pattern: str) -> list[tuple[str, str]]:
        return [(host, line) for host, line in self.log if re.search(pattern, line)]

    def position(self, host: str, pattern: str) -> int:
        return next(n for n, (name, line) in enumerate(self.log) if name == host and re.search(pattern, line))


@pytest.fixture(scope="module")
def lab() -> Inventory:
    return facts.load(facts.resolve("lab"))


@pytest.fixture
def view(lab: Inventory) -> View:
    """A lab in which everything is right."""
    return View(
        environment="lab",
        members=members_of(lab, {"db-a1": PRIMARY, "db-b1": STANDBY}),
        voters=voters_of(lab, ETCD, HEALTH),
        fronts=tuple(
            Front(name, room, True, name, dict.fromkeys(APPLICATION_UNITS, "active"), ("db-a1",), ("db-b1",))
            for name, room in (("app-a1", "a"), ("app-b1", "b"))
        ),
        bricks=tuple(Brick(h.name, h.room, True, 0) for h in lab.group("bricks")),
        rooms=(
            RoomAddress("a", "192.168.56.21", ("app-a1",), True, "app-a1"),
            RoomAddress("b", "192.168.56.22", ("app-b1",), True, "app-b1"),
        ),
        silent={},
        expected_sync=1,
    )
