"""What siasops/guard/ARGUMENT.md says about guards that are late, many, or dead: on the lab's own etcd and hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from siasops import remote
from siasops.cluster.view import look
from siasops.drill.faults import Stage
from siasops.guard.etcd import Etcd
from siasops.guard.wire import Identity
from siasops.guard.witness import TOKEN, read_cluster, release_transaction
from siasops.inventory import Inventory

pytestmark = [pytest.mark.lab, pytest.mark.drill]

PREFIX = "/service/exercise/"
EXERCISE = "sias_exercise"


@pytest.fixture
def keys(lab: Inventory) -> Iterator[tuple[Etcd, str]]:
    """A cluster's keys under a name of the exercise's own, in the lab's etcd; they end by themselves."""
    with Etcd(Identity(*(str(lab.pki / name) for name in ("controller.crt", "controller.key", "ca.crt")))) as etcd:
        endpoint = f"{lab.group('etcd')[-1].address}:{lab.ports['etcd_client']}"
        lease = etcd.grant(endpoint, 60)
        for name, value in {
            "leader": "db-x",
            "sync": '{"leader":"db-x","sync_standby":"db-y"}',
            "config": '{"synchronous_mode":true}',
            "failover": "{}",
        }.items():
            etcd.put(endpoint, PREFIX + name, value, lease)
        yield etcd, endpoint
        etcd.ask(endpoint, "/v3/lease/revoke", {"ID": lease})


def release(etcd: Etcd, endpoint: str, token: int) -> bool:
    """Do what a guard does that has just fenced."""
    found = etcd.under(endpoint, PREFIX)
    cluster = read_cluster(found, PREFIX, None)
    # A second guard reads the same moment; where the leader is gone it holds on to what it read before.
    cluster = cluster if cluster.leader else replace(cluster, leader="db-x", leader_revision=1, sync_revision=1)
    compare, success = release_transaction(
        PREFIX, cluster, "db-y", sync_value=found[f"{PREFIX}sync"].value,
        failover_revision=found[f"{PREFIX}failover"].revision, token=token,
    )  # fmt: skip
    return etcd.transaction(endpoint, compare, success)


def test_two_guards_release_once(keys: tuple[Etcd, str]) -> None:
    etcd, endpoint = keys
    before = etcd.under(endpoint, PREFIX)
    token = etcd.put(endpoint, TOKEN, "exercise", etcd.grant(endpoint, 30))
    assert release(etcd, endpoint, token) is True
    assert release(etcd, endpoint, token) is False
    after = etcd.under(endpoint, PREFIX)
    assert f"{PREFIX}leader" not in after
    assert after[f"{PREFIX}sync"].value == before[f"{PREFIX}sync"].value
    assert after[f"{PREFIX}sync"].revision > before[f"{PREFIX}sync"].revision
    assert json.loads(after[f"{PREFIX}failover"].value) == {"leader": "db-x", "member": "db-y"}


def test_a_guard_that_wakes_too_late_is_refused(keys: tuple[Etcd, str]) -> None:
    etcd, endpoint = keys
    lease = etcd.grant(endpoint, 30)
    token = etcd.put(endpoint, TOKEN, "exercise", lease)
    etcd.ask(endpoint, "/v3/lease/revoke", {"ID": lease})  # as time does
    assert release(etcd, endpoint, token) is False
    assert etcd.under(endpoint, PREFIX)[f"{PREFIX}leader"].value == "db-x"


def test_a_guard_that_dies_between_fence_and_release_leaves_plain_patroni(stage: Stage) -> None:
    """The standby cannot ask the primary, is told to cut it off, and nobody releases: the kernel lifts the fence."""
    inventory, fleet = stage.inventory, stage.fleet
    before = look(inventory, fleet).leader
    assert before is not None
    standby = next(s.host for s in before.standbys if s.sync_state == "sync")
    primary = inventory.hosts[before.host].address
    deaf = f"""
table inet {EXERCISE} {{
  chain output {{ type filter hook output priority 0; ip daddr {primary} tcp dport {inventory.ports["patroni"]} drop; }}
}}
"""
    ask = (
        "from siasops.guard.wire import Client, Identity; import json; "
        "c = json.load(open('/etc/sias/guard.json')); "
        f"print(json.dumps(Client(Identity(**c['identity'])).json(c['hosts']['{standby}']['address'], c['ports']['guard'], "
        f"'/fence?about={before.host}', {{}}, timeout=5)))"
    )
    witness = inventory.group("witnesses")[0].name
    with remote.connect(inventory) as link:
        try:
            link.run(standby, ["nft", "-f", "-"], stdin=deaf, check=True)
            said = link.run(witness, ["env", "PYTHONPATH=/usr/local/lib/sias", "python3", "-c", ask], check=True)
            assert json.loads(said.stdout)["fenced"] is True
            assert primary in link.run(standby, ["nft", "list", "table", "inet", "sias_guard"], check=True).stdout
        finally:
            link.run(standby, ["nft", "delete", "table", "inet", EXERCISE])
        remote.wait_until(
            lambda: primary not in link.run(standby, ["nft", "list", "set", "inet", "sias_guard", "cut"]).stdout,
            "the kernel has lifted the fence",
            deadline=20.0,
            every=0.5,
        )
    after = look(inventory, fleet).leader
    assert after is not None
    assert (after.host, after.timeline) == (before.host, before.timeline)
