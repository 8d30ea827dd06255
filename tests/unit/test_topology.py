"""A description that could lose a write, or everybody's service, is refused with a sentence that names the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siasops import inventory, topology
from siasops.inventory import ROOT, Inventory


def load(name: str) -> Inventory:
    return inventory.load(ROOT / "inventory" / f"{name}.yml")


def with_host(facts: Inventory, name: str, **changes: Any) -> Inventory:
    hosts = dict(facts.hosts)
    hosts[name] = dataclasses.replace(hosts[name], **changes)
    return dataclasses.replace(facts, hosts=hosts)


def without_group(facts: Inventory, name: str, *groups: str) -> Inventory:
    return with_host(facts, name, groups=facts.hosts[name].groups - set(groups))


def with_fact(facts: Inventory, **changes: Any) -> Inventory:
    return dataclasses.replace(facts, facts=facts.facts | changes)


def without_witness(facts: Inventory) -> Inventory:
    return without_group(facts, "witness", "witnesses")


@pytest.mark.parametrize("name", ["lab", "lab-full", "production.example"])
def test_the_inventories_of_this_repository_are_safe(name: str) -> None:
    assert topology.findings(load(name)) == []


UNSAFE: list[tuple[str, Callable[[Inventory], Inventory], str, str]] = [
    ("lab", without_witness, "no witness", "outside both rooms"),
    ("lab", lambda i: with_host(i, "witness", room="a"), "witness", "room w"),
    ("lab", lambda i: with_host(i, "db-b1", room="a"), "holds 2 of 3 etcd voters (db-a1, db-b1)", "one voter per room"),
    ("lab", lambda i: without_group(i, "witness", "etcd"), "even number", "one on the witness"),
    ("lab", lambda i: with_host(i, "db-b1", address="192.168.56.11"), "db-a1 and db-b1 share", "give each its own"),
    ("lab", lambda i: with_host(i, "db-b1", address="192.168.56.21"), "db-b1 and room a share", "give each its own"),
    ("lab", lambda i: with_host(i, "db-b1", address="10.0.0.1"), "db-b1 has the address 10.0.0.1", "correct"),
    (
        "lab-full",
        lambda i: with_fact(i, patroni_synchronous_node_count=1),
        "db-a1 could be confirmed inside room a",
        "at least 2",
    ),
    ("lab", lambda i: with_fact(i, patroni_synchronous_node_count=2), "more than the 1", "no commit would ever end"),
    ("lab", lambda i: with_host(i, "db-a1", memory_mb=256), "db-a1 has 256 MiB", "raise memory_mb"),
    ("lab", lambda i: with_host(i, "db-a1", memory_mb=10**9), "this machine has", "Lower memory_mb"),
    ("lab", lambda i: without_group(i, "app-b1", "monitoring"), "Nobody watches from room b", "group monitoring"),
    ("lab", lambda i: without_group(i, "app-b1", "applications"), "Room b has no application host", "applications"),
    ("lab", lambda i: without_group(i, "app-b1", "repositories"), "Room b has no backup repository", "repositories"),
    ("lab", lambda i: without_group(i, "app-b1", "directories"), "Room b has no directory server", "directories"),
    ("lab", lambda i: without_group(i, "witness", "bricks"), "one brick in each room", "mend the group bricks"),
    ("lab", lambda i: with_host(i, "app-a1", room="c"), "app-a1 is in room “c”", "put it in"),
    ("lab", lambda i: with_host(i, "db-a1", mac=i.hosts["db-b1"].mac), "db-a1 shares its mac", "its own"),
]


@pytest.mark.parametrize(("name", "spoil", "found", "fix"), UNSAFE, ids=[row[2] for row in UNSAFE])
def test_an_unsafe_description_is_refused_in_a_sentence(
    name: str, spoil: Callable[[Inventory], Inventory], found: str, fix: str
) -> None:
    told = [s for s in topology.findings(spoil(load(name))) if found in s]
    assert told, f"nothing said “{found}”: {topology.findings(spoil(load(name)))}"
    assert fix in told[0]


def test_a_missing_secret_is_named_with_how_to_make_it() -> None:
    facts = load("lab")
    assert topology.findings(facts, secrets={"one": "x", "two": ""}, wanted_secrets=("one", "two")) == [
        f"The secret two is missing or empty in {facts.secrets_file}; `sias lab secrets` makes it."
    ]
    absent = topology.findings(facts, secrets=None, wanted_secrets=("one",))
    assert "are missing" in absent[0]


def test_a_host_without_room_is_refused_when_read(tmp_path: Path) -> None:
    broken = tmp_path / "lab.yml"
    broken.write_text("all: {children: {databases: {hosts: {db-x: {ansible_host: 192.0.2.1, memory_mb: 1}}}}}")
    with pytest.raises(inventory.UserError, match="host db-x has no room"):
        inventory.load(broken)
