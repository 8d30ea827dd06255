"""The generator against the lab: every journey is answered, through both rooms. Half a minute; judges no latency."""

from __future__ import annotations

import json
from pathlib import Path

from siasops.console import Progress
from siasops.inventory import Inventory
from siasops.load import run as runner
from siasops.load import samples, scenario


def test_every_journey_is_offered_and_answered_through_both_rooms(lab: Inventory) -> None:
    result = runner.run(lab, scenario.load("smoke"), workers=2, progress=Progress())
    folder = lab.var / "load" / result.run
    made = samples.read(folder)
    assert [s for s in made if not s.ok] == []
    assert {s.room for s in made} == set(lab.rooms)
    assert {s.served_by for s in made} == {h.name for h in lab.group("applications")}
    assert not any("never came" in c for c in result.verdict.complaints)
    assert json.loads(Path(folder / "result.json").read_text(encoding="utf-8"))["run"] == result.run
    assert (folder / "report.html").stat().st_size > 10_000
