"""A host accepts what the table `flows` of the inventory says, from whom it says, and nothing else.

Every port on which a machine listens is tried from every other machine and from the controller, so that both sides of
the promise are looked at: what a row allows connects, what no row allows is refused although somebody listens.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from siasops import inventory as facts
from siasops.flows import Rule, accepted, holds
from siasops.inventory import Host, Inventory
from tests.infra.conftest import Attempt, Look, Reach

CONTROLLER = "controller"
SOURCES = [*facts.load().hosts, CONTROLLER]


def covers(rule: Rule, port: int) -> bool:
    """Whether a rule is about this TCP port."""
    if rule.protocol != "tcp" or rule.port is None:
        return False
    first, _, last = rule.port.partition("-")
    return int(first) <= port <= int(last or first)


def allowed(lab: Inventory, target: Host, port: int, source: str) -> bool:
    """Whether the table lets this address reach this port."""
    address = ip_address(source)
    return any(
        covers(rule, port) and any(address in ip_network(network) for network in rule.sources)
        for rule in accepted(lab, target)
    )


@pytest.mark.parametrize("source", SOURCES)
def test_what_the_table_allows_connects_and_nothing_else_does(
    source: str, lab: Inventory, listening: dict[str, set[int]], look_from: Look
) -> None:
    origin = lab.facts["sias_controller_addresses"][0] if source == CONTROLLER else lab.host(source).address
    tries = [
        (target, port)
        for target in lab.hosts.values()
        for port in sorted(listening[target.name])
        if target.name != source
    ]
    attempts: list[Attempt] = [(target.address, port, "tcp") for target, port in tries]
    results = look_from(None if source == CONTROLLER else source, attempts)
    expected = ["connected" if allowed(lab, target, port, origin) else "refused" for target, port in tries]
    wrong = [
        f"{target.name}:{port} {result}, should be {wanted}"
        for (target, port), result, wanted in zip(tries, results, expected, strict=True)
        if result != wanted
    ]
    assert wrong == []
    # The promise has two sides, and both were looked at from here.
    assert {"connected", "refused"} <= set(expected)


@pytest.mark.parametrize(
    "row", [row for row in facts.load().facts["flows"] if row["protocol"] == "tcp"], ids=lambda r: r["name"]
)
def test_behind_every_row_of_the_table_somebody_listens(
    row: dict[str, object], lab: Inventory, listening: dict[str, set[int]]
) -> None:
    rule = Rule(str(row["name"]), "tcp", str(row["port"]), ())
    groups = row["to"]
    assert isinstance(groups, list)
    concerned = [host.name for host in lab.hosts.values() if "all" in groups or host.groups & set(groups)]
    heard = [name for name in concerned if any(covers(rule, port) for port in listening[name])]
    # A row of a place for PostgreSQL is in force while a cluster is there.
    assert heard == (concerned if holds(lab, row) else []), f"{row['name']}: who listens is not whom it is open towards"


@pytest.mark.parametrize("name", list(facts.load().hosts))
def test_the_table_stands_again_after_a_reboot(name: str, on: Reach, lab: Inventory) -> None:
    machine = on(name)
    assert machine.service("nftables").is_enabled
    rules = machine.check_output("nft list table inet sias")
    assert "policy drop" in rules
    assert 'comment "refused"' in rules
