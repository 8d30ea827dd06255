"""Alerts are silenced while planned work is done, on its hosts, and not longer: against an Alertmanager over HTTP."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from siasops import inventory as facts
from siasops import silence
from siasops.inventory import ROOT, Inventory
from siasops.remote import RemoteError, Result
from siasops.silence import Silence

PASSWORD = "s3cret"


class Alertmanager(ThreadingHTTPServer):
    """Keeps silences as Alertmanager's API does, rules about changing one included."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.silences: dict[str, dict[str, Any]] = {}
        self.refuses = False
        self.asked = threading.Semaphore(0)

    @property
    def in_force(self) -> list[dict[str, Any]]:
        return [s for s in self.silences.values() if datetime.fromisoformat(s["endsAt"]) > datetime.now(UTC)]

    @property
    def hosts(self) -> list[str]:
        """Hosts whose alerts are silent now."""
        return [m["value"] for s in self.in_force for m in s["matchers"] if m["name"] == "host"]

    def put(self, body: dict[str, Any]) -> str:
        now = datetime.now(UTC)
        assert datetime.fromisoformat(body["endsAt"]) > now, "Alertmanager refuses an end in the past"
        identity = body.pop("id", None)
        if identity is not None:
            former = self.silences[identity]
            begins = [datetime.fromisoformat(x["startsAt"]).timestamp() // 1 for x in (former, body)]
            assert (former["matchers"], begins[0]) == (body["matchers"], begins[1]), "it would be another silence"
        self.silences[identity or str(uuid.uuid4())] = body
        return identity or list(self.silences)[-1]


class Handler(BaseHTTPRequestHandler):
    server: Alertmanager

    def _answer(self, code: int, body: Any = None) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())
        self.server.asked.release()

    def _refused(self) -> bool:
        wanted = "Basic " + base64.b64encode(f"operateur:{PASSWORD}".encode()).decode()
        if self.server.refuses or self.headers["Authorization"] != wanted:
            self._answer(401)
            return True
        return False

    def do_GET(self) -> None:
        if not self._refused():
            assert self.path == "/api/v2/silences"
            standing = {id(s) for s in self.server.in_force}
            found = [
                s | {"id": key, "status": {"state": "active" if id(s) in standing else "expired"}}
                for key, s in self.server.silences.items()
            ]
            self._answer(200, found)

    def do_POST(self) -> None:
        if not self._refused():
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(200, {"silenceID": self.server.put(body)})

    def do_DELETE(self) -> None:
        if not self._refused():
            self.server.silences[self.path.removeprefix("/api/v2/silence/")]["endsAt"] = datetime.now(UTC).isoformat()
            self._answer(200)

    def log_message(self, *_: Any) -> None:
        pass


class Hosts:
    """Connections that know one file of the monitoring hosts."""

    away: frozenset[str] = frozenset()

    def run(self, host: str, command: list[str], *, check: bool) -> Result:
        assert (command, check) == (["cat", "/etc/prometheus/operateur.password"], True)
        if host in self.away:
            raise RemoteError(f"{host} does not answer")
        return Result(host, 0, f"{PASSWORD}\n", "")


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Alertmanager]:
    made = Alertmanager()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    before = silence._Alertmanager.__init__

    def reached(self: Any, *arguments: Any) -> None:
        before(self, *arguments)
        self._url = f"http://127.0.0.1:{made.server_port}/api/v2"

    monkeypatch.setattr(silence._Alertmanager, "__init__", reached)
    monkeypatch.setattr(silence, "tls", lambda *_, **__: True)
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def inventory() -> Inventory:
    return facts.load(ROOT / "inventory" / "lab.yml")


def work(inventory: Inventory, said: list[str] | None = None, comment: str = "1: release 1.5") -> Silence:
    say = (lambda _: None) if said is None else said.append
    return Silence(inventory, Hosts(), by="sias release", comment=comment, say=say)  # type: ignore[arg-type]


