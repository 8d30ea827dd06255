"""Agent and guard over real TLS, with certificates of an authority of the test's own."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge, MetricsHandler

from siasops.guard import wire
from siasops.guard.agent import ALONE_AFTER, Agent, Server
from siasops.guard.decision import Cluster
from siasops.guard.etcd import Key, decode
from siasops.guard.fence import Fence, FenceError
from siasops.guard.wire import Answer, Client, Identity
from siasops.guard.witness import Journal, read_cluster, release_transaction
from siasops.pki import Authority, Subject


class Recorder(Fence):
    """Remembers what it was told instead of cutting this machine off."""

    def __init__(self) -> None:
        super().__init__(postgres=5432, patroni=8008, seconds=15)
        self.cut: list[str] = []
        self.closed: list[str] = []
        self.broken = False

    def raise_against(self, address: str) -> None:
        if self.broken:
            raise FenceError("nft: no such device")
        self.cut.append(address)

    def lift(self) -> None:
        self.cut.clear()

    def standing(self, which: str = "cut") -> list[str]:
        return self.cut if which == "cut" else self.closed

    def close_door(self, own: str, seconds: int) -> None:
        self.closed.append(own)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    made = Authority(folder, "passphrase")
    made.create("test")
    for name in ("witness", "db-a1", "db-b1"):
        made.issue(Subject(name, (name, "127.0.0.1")))
    return folder


def identity(folder: Path, name: str) -> dict[str, str]:
    return {
        "certificate": str(folder / "hosts" / name / "host.crt"),
        "key": str(folder / "hosts" / name / "host.key"),
        "authority": str(folder / "ca.crt"),
    }  # fmt: skip


class Patroni(threading.Thread):
    """Answers /patroni and /primary as Patroni does; `mute` takes connections and says nothing."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(daemon=True)
        self.status: dict[str, Any] = {"role": "replica", "state": "running"}
        self.mute = False
        files = identity(folder, name)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files["authority"])
        self.context.load_cert_chain(files["certificate"], files["key"])
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.door = socket.create_server(("127.0.0.1", 0))
        self.port = self.door.getsockname()[1]

    def run(self) -> None:
        held = []
        while True:
            peer, _ = self.door.accept()
            if self.mute:
                held.append(peer)
                continue
            with self.context.wrap_socket(peer, server_side=True) as link:
                link.recv(4096)
                body = json.dumps(self.status).encode()
                link.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.fixture
def patroni(authority: Path) -> Patroni:
    server = Patroni(authority, "db-b1")
    server.start()
    return server


