"""Loading a population tells the application's own reason when it fails, whatever is there already."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from siasops.data import population
from siasops.data.population import Stats
from siasops.errors import UserError
from siasops.inventory import Inventory


def test_a_load_that_ended_badly_is_none_though_more_persons_are_there(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [
        json.dumps({"phase": "personnes", "done": 5, "total": 9, "elapsed": 1.0}),
        "server closed the connection",
        "",
    ]
    ended: list[str] = []

    def stream(*_: object) -> Iterator[str]:
        yield from said
        yield from ended

    host = inventory.group("applications")[0]
    monkeypatch.setattr(population, "_application_host", lambda _: host)
    monkeypatch.setattr(population, "_stream", stream)
    monkeypatch.setattr(population, "stats", lambda _: Stats(1_000_000, 400_000, 0))
    told: list[str] = []
    assert population.load(inventory, persons=9, seed=57, replace=True, say=told.append).persons == 1_000_000
    assert told == ["personnes: 5 of 9 (1 s)"]
    ended.append(json.dumps({"error": "ended with exit code 1"}))
    with pytest.raises(UserError, match=rf"{host.name}: .* server closed the connection \(ended with exit code 1\)"):
        population.load(inventory, persons=9, seed=57, replace=True, say=told.append)