def test_alerts_of_the_hosts_that_are_worked_on_are_silent_as_long_as_that_lasts(
    inventory: Inventory, manager: Alertmanager
) -> None:
    with work(inventory) as under:
        under.cover([])
        assert not manager.silences, "nothing is asked of Alertmanager before there is something to silence"
        under.cover(["app-b1", "app-a1"])
        (one,) = manager.in_force
        assert one["matchers"] == [
            {"name": "host", "value": "app-a1|app-b1", "isRegex": True, "isEqual": True},
            {"name": "scope", "value": "service", "isRegex": False, "isEqual": True},
        ]
        assert (one["createdBy"], one["comment"]) == ("sias release", "1: release 1.5")
        ahead = datetime.fromisoformat(one["endsAt"]) - datetime.now(UTC)
        assert timedelta(minutes=4) < ahead <= timedelta(minutes=5), "a killed process's silence ends by itself"
        under.cover(["app-b1"])
        assert manager.hosts == ["app-b1"]
        under.cover([])
        assert manager.hosts == []
    assert len(manager.silences) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_alerts_are_heard_again_however_the_work_ends(
    inventory: Inventory, manager: Alertmanager, error: type[BaseException]
) -> None:
    def stopped() -> None:
        with work(inventory) as under:
            under.cover(["app-b1"])
            assert manager.hosts == ["app-b1"]
            raise error

    with pytest.raises(error):
        stopped()
    assert manager.hosts == []


def test_a_silence_is_renewed_while_the_work_goes_on(
    inventory: Inventory, manager: Alertmanager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "RENEW", 0.05)
    with work(inventory) as under:
        under.cover(["app-b1"])
        ((key, first),) = manager.silences.items()
        for _ in range(6):
            assert manager.asked.acquire(timeout=5)
        assert list(manager.silences) == [key], "the same one, with a later end"
        assert manager.silences[key]["endsAt"] > first["endsAt"]


def test_what_a_killed_process_left_is_taken_over_by_the_next_and_nobody_elses_is_touched(
    inventory: Inventory, manager: Alertmanager
) -> None:
    killed, other = work(inventory), work(inventory, comment="2: another")
    killed.cover(["app-b1"])
    other.cover(["app-a1"])
    with work(inventory) as under:
        under.cover(["app-b1"])
        assert sorted(manager.hosts) == ["app-a1", "app-b1"]
        assert len(manager.silences) == 2
        under.cover(["db-b1"])
        assert sorted(manager.hosts) == ["app-a1", "db-b1"]
    assert manager.hosts == ["app-a1"]
    for left in (killed, other):
        left._stop()


def test_a_host_that_is_away_stays_silent_until_it_is_called_back(inventory: Inventory, manager: Alertmanager) -> None:
    with work(inventory) as leaving:
        leaving.cover(["app-b1"])
        leaving.keep(3600)
    (one,) = manager.in_force
    assert datetime.fromisoformat(one["endsAt"]) - datetime.now(UTC) > timedelta(minutes=59)
    with work(inventory) as returning:
        returning.cover(["app-b1"])
        (one,) = manager.in_force
        assert datetime.fromisoformat(one["endsAt"]) - datetime.now(UTC) < timedelta(minutes=6)
    assert manager.hosts == []


def test_an_alertmanager_that_refuses_is_said_once_and_the_work_goes_on(
    inventory: Inventory, manager: Alertmanager
) -> None:
    said: list[str] = []
    manager.refuses = True
    with work(inventory, said) as under:
        under.cover(["app-b1"])
        under.cover(["app-a1"])
        assert len(said) == 1
        assert "Alertmanager on witness" in said[0]
        manager.refuses = False
        under.cover(["db-b1"])
        assert manager.hosts == ["db-b1"]
        manager.refuses = True
    assert len(said) == 2


def test_one_alertmanager_is_told_and_it_is_one_that_lives(
    inventory: Inventory, manager: Alertmanager, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with work(inventory, said) as under:
        under.cover(["app-b1"])
        assert len(manager.silences) == 1, "its peers learn from it"
        monkeypatch.setattr(Hosts, "away", frozenset({"witness"}))
        under._places[0].close()
        under._places[0]._http = None
        under.cover(["db-b1"])
        assert manager.hosts == ["db-b1"]
    assert (manager.hosts, said) == ([], [])


@pytest.mark.parametrize("reason", ["no host answers", "nobody listens", "no authority"])
def test_an_alertmanager_that_cannot_be_reached_hinders_nothing(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: str
) -> None:
    said: list[str] = []
    under = work(inventory, said)
    if reason == "no host answers":

        def run(*_: Any, **__: Any) -> Result:
            raise RemoteError("witness does not answer")

        monkeypatch.setattr(Hosts, "run", run)
    elif reason == "nobody listens":
        monkeypatch.setattr(silence, "tls", lambda *_, **__: True)
        monkeypatch.setitem(inventory.ports, "alertmanager", 1)
        monkeypatch.setattr(silence, "TIMEOUT", 0.2)
    else:
        monkeypatch.setattr(Inventory, "var", property(lambda _: tmp_path))
    with under:
        under.cover(["app-b1"])
    assert len(said) == 1
    assert said[0].startswith("silences are not as they should be, Alertmanager on witness: ")
