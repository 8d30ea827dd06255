"""The firewall's table means what it says."""

from __future__ import annotations

import dataclasses

import pytest

from siasops import flows, inventory
from siasops.errors import UserError
from siasops.inventory import ROOT


def load(name: str) -> inventory.Inventory:
    return inventory.load(ROOT / "inventory" / f"{name}.yml")


def ports(name: str, host: str) -> set[str | None]:
    facts = load(name)
    return {rule.port for rule in flows.accepted(facts, facts.host(host))}


def test_a_database_host_accepts_no_user() -> None:
    assert not {"443", "80", "6432", "24007"} & ports("lab", "db-a1")


def test_the_witness_accepts_no_user_and_no_sql() -> None:
    assert not {"443", "80", "5432", "6432"} & ports("lab", "witness")


def test_pgbouncer_is_closed_to_the_outside_where_drills_are_forbidden() -> None:
    assert "6432" in ports("lab", "app-a1")
    assert "6432" not in ports("production.example", "app-a1")


def test_a_host_is_never_its_own_source_and_every_rule_has_one() -> None:
    facts = load("lab-full")
    for host in facts.hosts.values():
        for rule in flows.accepted(facts, host):
            assert rule.sources
            assert host.address not in rule.sources


def test_a_row_that_names_no_group_is_refused() -> None:
    facts = load("lab")
    row = {"name": "typo", "protocol": "tcp", "port": 1, "from": ["databses"], "to": ["all"]}
    spoiled = dataclasses.replace(facts, facts=facts.facts | {"flows": [row]})
    with pytest.raises(UserError, match="names the group databses"):
        flows.accepted(spoiled, facts.host("db-a1"))


def test_every_port_of_a_flow_is_a_named_port() -> None:
    facts = load("lab")
    named = {str(port) for port in facts.ports.values()}
    for flow in facts.facts["flows"]:
        port = str(flow.get("port", "22"))
        assert port in named or "-" in port, f"flow {flow['name']} uses {port}, which `ports` does not name"
