"""The programs that keep etcd's leader in its place, and that let a rebuilt host take its place again."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCES = Path(__file__).parents[2] / "roles" / "etcd" / "files"
ENDPOINTS = {"db-a1": "10.0.0.1:2379", "db-b1": "10.0.0.2:2379", "witness": "10.0.0.3:2379"}
IDENTITIES = {"db-a1": "11", "db-b1": "22", "witness": "33"}
PEERS = {name: f"https://{endpoint.replace('2379', '2380')}" for name, endpoint in ENDPOINTS.items()}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SOURCES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def placement() -> Iterator[ModuleType]:
    before = list(sys.path)
    yield load("etcd_leader_placement")
    sys.path[:] = before


@pytest.fixture(scope="module")
def rejoin(placement: ModuleType) -> ModuleType:
    return load("etcd_rejoin")


@pytest.fixture(scope="module")
def health(placement: ModuleType) -> ModuleType:
    return load("etcd_health")


def config(own: str) -> dict[str, Any]:
    return {
        "self": own,
        "endpoints": ENDPOINTS,
        "peer_urls": PEERS,
        "rooms": {"db-a1": "a", "db-b1": "b", "witness": "w"},
        "server_rooms": ["a", "b"],
    }


class Quorum:
    """Answers as three members would. `down` members do not; `index` is how far each one's log is."""

    def __init__(
        self, *, leader: str | None, primary: str | None = None, down: tuple[str, ...] = (), **index: int
    ) -> None:
        self.leader, self.primary_host, self.down, self.index = leader, primary, down, index
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    def _name(self, endpoint: str) -> str:
        name = next(name for name, address in ENDPOINTS.items() if address == endpoint)
        if name in self.down:
            raise OSError(f"{endpoint}: connection refused")
        return name

    def status(self, endpoint: str) -> dict[str, Any]:
        name = self._name(endpoint)
        return {
            "header": {"member_id": IDENTITIES[name]},
            "leader": IDENTITIES[self.leader] if self.leader else "0",
            "raftIndex": str(self.index.get(name.replace("-", "_"), 1000)),
        }

    def primary(self, endpoint: str) -> str | None:
        self._name(endpoint)
        if self.leader is None:
            raise OSError("no leader")
        return self.primary_host

    def ask(self, endpoint: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((self._name(endpoint), path, body))
        members = [{"ID": IDENTITIES[name], "peerURLs": [PEERS[name]]} for name in ENDPOINTS]
        return {"members": members}


@pytest.mark.parametrize("primary", ["db-a1", "db-b1", None])
@pytest.mark.parametrize("own", ["db-a1", "db-b1"])
def test_a_leader_in_a_server_room_hands_over_to_the_witness(
    placement: ModuleType, own: str, primary: str | None
) -> None:
    target = placement.look(Quorum(leader=own, primary=primary), config(own))
    assert target.name == "witness"


@pytest.mark.parametrize("primary", ["db-a1", "db-b1", None])
def test_the_witness_keeps_the_leadership(placement: ModuleType, primary: str | None) -> None:
    assert placement.look(Quorum(leader="witness", primary=primary), config("witness")) is None


def test_without_a_witness_the_leader_leaves_the_room_of_the_primary(placement: ModuleType) -> None:
    quorum = Quorum(leader="db-a1", primary="db-a1", down=("witness",))
    assert placement.look(quorum, config("db-a1")).name == "db-b1"


def test_without_a_witness_a_leader_away_from_the_primary_stays(placement: ModuleType) -> None:
    quorum = Quorum(leader="db-b1", primary="db-a1", down=("witness",))
    assert placement.look(quorum, config("db-b1")) is None


def test_only_the_leader_acts(placement: ModuleType) -> None:
    assert placement.look(Quorum(leader="db-a1", primary="db-a1"), config("db-b1")) is None


def test_a_witness_that_is_behind_gets_nothing(placement: ModuleType) -> None:
    quorum = Quorum(leader="db-a1", primary="db-b1", witness=100, db_a1=1000)
    assert placement.look(quorum, config("db-a1")) is None


def test_a_member_that_does_not_answer_itself_is_said_so(placement: ModuleType) -> None:
    with pytest.raises(OSError, match="refused"):
        placement.look(Quorum(leader="witness", down=("db-a1",)), config("db-a1"))


def test_a_new_cluster_is_left_alone(rejoin: ModuleType, tmp_path: Path) -> None:
    quorum = Quorum(leader=None, down=("db-b1", "witness"))
    assert not rejoin.rejoin(quorum, config("db-a1"), tmp_path / "join")
    assert not (tmp_path / "join").exists()


def test_a_cluster_that_is_being_formed_is_left_alone(rejoin: ModuleType, tmp_path: Path) -> None:
    quorum = Quorum(leader=None, down=("witness",), db_b1=3)
    assert not rejoin.rejoin(quorum, config("db-a1"), tmp_path / "join")


def test_a_rebuilt_host_gets_a_new_identity_and_joins(rejoin: ModuleType, tmp_path: Path) -> None:
    quorum = Quorum(leader="witness", down=("db-a1",))
    assert rejoin.rejoin(quorum, config("db-a1"), tmp_path / "join")
    paths = [(path.rsplit("/", 1)[1], body) for _, path, body in quorum.asked]
    assert paths == [("list", {}), ("remove", {"ID": "11"}), ("add", {"peerURLs": [PEERS["db-a1"]]})]
    written = dict(line.split("=", 1) for line in (tmp_path / "join").read_text(encoding="utf-8").splitlines())
    assert written["ETCD_INITIAL_CLUSTER_STATE"] == "existing"
    assert set(written["ETCD_INITIAL_CLUSTER"].split(",")) == {f"{name}={url}" for name, url in PEERS.items()}


def test_a_host_without_data_does_not_join_others_that_lost_their_majority(rejoin: ModuleType, tmp_path: Path) -> None:
    quorum = Quorum(leader=None, down=("db-a1", "witness"), db_b1=5000)
    with pytest.raises(rejoin.RejoinError, match="db-a1 has no etcd data, and db-b1 runs without a leader"):
        rejoin.rejoin(quorum, config("db-a1"), tmp_path / "join")


def test_health_names_the_member_that_does_not_answer(health: ModuleType) -> None:
    leaders, complaints = health.examine(Quorum(leader="witness", down=("db-b1",)), config("db-a1"))
    assert leaders == {"33"}
    assert len(complaints) == 1
    assert complaints[0].startswith("db-b1 is not healthy")


def test_a_whole_quorum_has_no_complaint(health: ModuleType) -> None:
    assert health.examine(Quorum(leader="witness", primary="db-a1"), config("db-a1")) == ({"33"}, [])


def test_the_configuration_is_read_from_a_file(
    health: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "placement.json"
    path.write_text(json.dumps(config("db-a1")), encoding="utf-8")
    monkeypatch.setattr(health, "Etcd", lambda _config: Quorum(leader=None))
    monkeypatch.setattr(sys, "argv", ["etcd_health.py", str(path), "0"])
    assert health.main() == 1
    assert "db-a1" in capsys.readouterr().err
