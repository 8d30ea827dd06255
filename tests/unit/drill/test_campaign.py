"""Campaigns: an order that can be drawn again, a state that survives a crash, and a report that hides nothing."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siasops import inventory as facts
from siasops.console import Progress
from siasops.drill import active, campaign, matrix, registry
from siasops.drill.campaign import Done, Plan
from siasops.drill.faults import Stage
from siasops.errors import UserError
from siasops.inventory import Inventory

from .test_report import judged

PLAN = Plan("20261121-223000", "lab", 7, 5, ["room-loss", "primary-crash", "switchover"])


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    loaded = facts.load(facts.resolve("lab"))
    monkeypatch.setattr(facts, "ROOT", tmp_path)
    return loaded


def test_the_same_seed_draws_the_same_order_in_rounds() -> None:
    order = PLAN.order
    assert order == replace(PLAN).order
    assert order != replace(PLAN, seed=8).order
    rounds = [order[n : n + 3] for n in range(0, len(order), 3)]
    assert all(sorted(turn) == sorted(PLAN.drills) for turn in rounds)


def test_a_campaign_that_died_goes_on_where_it_stopped(lab: Inventory) -> None:
    folder = campaign.record(lab, PLAN)
    (folder / "runs.jsonl").write_text(
        '{"drill": "room-loss", "verdict": "held", "seconds": 50, "run": "x", "why": ""}\n{"drill": "prim'
    )
    assert [one.drill for one in campaign.done(folder)] == ["room-loss"]
    assert campaign.left(folder) == PLAN.order[1:]
    assert campaign.find(lab) == folder


def test_runs_go_on_after_one_that_could_not_run_and_stop_when_time_is_up(
    lab: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = campaign.record(lab, PLAN)
    healed: list[int] = []

    def once(stage: Stage, fault: Any, progress: Progress) -> Any:
        raise UserError(f"{fault.name} could not")

    monkeypatch.setattr(campaign, "once", once)
    monkeypatch.setattr(campaign, "heal_on", lambda *_: healed.append(1))
    stage = Stage(lab, None)  # type: ignore[arg-type]
    assert campaign.run(stage, folder, Progress(), until=0.0) == []
    done = campaign.run(stage, folder, Progress())
    assert [one.drill for one in done] == PLAN.order
    assert {one.verdict for one in done} == {campaign.COULD_NOT_RUN}
    assert len(healed) == len(done)
    assert campaign.left(folder) == []


def test_a_campaign_that_does_not_exist_names_those_that_do(lab: Inventory) -> None:
    with pytest.raises(UserError, match="No campaign"):
        campaign.find(lab)
    campaign.record(lab, PLAN)
    with pytest.raises(UserError, match=PLAN.name):
        campaign.find(lab, "yesterday")


@given(st.lists(st.floats(0, 100), min_size=1))
def test_every_percentile_was_measured_and_they_are_in_order(values: list[float]) -> None:
    found = matrix.spread(values)
    assert found is not None
    assert {found.p50, found.p95, found.worst} <= set(values)
    assert found.p50 <= found.p95 <= found.worst == max(values)


def test_the_95th_of_twenty_is_not_the_worst() -> None:
    found = matrix.spread([float(n) for n in range(1, 21)])
    assert found is not None
    assert (found.p50, found.p95, found.worst) == (10.0, 19.0, 20.0)


def results(count: int, **changes: object) -> list[dict[str, Any]]:
    result, _ = judged()
    one = {**result.as_json(), "folder": "x"}
    return [{**one, "run": f"{n}", "figures": {**one["figures"], **changes}} for n in range(count)]


OBJECTIVES = {"drills": {"primary_crash": {"write_gap": 10}}, "drills_p95": {"primary_crash": {"write_gap": 1.5}}}


def test_zero_losses_in_sixty_runs_bound_the_rate_by_three_sixtieths() -> None:
    (row,) = matrix.rows(results(60), OBJECTIVES)
    assert row.bound == pytest.approx(0.05)
    assert "5.0%" in matrix.bound(row)


def test_one_loss_proves_no_bound() -> None:
    (row,) = matrix.rows([*results(59), *results(1, writes_lost=1)], OBJECTIVES)
    assert (row.lost, row.bound) == (1, None)
    assert "LOST" in matrix.bound(row)


def test_a_run_that_was_not_offered_its_load_proves_nothing() -> None:
    starved = [{**r, "verdict": "invalid"} for r in results(30)]
    (row,) = matrix.rows([*results(30), *starved], OBJECTIVES)
    assert row.bound == pytest.approx(0.1)
    assert row.verdicts.count("invalid") == 30


@pytest.mark.parametrize(("gap", "met"), [(1.4, True), (1.6, False)])
def test_a_goal_for_all_runs_is_told_apart_from_the_limit_of_one(gap: float, met: bool) -> None:
    (row,) = matrix.rows(results(5, write_gap=gap), OBJECTIVES)
    assert row.goals == {"write_gap": (1.5, met)}


def test_the_page_compares_with_the_campaign_before_and_is_self_contained() -> None:
    now, before = results(3, write_gap=1.0), results(3, write_gap=2.5)
    rows = matrix.rows(now, OBJECTIVES, before)
    assert matrix.change(rows[0]) == "-1.50 s"
    page = matrix.html(
        "Campaign", rows, now, objectives=OBJECTIVES, notes=["latency was skipped: no queue"], before=before
    )
    assert "-1.50 s" in page
    assert "latency was skipped" in page
    assert not re.search(r"<script|<link|<img|@import|url\(", page)
    assert set(re.findall(r'https?://[^"\s]+', page)) == {"http://www.w3.org/2000/svg"}
    assert page.count('class="dot"') == 3
    assert page.count('class="old"') == 3


def test_kept_figures_outlive_the_lab_and_add_up(lab: Inventory, tmp_path: Path) -> None:
    folder, path = campaign.record(lab, PLAN), tmp_path / "drills.jsonl"
    result, _ = judged(gap=12.0)
    run = active.folder(lab) / result.run
    run.mkdir()
    (run / "result.json").write_text(json.dumps(result.as_json()))
    ends = [
        Done("primary-crash", "failed", 40, run=result.run),
        Done("room-loss", campaign.COULD_NOT_RUN, 3, why="no power"),
    ]
    (folder / "runs.jsonl").write_text("".join(json.dumps(asdict(one)) + "\n" for one in ends))
    assert campaign.keep(lab, folder, path) == 2
    shutil.rmtree(run)
    with (folder / "runs.jsonl").open("a") as file:
        file.write(json.dumps(asdict(Done("switchover", "held", 30, run="gone"))) + "\n")
    assert campaign.keep(lab, folder, path) == 1, "those that are kept are not added again"
    crash, power, gone = campaign.kept(path)
    assert (crash["verdict"], crash["broken"]) == ("failed", ["Longest time without an acknowledged write"])
    assert crash["figures"]["write_gap"] == pytest.approx(12.0, abs=0.11)
    assert (power["verdict"], power["why"]) == (campaign.COULD_NOT_RUN, "no power")
    assert (gone["run"], gone["why"]) == ("gone", "its folder is gone")
    (row,) = matrix.rows([crash], OBJECTIVES)
    assert row.goals == {"write_gap": (1.5, False)}


def test_a_line_of_kept_figures_that_is_torn_is_named(tmp_path: Path) -> None:
    path = tmp_path / "drills.jsonl"
    assert campaign.kept(path) == []
    path.write_text('{"name": "x"}\n{"name\n')
    with pytest.raises(UserError, match=r"drills\.jsonl, line 2 cannot be read"):
        campaign.kept(path)


def test_every_run_that_is_kept_can_be_read_and_is_there_once() -> None:
    runs = campaign.kept()
    assert runs, f"{campaign.KEPT} is empty"
    assert len({(one["campaign"], one["number"]) for one in runs}) == len(runs)
    assert {one["name"] for one in runs} <= set(registry.DRILLS)
    told = [one for one in runs if "figures" in one]
    assert {row.drill for row in matrix.rows(told, OBJECTIVES)} == {one["name"] for one in told}
