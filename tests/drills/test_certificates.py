"""Every certificate is renewed on a running platform, under load: nobody notices, and every service shows the new one."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509

from siasops.cluster.client import tls
from siasops.drill.checker import longest_gap
from siasops.drill.faults import Stage
from siasops.drill.history import Outcome, load
from siasops.drill.run import read_nodes
from siasops.drill.workers import Workers
from siasops.inventory import ROOT, Inventory

pytestmark = [pytest.mark.lab, pytest.mark.drill, pytest.mark.long]


def doors(inventory: Inventory) -> list[tuple[str, int]]:
    """Every service that shows a host's certificate to the controller."""
    ports = {"databases": ["patroni"], "etcd": ["etcd_client"], "applications": ["https", "haproxy_metrics"]}
    return [
        (h.address, inventory.ports[name])
        for group, names in ports.items()
        for h in inventory.group(group)
        for name in names
    ]


def serial(inventory: Inventory, address: str, port: int) -> int:
    context = tls(inventory)
    context.check_hostname = False
    with socket.create_connection((address, port), 5) as raw, context.wrap_socket(raw) as link:
        der = link.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def test_a_renewal_of_every_certificate_is_not_noticed(stage: Stage, tmp_path: Path) -> None:
    inventory = stage.inventory
    before = {door: serial(inventory, *door) for door in doors(inventory)}
    workers = Workers(inventory, "renewal", tmp_path)
    try:
        workers.start("ledger", "prober")
        workers.wait_ready(30)
        began = time.monotonic()
        done = subprocess.run(
            [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory.path),
             "playbooks/renew_certificates.yml", "-e", "pki_renew_before_days=400"],
            cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
        ended = time.monotonic()
    finally:
        workers.stop()
    assert done.returncode == 0, done.stdout[-3000:]
    stale = [door for door, old in before.items() if serial(inventory, *door) == old]
    assert stale == []
    history = load(tmp_path)
    failed = [op for op in history.http if not op.ok]
    assert failed == []
    assert len(history.http) > 35
    acknowledged = {op.key for op in history.ledger if op.outcome is Outcome.OK}
    for node, rows in read_nodes(stage, "renewal")[0].items():
        assert acknowledged <= {row.key for row in rows}, node
    gap = longest_gap([op.ended or 0.0 for op in history.ledger if op.outcome is Outcome.OK], began, ended)
    assert gap is not None
    print(f"\n{len(before)} services in {ended - began:.0f} s, longest wait of a writer {gap.seconds:.2f} s")
    assert gap.seconds <= inventory.objectives["drills"]["switchover"]["write_gap"]
