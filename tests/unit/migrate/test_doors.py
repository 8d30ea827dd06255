"""The doors of the application hosts: told at once, let through whatever happens, and led by weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from siasops import inventory as facts
from siasops.cluster.instance import Instance
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.migrate import door, doors
from siasops.remote import RemoteError

GIVEN = {
    "port": 6432,
    "from": ["db-a1", "db-b1"],
    "to": ["db-a1-green", "db-b1-green"],
    "backends": ["pg_primary", "pg_replicas"],
}
STATES = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
7 pg_primary 1 db-a1 192.168.56.11 2 0 1
7 pg_primary 2 db-a1-green 192.168.56.11 2 0 0
"""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """One application host: what its PgBouncer and its HAProxy are told; a command in `slow` does not end."""
    told = SimpleNamespace(console=[], haproxy=[], slow=set(), refuse="", states=STATES)

    class Console:
        def __init__(self, _port: int) -> None:
            self.busy = False

        def say(self, command: str, limit: float) -> str:
            if self.busy or command in told.slow:
                self.busy = True
                raise TimeoutError(f"{command} takes longer than {limit:g} s")
            told.console.append(command)
            return ""

        def close(self) -> None:
            pass

    def haproxy(command: str) -> str:
        told.haproxy.append(command)
        return told.states if command.startswith("show") else str(told.refuse)

    monkeypatch.setattr(door, "Console", Console)
    monkeypatch.setattr(door, "haproxy", haproxy)
    return told


def test_clients_are_held_led_and_let_through(host: SimpleNamespace) -> None:
    one = door.Door(GIVEN)
    one.hold("30")
    one.point("to")
    one.release()
    one.release()
    assert host.console == ["PAUSE", "RESUME", "RESUME"]
    weights, cut = host.haproxy
    assert "set server pg_primary/db-a1-green weight 1" in weights
    assert "set server pg_replicas/db-b1 weight 0" in weights
    # Nothing is without a server in between: the new ones come before the old ones go.
    assert weights.index("db-b1-green weight 1") < weights.index("db-a1 weight 0")
    assert cut.count("shutdown sessions server") == 4
    assert "green" not in cut


def test_who_is_held_is_let_through_when_nobody_says_anything(host: SimpleNamespace) -> None:
    door.Door(GIVEN).hold("0.2")
    end = time.monotonic() + 5
    while host.console != ["PAUSE", "RESUME"]:
        assert time.monotonic() < end, host.console
        time.sleep(0.02)


def test_transactions_that_do_not_end_let_everybody_through_again(host: SimpleNamespace) -> None:
    host.slow = {"PAUSE"}
    with pytest.raises(TimeoutError, match="do not end"):
        door.Door(GIVEN).hold("30")
    assert host.console == ["RESUME"]


def test_a_haproxy_that_refuses_is_heard(host: SimpleNamespace) -> None:
    host.refuse = "No such server."
    with pytest.raises(OSError, match="No such server"):
        door.Door(GIVEN).point("to")


def test_a_side_without_a_primary_is_seen_before_anybody_waits(host: SimpleNamespace) -> None:
    door.Door(GIVEN).usable("to")
    host.states = STATES.replace("192.168.56.11 2 0 0", "192.168.56.11 0 0 0")
    with pytest.raises(OSError, match="sees no primary among db-a1-green"):
        door.Door(GIVEN).usable("to")


class Talks:
    """A fleet whose hosts say what they are told to."""

    def __init__(self) -> None:
        self.said: dict[str, list[str]] = {}
        self.given: list[dict[str, Any]] = []
        self.wrong: dict[tuple[str, str], str] = {}
        self.lost = ""

    @contextmanager
    def talk(self, host: str, command: list[str]) -> Iterator[Any]:
        if host == self.lost:
            raise RemoteError(f"{host} does not answer")
        self.given.append(json.loads(command[-1]))

        def ask(text: str, mark: str, *, timeout: float) -> str:
            assert mark == f"{door.MARK}\n"
            assert timeout > doors.ANSWER
            self.said.setdefault(host, []).append(text.strip())
            answer = self.wrong.get((host, text.split(maxsplit=1)[0].strip()), "ok")
            if answer == "dead":
                raise RemoteError(f"{host} does not answer")
            return f"{answer}\n"

        yield SimpleNamespace(ask=ask)


@pytest.fixture
def lab() -> Inventory:
    return facts.load(facts.resolve("lab"))


@contextmanager
def gate(lab: Inventory, talks: Talks, silent: Callable[[str], None] | None = None) -> Iterator[doors.Everywhere]:
    blue, green = Instance(lab, "blue", "15", "sias"), Instance(lab, "green", "17", "sias-17")
    with doors.everywhere(lab, talks, blue, green, limit=5, silent=silent) as made:  # type: ignore[arg-type]
        yield made


def test_every_application_host_is_told(lab: Inventory) -> None:
    talks = Talks()
    with gate(lab, talks) as made:
        made.ready()
        made.hold()
        made.point("to")
        made.release()
    words = ["usable to", "hold 7", "point to", "release"]
    assert talks.said == {"app-a1": words, "app-b1": words}
    assert talks.given[0]["to"] == ["db-a1-green", "db-b1-green"]


def test_a_host_that_cannot_hold_lets_all_of_them_through(lab: Inventory) -> None:
    talks = Talks()
    talks.wrong["app-b1", "hold"] = "transactions that run do not end"
    with gate(lab, talks) as made, pytest.raises(UserError, match="app-b1: transactions that run do not end"):
        made.hold()
    assert all(said[-1] == "release" for said in talks.said.values())


def test_a_dead_host_keeps_nobody_from_telling_the_others(lab: Inventory) -> None:
    talks = Talks()
    talks.wrong |= {("app-a1", "point"): "dead", ("app-a1", "release"): "dead"}
    with gate(lab, talks) as made:
        with pytest.raises(UserError, match="app-a1 does not answer"):
            made.point("from")
        made.release()
    assert talks.said["app-b1"] == ["point from", "release"]


def test_a_cutover_begins_with_every_host_and_is_ended_by_those_that_are_left(lab: Inventory) -> None:
    talks, told = Talks(), list[str]()
    talks.lost = "app-a1"
    with pytest.raises(RemoteError, match="app-a1 does not answer"), gate(lab, talks):
        pass
    with gate(lab, talks, told.append) as made:
        made.point("from")
        made.release()
    assert talks.said == {"app-b1": ["point from", "release"]}
    assert told == ["app-a1 does not answer"]
