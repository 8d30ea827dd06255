"""The schedule of the prober is fixed when it starts: every kind at its rate, rooms in turn."""

from __future__ import annotations

from collections import Counter
from itertools import islice, takewhile

import pytest

from siasops.drill.workloads.prober import schedule, searches

RATES = {"read": 10.0, "write": 2.0}


def test_every_kind_arrives_at_its_rate_in_order_of_time() -> None:
    due = list(takewhile(lambda arrival: arrival[0] < 110.0, schedule(100.0, RATES, ["a", "b"])))
    assert [at for at, *_ in due] == sorted(at for at, *_ in due)
    assert Counter(kind for _, kind, *_ in due) == {"read": 100, "write": 20}


@pytest.mark.parametrize("kind", RATES)
def test_rooms_take_turns_in_every_kind(kind: str) -> None:
    rooms = [room for _, k, room, _ in islice(schedule(0.0, RATES, ["a", "b"]), 240) if k == kind]
    assert abs(rooms.count("a") - rooms.count("b")) <= 1


@pytest.mark.parametrize("rooms", ["ab", "abc"])
def test_readers_of_every_room_search_and_open_files(rooms: str) -> None:
    reads = [(room, n) for _, kind, room, n in islice(schedule(0.0, RATES, list(rooms)), 240) if kind == "read"]
    for room in rooms:
        found = Counter(searches(n, len(rooms)) for where, n in reads if where == room)
        assert abs(found[True] - found[False]) <= 1