@pytest.fixture
def agent(authority: Path, patroni: Patroni, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Agent, int]]:
    monkeypatch.setattr("siasops.guard.agent.heard_ago", lambda _address, _port: None)
    config = {
        "self": "db-b1",
        "witnesses": ["witness"],
        # Nobody listens on the primary's address: the machine says no. Tests that want silence change the port's owner.
        "hosts": {"db-a1": {"address": "127.0.0.1"}, "db-b1": {"address": "127.0.0.1"}},
        "ports": {"patroni": patroni.port, "postgres": 5432, "guard": 0},
        "identity": identity(authority, "db-b1"),
        "probe_timeout": 0.2,
        "fence_seconds": 15,
        "sight": [{"address": "other-room", "port": 8009}, {"address": "witness", "port": 2379}],
    }
    made = Agent(config, fence=Recorder())
    with Server(made, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield made, server.server_address[1]
        server.shutdown()


def ask(folder: Path, who: str, port: int, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    return Client(Identity(**identity(folder, who))).json("127.0.0.1", port, path, body, timeout=3)


def silent_primary(made: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made.client, "probe", lambda *_args, **_kwargs: Answer.SILENT)


def test_an_opinion_says_what_this_host_sees(agent: tuple[Agent, int], authority: Path) -> None:
    _, port = agent
    seen = ask(authority, "witness", port, "/opinion?about=db-a1")
    assert seen["leader"] == "answers"
    assert seen["fit"] is True
    assert seen["fenced"] is False


def test_a_primary_that_answers_this_host_is_never_cut_off(agent: tuple[Agent, int], authority: Path) -> None:
    made, port = agent
    said = ask(authority, "witness", port, "/fence?about=db-a1", {})
    assert said["fenced"] is False
    assert "answers" in said["why"]
    assert made.fence.standing() == []


def test_a_silent_primary_is_cut_off_and_let_through_again(
    agent: tuple[Agent, int], authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, port = agent
    silent_primary(made, monkeypatch)
    assert ask(authority, "witness", port, "/fence?about=db-a1", {})["fenced"] is True
    assert made.fence.standing() == ["127.0.0.1"]
    ask(authority, "witness", port, "/lift", {})
    assert made.fence.standing() == []


def test_a_host_that_could_not_take_over_does_not_cut_off(
    agent: tuple[Agent, int], authority: Path, patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, port = agent
    silent_primary(made, monkeypatch)
    patroni.status = {"role": "replica", "state": "starting"}
    said = ask(authority, "witness", port, "/fence?about=db-a1", {})
    assert said["fenced"] is False
    assert "starting" in said["why"]


def test_a_fence_that_does_not_stand_is_not_confirmed(
    agent: tuple[Agent, int], authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, port = agent
    silent_primary(made, monkeypatch)
    assert isinstance(made.fence, Recorder)
    made.fence.broken = True
    said = ask(authority, "witness", port, "/fence?about=db-a1", {})
    assert said["fenced"] is False
    assert "nft" in said["why"]


@pytest.mark.parametrize(
    ("heard", "hears", "looks"),
    [
        ([0.93, 1.02], False, 2),  # nearly silent for long enough: the answer waits for that
        ([0.93, 0.02], True, 2),  # and something came meanwhile
        ([0.2], True, 1),  # a primary that writes all the time keeps nobody waiting
        ([1.3], False, 1),
        ([None], False, 1),
    ],
)
def test_an_opinion_says_that_a_primary_is_no_longer_heard_as_soon_as_that_is_so(
    agent: tuple[Agent, int], monkeypatch: pytest.MonkeyPatch, heard: list[float | None], hears: bool, looks: int
) -> None:
    made, _ = agent
    silent_primary(made, monkeypatch)
    told, slept = list(heard), list[float]()
    monkeypatch.setattr("siasops.guard.agent.heard_ago", lambda _address, _port: told.pop(0))
    monkeypatch.setattr("siasops.guard.agent.time.sleep", slept.append)
    assert made.look("db-a1").hears is hears
    assert (len(heard) - len(told), slept) == (looks, [pytest.approx(0.08)] * (looks - 1))


def test_a_fence_waits_for_nothing_and_a_primary_that_answers_neither(
    agent: tuple[Agent, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = agent
    monkeypatch.setattr("siasops.guard.agent.heard_ago", lambda _address, _port: 0.93)
    monkeypatch.setattr("siasops.guard.agent.time.sleep", lambda _: pytest.fail("nobody waits"))
    assert made.look("db-a1").leader is Answer.ANSWERS
    silent_primary(made, monkeypatch)
    assert made.cut_off("db-a1").fenced


@pytest.mark.parametrize("path", ["/fence?about=db-a1", "/lift"])
def test_only_a_witness_may_fence_or_lift(agent: tuple[Agent, int], authority: Path, path: str) -> None:
    _, port = agent
    with pytest.raises(OSError, match="403"):
        ask(authority, "db-a1", port, path, {})


@pytest.mark.parametrize("about", ["db-b1", "nobody", "", "127.0.0.1"])
def test_a_name_that_is_no_other_database_host_is_refused(
    agent: tuple[Agent, int], authority: Path, about: str
) -> None:
    _, port = agent
    with pytest.raises(OSError, match="400"):
        ask(authority, "witness", port, f"/fence?about={about}", {})


def test_nobody_without_a_certificate_is_let_in(agent: tuple[Agent, int]) -> None:
    _, port = agent
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (  # noqa: PT012 - the handshake may end on either side first
        socket.create_connection(("127.0.0.1", port), 2) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
        context.wrap_socket(raw) as link,
    ):
        link.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        link.recv(100)


def test_the_guard_tells_its_figures_to_who_has_a_certificate(authority: Path) -> None:
    registry = CollectorRegistry()
    Gauge("sias_guard_dry", "Of a test.", registry=registry).set(1)
    handler, own = MetricsHandler.factory(registry), Identity(**identity(authority, "witness"))
    with wire.Server("127.0.0.1", 0, handler, own) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        link = Client(Identity(**identity(authority, "db-b1"))).connect("127.0.0.1", server.server_address[1], 3)
        link.request("GET", "/metrics")
        assert b"sias_guard_dry 1.0" in link.getresponse().read()
        link.close()
        server.shutdown()


@pytest.mark.parametrize(
    ("role", "reached", "closes"),
    [
        ("primary", (), True),
        ("primary", ("witness",), False),
        ("primary", ("other-room",), False),
        ("replica", (), False),
    ],
    ids=["alone", "it sees the witness", "it sees the other room", "a standby answers readers that may lag"],
)
def test_a_primary_that_is_alone_closes_its_door(
    agent: tuple[Agent, int], patroni: Patroni, role: str, reached: tuple[str, ...], closes: bool
) -> None:
    made, _ = agent
    assert isinstance(made.fence, Recorder)
    patroni.status = {"role": role, "state": "running"}
    misses = 0
    for _ in range(ALONE_AFTER - 1):
        misses = made.step_sight(misses, lambda address, _port: address in reached)
        assert made.fence.closed == []
    misses = made.step_sight(misses, lambda address, _port: address in reached)
    assert bool(made.fence.closed) is closes
    assert made.step_sight(misses, lambda _address, _port: True) == 0


def test_three_kinds_of_answer(authority: Path, patroni: Patroni) -> None:
    client = Client(Identity(**identity(authority, "witness")))
    assert client.probe("127.0.0.1", patroni.port, "/primary", timeout=2) is Answer.ANSWERS
    patroni.mute = True  # a frozen machine's kernel still takes connections
    began = time.monotonic()
    assert client.probe("127.0.0.1", patroni.port, "/primary", timeout=0.2) is Answer.SILENT
    assert time.monotonic() - began < 1.5
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    assert client.probe("127.0.0.1", port, "/primary", timeout=0.2) is Answer.REFUSED


PREFIX = "/service/sias/"


def keys(**changed: str | None) -> dict[str, Key]:
    values: dict[str, str | None] = {
        "leader": "db-a1",
        "sync": '{"leader":"db-a1","sync_standby":"db-b1","quorum":0}',
        "config": '{"synchronous_mode":true}',
        "status": '{"optime":1}',
        "failover": "{}",
    } | changed
    return {
        PREFIX + name: Key(value, 10 + n, "77") for n, (name, value) in enumerate(values.items()) if value is not None
    }


def test_patronis_keys_are_read_as_they_are() -> None:
    cluster = read_cluster(keys(), PREFIX, None)
    assert cluster == Cluster(
        "db-a1", leader_revision=10, lease="77", sync_revision=11, status_revision=13, standbys=("db-b1",)
    )


@pytest.mark.parametrize(
    ("changed", "maintenance", "word"),
    [
        ({"failover": '{"leader":"db-a1","member":"db-b1"}'}, None, "switchover"),
        ({"config": '{"synchronous_mode":true,"pause":true}'}, None, "paused"),
        ({"config": '{"synchronous_mode":false}'}, None, "synchronous_mode"),
        ({"config": '{"synchronous_mode":"quorum"}'}, None, "synchronous_mode"),
        ({"config": "not json"}, None, "synchronous_mode"),
        ({"sync": '{"leader":"db-a1","sync_standby":null}'}, None, "alone"),
        ({"sync": '{"leader":"db-b1","sync_standby":"db-a1"}'}, None, "/sync names"),
        ({"sync": None}, None, "/sync names"),
        ({}, Key("upgrade of the network", 1), "maintenance"),
    ],
)
def test_whatever_makes_a_release_unsafe_or_unwanted_hinders(
    changed: dict[str, str | None], maintenance: Key | None, word: str
) -> None:
    assert word in read_cluster(keys(**changed), PREFIX, maintenance).hindrance


def test_the_transaction_compares_both_keys_and_moves_the_standbys_key() -> None:
    cluster = read_cluster(keys(), PREFIX, None)
    compare, success = release_transaction(PREFIX, cluster, "db-b1", sync_value="S", failover_revision=14, token=9)
    compared = {decode(c["key"]): c for c in compare if c["target"] == "MOD"}
    assert compared["/service/sias/leader"]["mod_revision"] == "10"
    assert compared["/service/sias/sync"]["mod_revision"] == "11"
    assert compared["/service/sias/failover"]["mod_revision"] == "14"
    assert compared["/sias/guard/token"]["mod_revision"] == "9"
    assert decode(success[0]["request_delete_range"]["key"]) == "/service/sias/leader"
    put = {decode(s["request_put"]["key"]): decode(s["request_put"]["value"]) for s in success[1:]}
    assert put["/service/sias/sync"] == "S"
    assert json.loads(put["/service/sias/failover"]) == {"leader": "db-a1", "member": "db-b1"}


def test_a_decision_is_on_the_disk_once_with_its_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path / "decisions.jsonl")
    for _ in range(3):
        journal.note("ask", why="db-a1 gives no answer", sight={"leader": Answer.SILENT})
    journal.note("fence", why="two agree")
    lines = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["ask", "fence"]
    assert lines[0]["sight"] == {"leader": "silent"}
    assert capsys.readouterr().out.count("\n") == 2
