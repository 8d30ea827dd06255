"""A lab in which everything is right, from answers that were recorded there."""

from __future__ import annotations

import json

import pytest

from siasops import inventory as facts
from siasops.cluster.view import APPLICATION_UNITS, Brick, Front, RoomAddress, View, members_of, voters_of
from siasops.inventory import Inventory

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
