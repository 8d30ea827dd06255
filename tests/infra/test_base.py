"""Every machine is healthy, finds every other by name, and starts by itself what its role needs."""

from __future__ import annotations

import time

import pytest

from siasops import inventory as facts
from siasops.inventory import Inventory
from tests.infra.conftest import Reach

HOSTS = pytest.mark.parametrize("name", list(facts.load().hosts))

UNITS = {
    "all": {"nftables", "prometheus-node-exporter", "sias-metrics.timer", "sias-pki-reload.path"},
    "etcd": {"etcd"},
    "databases": {"patroni", "prometheus-postgres-exporter", "pgbackrest"},
    "repositories": {"pgbackrest"},
    "bricks": {"glusterd"},
    "directories": {"sias-directory", "sias-directory-dump.timer"},
    "applications": {
        "sias-documents",
        "haproxy",
        "pgbouncer",
        "keepalived",
        "sias-web",
        "sias-worker",
        "sias-queues.timer",
    },
    "monitoring": {"prometheus", "prometheus-alertmanager", "prometheus-blackbox-exporter"},
}


@HOSTS
class TestMachine:
    def test_nothing_on_it_has_failed(self, name: str, lab: Inventory, on: Reach) -> None:
        machine = on(name)
        failed = machine.check_output("systemctl list-units --failed --plain --no-legend")
        assert failed == ""
        assert machine.check_output("systemctl is-system-running") == "running"

    def test_what_its_roles_need_runs_and_starts_at_boot(self, name: str, lab: Inventory, on: Reach) -> None:
        groups = lab.host(name).groups | {"all"}
        wanted = sorted({unit for group, units in UNITS.items() if group in groups for unit in units})
        say = 'echo "$unit $(systemctl is-active $unit) $(systemctl is-enabled $unit)"'
        lines = on(name).check_output(f"for unit in {' '.join(wanted)}; do {say}; done").splitlines()
        assert lines == [f"{unit} active enabled" for unit in wanted]

    def test_it_knows_every_machine_by_both_names(self, name: str, lab: Inventory, on: Reach) -> None:
        known = {n: host.address for host in lab.hosts.values() for n in (host.name, f"{host.name}.{lab.domain}")}
        ask = 'echo "$name $(getent ahostsv4 $name | cut -d" " -f1 | sort -u | paste -sd,)"'
        lines = on(name).check_output(f"for name in {' '.join(known)}; do {ask}; done").splitlines()
        assert lines == [f"{asked} {address}" for asked, address in known.items()]

    def test_its_debian_is_one_that_the_platform_knows(self, name: str, lab: Inventory, on: Reach) -> None:
        machine = on(name)
        assert machine.system_info.distribution == "debian"
        assert machine.system_info.release.split(".")[0] in lab.facts["sias_debian"]

    def test_packages_may_start_their_services(self, name: str, lab: Inventory, on: Reach) -> None:
        # A policy-rc.d left behind by an interrupted installation would keep services from starting for ever.
        assert not on(name).file("/usr/sbin/policy-rc.d").exists

    def test_its_clock_agrees_with_the_controller(self, name: str, lab: Inventory, on: Reach) -> None:
        before = time.time()
        there = float(on(name).check_output("date +%s.%N"))
        after = time.time()
        assert before - 1 <= there <= after + 1
