"""From Debian 12 with PostgreSQL 15 to Debian 13 with PostgreSQL 17, one after the other under load, and settled.

Takes half an hour and more on two cores; with PERSONS=1023447 in the environment at full population.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from siasops.cluster import instance
from siasops.cluster.check import check, healthy
from siasops.cluster.view import look
from siasops.inventory import Inventory
from siasops.remote import Fleet
from tests.changes.conftest import change, debians, majors, sias, to_17, told

pytestmark = [pytest.mark.changes, pytest.mark.timeout(4 * 3600)]


def test_a_platform_goes_to_the_next_debian_and_then_to_the_next_postgresql(
    inventory: Inventory, lab_of: Callable[[str, str], Fleet], capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = lab_of("12", "15")
    upgraded = change("upgrade", "debian", "run")
    with capsys.disabled():
        print(told(inventory, "Debian 12 to 13", upgraded, lambda key: key.split(":")[0]))
    assert (debians(inventory, fleet), majors(inventory, fleet)) == ({"13"}, {"15"})
    assert "nothing to do" in sias("upgrade", "debian", "run", "--yes")

    migrated = to_17(inventory)
    with capsys.disabled():
        print(told(inventory, "PostgreSQL 15 to 17", migrated, str))
    instance.learn(inventory, fleet)
    assert majors(inventory, fleet) == {"17"}
    assert "nothing to do" in sias("migrate", "postgres", "run", "--yes")

    for road in (("migrate", "postgres"), ("upgrade", "debian")):
        sias(*road, "verify")
        sias(*road, "settle", "--yes")
        assert "nothing to do" in sias(*road, "settle", "--yes")
    assert instance.learn(inventory, fleet).beside is None
    assert (debians(inventory, fleet), majors(inventory, fleet)) == ({"13"}, {"17"})
    assert healthy(check(look(inventory, fleet)))
    sias("backup", "check")
    for part in (upgraded, migrated):
        assert part["held"], part["sentence"]
