"""What the drill makes of the logs while they are written: which ways work, and which users still wait."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from siasops import inventory as facts
from siasops.drill.workers import CALM_LIMIT, LOGS, PATIENCE, STEADY, Tail, Worker, Workers
from siasops.drill.workloads.session import NEXT_DOOR, Door, Session
from siasops.errors import UserError

FAULT = 100.0


class Log:
    """A log that grows, and a clock that is set."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, stem: str = "ledger") -> None:
        self.path = folder / f"{stem}.jsonl"
        self.path.touch()
        self.monkeypatch = monkeypatch
        self.workers = Workers(facts.load(facts.resolve("lab")), "run", folder)
        self.tail = Tail(self.path)
        running: Any = SimpleNamespace(poll=lambda: None)
        (name,) = (name for name, log in LOGS.items() if log == stem)
        self.workers.workers[name] = Worker(name, running, self.tail, folder / "x")

    def write(self, *records: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        self.tail.follow()

    def waiting(self, now: float) -> list[str]:
        self.monkeypatch.setattr(time, "monotonic", lambda: now)
        return self.workers.waiting(FAULT)


def written(at: float, home: str = "a", outcome: str = "ok") -> dict[str, Any]:
    return {"e": "outcome", "t": at, "home": home, "outcome": outcome}


def steadily(start: float, end: float, home: str = "a") -> list[dict[str, Any]]:
    return [written(start + n / 10, home) for n in range(int((end - start) * 10) + 1)]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    return Log(tmp_path, monkeypatch)


def test_a_way_that_never_broke_is_not_waited_for(log: Log) -> None:
    log.write(*steadily(90, 105))
    assert log.waiting(105.1) == []


def test_a_way_that_broke_is_waited_for_until_it_has_been_steady(log: Log) -> None:
    log.write(*steadily(90, FAULT))
    assert log.waiting(103.0) == ["writes of room a"]
    log.write(*steadily(104, 105))
    assert log.waiting(105.1) == ["writes of room a"], "one second is not steady"
    log.write(*steadily(105.1, 104 + STEADY + 0.2))
    assert log.waiting(104 + STEADY + 0.2) == []


def test_a_way_that_breaks_again_is_waited_for_again(log: Log) -> None:
    log.write(*steadily(90, 105), *steadily(105 + PATIENCE["write"] + 0.5, 107))
    assert log.waiting(107.1) == ["writes of room a"]


def test_the_users_of_one_room_are_waited_for_when_those_of_the_other_are_served(log: Log) -> None:
    log.write(*steadily(90, 105, "a"), *steadily(90, FAULT, "b"))
    assert log.waiting(105.1) == ["writes of room b"]


def test_what_failed_is_no_success(log: Log) -> None:
    log.write(*steadily(90, FAULT), *(written(FAULT + n / 10, outcome="unknown") for n in range(1, 60)))
    assert log.waiting(106.0) == ["writes of room a"]
    assert log.tail.failed == 59


def test_a_line_that_is_still_being_written_waits_for_the_next_look(log: Log) -> None:
    with log.path.open("a") as file:
        file.write(json.dumps(written(1.0)) + "\n" + json.dumps(written(2.0))[:20])
    log.tail.follow()
    assert (log.tail.acknowledged, log.tail.last) == (1, 1.0)


def test_a_workload_that_died_is_an_error_and_no_silence(log: Log) -> None:
    with pytest.raises(UserError, match="ledger ended by itself: no disk"):
        log.write({"e": "died", "t": 1.0, "why": "no disk"})


@pytest.mark.parametrize(("until", "calm"), [(103.0, True), (1000.0, False)])
def test_nothing_is_broken_while_users_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: float, calm: bool
) -> None:
    log = Log(tmp_path, monkeypatch, "http")
    clock = [100.0]

    def answer(seconds: float) -> None:
        clock[0] += seconds
        took = 1.5 if clock[0] < until else 0.2
        log.write({"e": "request", "t": clock[0], "intended": clock[0] - took, "ok": True, "kind": "read", "room": "a"})

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", answer)
    said: list[str] = []
    assert log.workers.wait_calm(said.append) is calm
    assert bool(said) is not calm
    assert clock[0] >= (until + STEADY - 0.2 if calm else 100 + CALM_LIMIT)


def test_a_platform_that_answers_nobody_is_not_calm(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    log.write(*steadily(98, 99))
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    assert log.workers.wait_calm(lambda _: None) is False


# --- the doors of a session -----------------------------------------------------------------------------------------


def session(monkeypatch: pytest.MonkeyPatch, **seconds: float | None) -> Session:
    """A user of room a; each room's door opens after so many seconds, or is shut at once (None)."""
    rooms = {room: [{"host": f"app-{room}", "address": room}] for room in seconds}
    made = Session({"rooms": rooms}, "a", "sias", 0)

    async def opens(door: Door) -> Any:
        wait = seconds[door.room]
        if wait is None:
            raise psycopg.OperationalError("refused")
        await asyncio.sleep(wait)
        return door.room

    monkeypatch.setattr(made, "_open", opens)
    return made


@pytest.mark.parametrize(
    ("seconds", "room"),
    [
        ({"a": 0.0, "b": 0.0}, "a"),
        ({"a": NEXT_DOOR / 4, "b": 0.0}, "a"),
        ({"a": 30.0, "b": 0.0}, "b"),
        ({"a": None, "b": 0.0}, "b"),
    ],
)
def test_home_comes_first_and_a_door_that_stays_shut_holds_nobody_up(
    seconds: dict[str, float | None], room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first() -> str:
        _, door = await session(monkeypatch, **seconds)._first_open()
        return door.room

    assert asyncio.run(asyncio.wait_for(first(), 5)) == room


def test_a_session_that_finds_every_door_shut_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(psycopg.OperationalError, match="refused"):
        asyncio.run(session(monkeypatch, a=None, b=None)._first_open())
