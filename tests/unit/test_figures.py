"""What the controller tells Prometheus about changes, drills and load tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from siasops import figures
from siasops.calendar import records
from siasops.change import state as states
from siasops.change.state import State
from siasops.inventory import Inventory


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Values by name and labels."""
    return {
        (s.name, *s.labels.values()): s.value for family in text_string_to_metric_families(text) for s in family.samples
    }


def test_changes_drills_and_loads_are_told_by_their_last_run(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inventory, "var", tmp_path)
    drills = [
        {"name": "latency", "run": "3", "verdict": "held", "findings": []},
        {"name": "room-loss", "run": "2", "verdict": "failed", "findings": [{"rule": "a write"}, {"rule": "a read"}]},
        {"name": "latency", "run": "1", "verdict": "failed", "findings": [{"rule": "a write"}]},
    ]
    loads = [{"scenario": "plateau", "run": "4", "verdict": "invalid"}]
    with records.recording(inventory, kind="release", what="version 1"):
        pass
    with records.recording(inventory, kind="release", what='version "2"'):
        text = figures.render(inventory, drills, loads, {"1": 10.0, "2": 20.0, "3": 30.0, "4": 40.0})
    told = samples(text)
    assert told[("sias_drill_last_held", "latency")] == 1
    assert told[("sias_drill_last_ended_seconds", "latency")] == 30
    assert told[("sias_drill_last_held", "room-loss")] == 0
    assert told[("sias_drill_last_findings", "latency")] == 0, "a later run that found nothing counts"
    assert told[("sias_drill_last_findings", "room-loss")] == 2
    assert told[("sias_load_last_held", "plateau")] == 0, "a run that says nothing held nothing"
    assert told[("sias_change_under_way_since_seconds", "release", 'version "2"')] > 0
    assert told[("sias_change_last_ended_seconds", "release", "done", "version 1")] > 0


def test_a_change_stands_half_way_once_nobody_works_on_it(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inventory, "var", tmp_path)
    state = State(
        "x", "release", "lab", "release 2", {}, "2026-01-01T00:00:00+00:00", folder=states.home(inventory) / "x"
    )
    state.folder.mkdir()
    state.write()
    name = ("sias_change_half_way_since_seconds", "release", "release 2")
    with records.recording(inventory, kind="release", what="release 2"):
        assert name not in samples(figures.render(inventory, [], [], {}))
    os.utime(state.folder / "state.json", (1000, 1000))
    assert samples(figures.render(inventory, [], [], {}))[name] == 1000
    state.status = "done"
    state.write()
    assert name not in samples(figures.render(inventory, [], [], {}))
