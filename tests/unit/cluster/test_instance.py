"""Two places for a cluster: their names, and what hosts say of who serves."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from siasops import flows
from siasops.cluster import instance
from siasops.cluster.instance import Instance, Serving
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.remote import Result
from tests.unit.cluster.conftest import Hosts


@pytest.fixture
def both(lab: Inventory) -> Iterator[Serving]:
    """A platform whose green serves, with blue beside it."""
    yield Serving(Instance(lab, "green", "17", "sias-17"), Instance(lab, "blue", "15", "sias"))
    instance._known.clear()


def test_without_a_fact_everything_is_as_before_there_were_two(lab: Inventory) -> None:
    (one,) = instance.of(lab).slots
    assert (one.postgres, one.patroni, one.scope, one.unit) == (5432, 8008, "sias", "patroni")
    assert (one.config, one.data, one.stanza) == ("/etc/patroni/config.yml", "/var/lib/postgresql/*/sias", "sias")
    assert one.server("db-a1") == "db-a1"


def test_the_second_place_shares_nothing_with_the_first(both: Serving) -> None:
    green, blue = both.slots
    for name in ("postgres", "patroni", "scope", "unit", "config", "data", "stanza"):
        assert getattr(green, name) != getattr(blue, name), name
    assert green.server("db-a1") == "db-a1-green"
    assert green.config == "/etc/patroni/green/config.yml"


def test_hosts_that_disagree_are_refused_and_silent_ones_follow(lab: Inventory, both: Serving) -> None:
    assert instance.agreed(lab, [("db-a1", ""), ("db-b1", both.text())]) == both
    assert instance.agreed(lab, [("db-a1", "")]) == instance.default(lab)
    alone = Serving(Instance(lab, "blue", "15", "sias"))
    with pytest.raises(UserError, match="do not agree"):
        instance.agreed(lab, [("db-a1", alone.text()), ("db-b1", both.text())])


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"serving": null, "beside": null}',
             '{"serving": {"slot": "blue", "major": "", "stanza": ""}, "beside": {"slot": "blue", "major": "", "stanza": ""}}',
             '{"serving": {"slot": "red", "major": "15", "stanza": "x"}, "beside": null}']
)  # fmt: skip
def test_what_is_no_fact_is_refused(lab: Inventory, text: str) -> None:
    with pytest.raises(UserError):
        instance.agreed(lab, [("db-a1", text)])


def test_every_host_is_told_and_this_process_goes_by_it(lab: Inventory, both: Serving) -> None:
    hosts = Hosts(lab)
    instance.write(lab, hosts, both)  # type: ignore[arg-type]
    assert {host for host, _ in hosts.told(instance.FACT)} == set(lab.hosts)
    assert instance.of(lab) == both
    hosts.when("app-b1", instance.FACT, lambda: Result("app-b1", 255, "", ""))
    with pytest.raises(UserError, match="app-b1 could not be told"):
        instance.write(lab, hosts, both)  # type: ignore[arg-type]


def test_what_hosts_say_is_learned(lab: Inventory, both: Serving) -> None:
    hosts = Hosts(lab)
    hosts.when("db-b1", "^cat", both.text)
    assert instance.learn(lab, hosts) == both  # type: ignore[arg-type]


def test_the_doors_of_a_cluster_are_open_while_it_is_there(lab: Inventory, both: Serving) -> None:
    def ports() -> set[str | None]:
        return {rule.port for rule in flows.accepted(lab, lab.host("db-a1"))}

    assert {"5432", "8008"} <= ports()
    assert not {"5433", "8018"} & ports()
    instance.know(lab, both)
    assert {"5432", "8008", "5433", "8018"} <= ports()
    instance.know(lab, Serving(both.serving))
    assert not {"5432", "8008"} & ports()


def test_ansible_reads_the_same_file_and_the_same_words(lab: Inventory, both: Serving) -> None:
    assert lab.facts["sias_postgresql_fact"] == instance.FACT
    assert set(json.loads(both.text())["serving"]) == set(lab.facts["sias_postgresql"]["serving"])
