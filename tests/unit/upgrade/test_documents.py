"""Two Glusters, one volume: what is made equal before, who is let in, and how a brick that lost everything is filled."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from siasops import remote
from siasops.inventory import Inventory
from siasops.remote import RemoteError, Result
from siasops.upgrade import documents
from tests.unit.cluster.conftest import Hosts

PEERS = """Number of Peers: 2

Hostname: app-b1
Uuid: 22222222-0000-0000-0000-000000000000
State: {state}

Hostname: witness.sias.internal
Uuid: 33333333-0000-0000-0000-000000000000
Other names:
witness
State: Peer in Cluster (Connected)
"""
CONNECTED = "Peer in Cluster (Connected)"
VOLUME = "5f0c8a3e-4c1d-4b2a-9a44-1d2e3f405162"
UUIDS = {"app-a1": "11111111-0000-0000-0000-000000000000", "app-b1": "22222222-0000-0000-0000-000000000000"}


@pytest.fixture
def hosts(lab: Inventory, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    made = Hosts(lab)
    names = documents.bricks(lab)
    for host in names:
        others = "".join(f"Hostname: {name}\nUuid: x\nState: {CONNECTED}\n\n" for name in names if name != host)
        made.when(host, "peer status", lambda others=others: others)  # type: ignore[misc]
    return made


def test_the_state_of_each_peer_is_read() -> None:
    assert documents.peers(PEERS.format(state="Peer Rejected (Connected)")) == {
        "app-b1": "Peer Rejected (Connected)", "witness": CONNECTED,
    }  # fmt: skip
    assert documents.peers("Number of Peers: 0\n") == {}


def test_the_former_option_goes_everywhere_while_no_daemon_runs(lab: Inventory, hosts: Hosts) -> None:
    hosts.when("*", "grep -c", lambda: "1\n")
    documents.level(lab, hosts, lambda _: None)  # type: ignore[arg-type]
    names = set(documents.bricks(lab))
    last_stop = max(n for n, (_, line) in enumerate(hosts.log) if "stop glusterd" in line)
    edits = [n for n, (_, line) in enumerate(hosts.log) if line.startswith("sed -i '/^nfs[.]disable=/d'")]
    first_start = min(n for n, (_, line) in enumerate(hosts.log) if "start glusterd" in line)
    for _, line in hosts.told("stop glusterd"):
        assert (
            line.index(f"KillMode=process\\n' >{documents.STAY}")
            < line.index("daemon-reload")
            < line.index("stop glusterd")
        )
    for _, line in hosts.told("start glusterd"):
        assert line.index("start glusterd") < line.index(f"rm -f {documents.STAY}"), (
            "the bricks must stay until it runs"
        )
    assert last_stop < min(edits) <= max(edits) < first_start
    assert {host for host, _ in hosts.told("sed -i")} == {host for host, _ in hosts.told("start glusterd")} == names


def test_a_volume_without_it_is_left_alone(lab: Inventory, hosts: Hosts) -> None:
    hosts.when("*", "grep -c", lambda: Result("x", 1, "0\n", ""))
    documents.level(lab, hosts, lambda _: None)  # type: ignore[arg-type]
    assert not hosts.told("systemctl|sed -i")


def test_daemons_are_started_again_whatever_happens(lab: Inventory, hosts: Hosts) -> None:
    hosts.when("*", "grep -c", lambda: "1\n")
    hosts.when("app-b1", "sed -i", lambda: Result("app-b1", 1, "", "read-only file system"))
    with pytest.raises(RemoteError, match="app-b1: read-only"):
        documents.level(lab, hosts, lambda _: None)  # type: ignore[arg-type]
    assert {host for host, _ in hosts.told("start glusterd")} == set(documents.bricks(lab))


def test_a_description_that_cannot_be_read_stops_before_anything_is_touched(lab: Inventory, hosts: Hosts) -> None:
    hosts.when("witness", "grep -c", lambda: Result("witness", 2, "", "No such file"))
    with pytest.raises(RemoteError, match=r"witness: .*info cannot be read"):
        documents.level(lab, hosts, lambda _: None)  # type: ignore[arg-type]
    assert not hosts.told("systemctl")


def test_a_rejected_peer_is_started_once_more(lab: Inventory, hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter(["Peer Rejected (Connected)", "Peer Rejected (Connected)", CONNECTED])
    hosts.when("app-a1", "peer status", lambda: PEERS.format(state=next(states, CONNECTED)))
    documents.wait_joined(lab, hosts, "app-a1")  # type: ignore[arg-type]
    assert len(hosts.told("restart glusterd")) == 1
    monkeypatch.setattr(documents, "JOIN_LIMIT", 0.0)
    hosts.when("app-a1", "peer status", lambda: PEERS.format(state="Peer Rejected (Connected)"))
    with pytest.raises(RemoteError, match=r"app-b1: Peer Rejected \(Connected\)"):
        documents.wait_joined(lab, hosts, "app-a1")  # type: ignore[arg-type]


def test_the_operating_version_is_raised_once(lab: Inventory, hosts: Hosts) -> None:
    present = ["100000"]
    table = "Option                                  Value\n------                                  -----\n{} {}\n"
    hosts.when("*", "get all cluster.op-version", lambda: table.format("cluster.op-version", present[-1]))
    hosts.when("*", "get all cluster.max-op-version", lambda: table.format("cluster.max-op-version", "110000"))
    assert "raised from 100000 to 110000" in documents.settle(lab, hosts)  # type: ignore[arg-type]
    assert len(hosts.told("set all cluster.op-version 110000")) == 1
    present.append("110000")
    assert "110000" in documents.settle(lab, hosts)  # type: ignore[arg-type]
    assert len(hosts.told("set all cluster.op-version")) == 1


def known(source: str, host: str) -> str:
    """What a brick's daemon knows of itself, its peers and the volume, as `restore` asks for it."""
    files = {
        "glusterd.info": f"UUID={UUIDS[source]}\noperating-version=100000\n",
        f"peers/{UUIDS[host]}": f"uuid={UUIDS[host]}\nstate=3\nhostname1={host}\n",
        "peers/33333333": "uuid=33333333\nstate=3\nhostname1=witness\n",
        "vols/sias/info": f"type=2\nvolume-id={VOLUME}\n",
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return f"{UUIDS[source]}\npeers/{UUIDS[host]}\n{VOLUME}\n{base64.b64encode(archive.getvalue()).decode()}"


@pytest.mark.skipif(os.geteuid() != 0, reason="the volume's mark is a trusted attribute")
def test_a_brick_that_was_built_again_is_the_same_peer(lab: Inventory, tmp_path: Path) -> None:
    told: list[str] = []

    class Listening(Hosts):
        def run(self, host: str, command: str | list[str], **options: object) -> Result:  # type: ignore[override]
            if options.get("stdin"):
                told.append(str(options["stdin"]))
            return super().run(host, command, **options)  # type: ignore[arg-type]

    hosts = Listening(lab)
    hosts.when("app-a1", "glusterd.info", lambda: known("app-a1", "app-b1"))
    documents.restore(lab, hosts, "app-b1")  # type: ignore[arg-type]
    (text,) = told
    home, brick = tmp_path / "glusterd", tmp_path / "brick" / "sias"
    home.mkdir()
    (home / "stale").touch()
    given = json.dumps(json.loads(text) | {"home": str(home), "brick": str(brick)})
    for _ in (1, 2):  # the second time does nothing
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", documents._RESTORE], input=given, capture_output=True, text=True,
            check=False, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (home / "glusterd.info").read_text() == f"UUID={UUIDS['app-b1']}\noperating-version=100000\n"
    assert sorted(path.name for path in (home / "peers").iterdir()) == [UUIDS["app-a1"], "33333333"]
    assert "hostname1=app-a1\n" in (home / "peers" / UUIDS["app-a1"]).read_text()
    assert not (home / "stale").exists()
    assert os.getxattr(brick, "trusted.glusterfs.volume-id").hex() == VOLUME.replace("-", "")
    assert (brick / ".glusterfs").is_dir()


def test_a_brick_that_nobody_knows_is_refused(lab: Inventory, hosts: Hosts) -> None:
    hosts.when("*", "glusterd.info", lambda: "11111111-0000-0000-0000-000000000000\n")
    with pytest.raises(RemoteError, match="No other brick knows app-b1"):
        documents.restore(lab, hosts, "app-b1")  # type: ignore[arg-type]


@pytest.mark.parametrize(("host", "swept"), [("app-b1", True), ("witness", False)])
def test_a_brick_is_full_when_it_holds_what_the_others_held(
    lab: Inventory, hosts: Hosts, host: str, swept: bool
) -> None:
    counts = iter([0, 40, 120])
    hosts.when("app-a1", "find ", lambda: "120\n")
    hosts.when(host, "find ", lambda: f"{next(counts)}\n")
    documents.fill(lab, hosts, host, lambda _: None)  # type: ignore[arg-type]
    assert bool(hosts.told("volume heal sias full")) == swept
    assert bool(hosts.told("trusted.replace-brick")) != swept, "a sweep of the arbiter's own empty brick finds nothing"
    assert hosts.position("app-a1", "volume heal sias") < hosts.position(host, "find ")
    assert len(hosts.told("find ")) == 4
