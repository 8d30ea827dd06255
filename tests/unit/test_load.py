"""Load tests: what is offered is decided beforehand, what was not offered says nothing, objectives decide."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from siasops import inventory as facts
from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory
from siasops.load import compare, report, run, scenario
from siasops.load.resources import Usage, group_of
from siasops.load.run import Result
from siasops.load.samples import COLUMNS, Sample, longest_silence, percentile, read
from siasops.load.schedule import Arrival, arrivals, mine
from siasops.load.verdict import Fault, Verdict, judge, limit

OBJECTIVES = {
    "rate": 10, "failed": 0.001, "offered": 0.99, "late": 0.1, "writes": ["save"],
    "mix": {"search": {"share": 3, "p95": 0.3}, "save": {"share": 1, "p95": 0.5}},
}  # fmt: skip
PHASES = [{"name": "peak", "rate": 10.0, "seconds": 60.0, "judged": True}]
PLAN: dict[str, Any] = {
    "seed": 1, "phases": PHASES, "shares": {"search": 3, "save": 1},
    "sites": [{"code": "57463", "room": "a", "population": 300}, {"code": "57672", "room": "b", "population": 100}],
}  # fmt: skip
IDLE = [Usage(float(t), {"load generator": 0.2}, 0.3, 0.0, 0.5, 0.2) for t in range(0, 60, 2)]
HIGH_RATE = [{"name": f"{r}", "rate": float(r), "seconds": 60.0, "judged": True} for r in (5, 10, 20)]


def answers(planned: list[Arrival], latency: float = 0.05, **changed: Any) -> list[Sample]:
    """One good answer for each arrival, unless changed."""
    return [
        Sample(**{
            "arrival": a.number, "first": True, "kind": a.kind, "phase": a.phase, "room": a.room, "intended": a.at,
            "started": a.at + 0.001, "ended": a.at + latency, "status": 200, "why": "", "served_by": "app-a1", **changed,
        })
        for a in planned
    ]  # fmt: skip


@pytest.fixture(scope="module")
def planned() -> list[Arrival]:
    return list(arrivals(PLAN))


def verdict(planned: list[Arrival], samples: list[Sample], usages: list[Usage] = IDLE, **given: Any) -> Verdict:
    return judge(planned, samples, usages, **{"phases": PHASES, "objectives": OBJECTIVES, **given})


def test_arrivals_come_at_the_rate_and_in_the_shares_asked_for_and_the_same_ones_each_time(
    planned: list[Arrival],
) -> None:
    long = list(arrivals({**PLAN, "phases": [{**PHASES[0], "seconds": 1000.0}]}))
    assert len(long) == pytest.approx(10_000, rel=0.05)
    assert Counter(a.kind for a in long)["search"] / len(long) == pytest.approx(0.75, abs=0.02)
    assert Counter(a.room for a in long)["a"] / len(long) == pytest.approx(0.75, abs=0.02)
    assert [a.at for a in long] == sorted(a.at for a in long)
    assert list(arrivals(PLAN)) == planned != list(arrivals({**PLAN, "seed": 2}))


def test_workers_share_the_arrivals_without_a_gap_or_a_double(planned: list[Arrival]) -> None:
    shared = sorted((a for w in range(3) for a in mine(PLAN, w, 3)), key=lambda a: a.number)
    assert shared == planned


def test_a_run_within_its_objectives_holds(planned: list[Arrival]) -> None:
    found = verdict(planned, answers(planned))
    assert found.word == "held", found
    assert len(found.promises) == 3
    assert found.limit.startswith("not the processor")


def test_latency_counts_from_the_intended_start_so_that_a_stall_is_felt_by_all_who_came(planned: list[Arrival]) -> None:
    # Everybody who comes between 20 and 30 s is answered at 30 s, each within a millisecond of being asked.
    stalled = [replace(s, started=s.intended, ended=30.0) if 20 <= s.intended < 30 else s for s in answers(planned)]
    found = verdict(planned, stalled)
    assert found.word == "failed"
    assert found.figures["search"]["p95"] > 5


@pytest.mark.parametrize("kind", ["search", "save"])
def test_one_slow_kind_fails_the_run_though_the_others_are_fast(planned: list[Arrival], kind: str) -> None:
    slow = [replace(s, ended=s.intended + 0.6) if s.kind == kind else s for s in answers(planned)]
    assert [p.what for p in verdict(planned, slow).promises if not p.held] == [f"{kind}, 95 %"]


def test_failures_are_never_fast_answers(planned: list[Arrival]) -> None:
    failing = [replace(s, why="503") if s.arrival % 50 == 0 else s for s in answers(planned)]
    found = verdict(planned, failing)
    assert [p.what for p in found.promises if not p.held] == ["failed requests"]
    assert verdict(planned, answers(planned, why="503")).word == "failed"


def test_a_run_that_did_not_offer_its_rate_is_invalid_however_fast_it_was(planned: list[Arrival]) -> None:
    found = verdict(planned, answers(planned)[: int(len(planned) * 0.98)])
    assert found.word == "invalid"
    assert "never came" in found.complaints[0]
    late = [replace(s, started=s.intended + 0.2, ended=s.intended + 0.25) for s in answers(planned)]
    assert "came later than 0.1 s" in verdict(planned, late).complaints[0]


def test_a_run_whose_generator_was_the_bottleneck_is_invalid(planned: list[Arrival]) -> None:
    found = verdict(planned, answers(planned), [replace(u, busiest_worker=0.97) for u in IDLE])
    assert found.word == "invalid"
    assert "generator was the bottleneck" in found.complaints[0]


def test_nothing_offered_is_not_held() -> None:
    assert verdict([], []).word == "invalid"


def test_a_phase_that_is_not_judged_may_be_slow() -> None:
    phases = [{**PHASES[0], "name": "spike", "judged": False}, PHASES[0]]
    planned = list(arrivals({**PLAN, "phases": phases}))
    samples = [replace(s, ended=s.intended + 2) if s.phase == "spike" else s for s in answers(planned)]
    assert verdict(planned, samples, phases=phases).word == "held"
    assert verdict(planned, samples, phases=[{**p, "judged": True} for p in phases]).word == "failed"


def test_the_knee_is_the_last_step_that_holds_and_the_broken_one_is_named() -> None:
    planned = list(arrivals({**PLAN, "phases": HIGH_RATE}))
    busy = [
        Usage(float(t), {"PostgreSQL": 1.4, "application": 0.5}, 0.97, 0.0, 0.5, queued=0.6) for t in range(120, 180, 2)
    ]
    samples = [replace(s, ended=s.intended + 0.4) if s.phase == "20" else s for s in answers(planned)]
    found = verdict(planned, samples, [*IDLE, *busy], phases=HIGH_RATE, knee=True)
    assert (found.word, found.knee) == ("held", 10)
    assert "search, 95 %: 400 ms" in found.remarks[0]
    assert (
        "the processor, 97% in use and 60% of the time somebody waiting for it, of that PostgreSQL 74%"
        in found.remarks[0]
    )
    low = verdict(planned, answers(planned, latency=0.4), phases=HIGH_RATE, knee=True)
    assert (low.word, low.knee) == ("failed", None)


def test_the_generator_need_not_keep_up_beyond_the_knee_but_up_to_it() -> None:
    planned = list(arrivals({**PLAN, "phases": HIGH_RATE}))
    slow = [replace(s, ended=s.intended + 0.4) if s.phase in {"10", "20"} else s for s in answers(planned)]
    beyond = [replace(s, started=s.intended + 0.3) if s.phase == "20" else s for s in slow]
    assert (verdict(planned, beyond, phases=HIGH_RATE, knee=True).word, verdict(planned, beyond).word) == (
        "failed",
        "invalid",
    )
    below = [replace(s, started=s.intended + 0.3) if s.phase == "10" else s for s in slow]
    assert verdict(planned, below, phases=HIGH_RATE, knee=True).word == "invalid"


def test_the_processor_is_the_limit_also_when_requests_queue_for_it_in_bursts() -> None:
    usage = [Usage(0.0, {"application": 0.9}, 0.74, 0.0, 0.5, queued=0.2), Usage(2.0, {}, 0.74, 0.0, 0.5, queued=0.9)]
    assert limit(usage).startswith("the processor, 74% in use and 55% of the time somebody waiting for it")
    assert limit(usage[:1]).startswith("not the processor (74% in use: application 100%; 20% waiting)")


FAULT = Fault("room-loss", begin=20.0, end=50.0, write_gap=15.0, read_gap=8.0)


@pytest.mark.parametrize(
    ("back", "said"), [({"search": 26.0, "save": 30.0}, []), ({"search": 29.0, "save": 30.0}, ["read"]),
                       ({"search": 26.0, "save": 36.0}, ["write"])],
)  # fmt: skip
def test_a_fault_is_judged_by_its_gaps_and_the_rest_of_the_run_by_its_latencies(
    planned: list[Arrival], back: dict[str, float], said: list[str]
) -> None:
    samples = [replace(s, why="503") if FAULT.begin <= s.intended < back[s.kind] else s for s in answers(planned)]
    found = verdict(planned, samples, fault=FAULT)
    assert [p.what for p in found.promises if not p.held] == [
        f"longest time without a {w} during room-loss" for w in said
    ]
    slow_after = [replace(s, ended=s.ended + 3) if s.intended > FAULT.end else s for s in samples]
    assert verdict(planned, slow_after, fault=FAULT).word == "failed"


def test_when_a_drill_broke_something_is_read_from_its_journal(tmp_path: Path) -> None:
    lab = SimpleNamespace(var=tmp_path, objectives=facts.load(facts.resolve("lab")).objectives)
    folder = tmp_path / "drills/20261128-224300-room-loss"
    folder.mkdir(parents=True)
    told = [
        {"at": "2026-11-28T22:43:45+00:00", "event": "fault starts"},
        {"at": "2026-11-28T22:44:05+00:00", "event": "converged"},
        {"at": 510.88, "event": "sight", "leader": "db-a1"},
    ]
    (folder / "journal.jsonl").write_text("\n".join(map(json.dumps, told)), encoding="utf-8")
    zero = datetime(2026, 11, 28, 22, 43, tzinfo=UTC).timestamp()
    fault = run._fault(lab, "room-loss", zero, 300.0, 0)  # type: ignore[arg-type]
    assert (fault.begin, fault.end, fault.write_gap) == (45.0, 65.0, lab.objectives["drills"]["room_loss"]["write_gap"])
    with pytest.raises(UserError, match="broke nothing while load was offered"):
        run._fault(lab, "room-loss", zero + 3600, 300.0, 0)  # type: ignore[arg-type] # it is an earlier run's


def test_a_drill_that_lost_a_write_fails_the_load_test(planned: list[Arrival]) -> None:
    found = verdict(planned, answers(planned), fault=replace(FAULT, exit_code=1))
    assert [p.what for p in found.promises if not p.held] == ["verdict of the drill room-loss"]


def test_percentiles_are_exact_and_absent_without_values() -> None:
    assert percentile([0.1] * 95 + [9.0] * 5, 0.95) == 0.1
    assert percentile([0.1] * 94 + [9.0] * 6, 0.95) == 9.0
    assert percentile([], 0.95) != percentile([], 0.95)


def test_silence_at_the_edges_counts(planned: list[Arrival]) -> None:
    samples = [s for s in answers(planned) if 10 < s.intended < 12]
    assert longest_silence(samples, 0, 30) == pytest.approx(18, abs=0.5)


@pytest.mark.parametrize(
    ("name", "command", "group"),
    [("postgres", "postgres: checkpointer", "PostgreSQL"), ("python3", "gunicorn: worker", "application"),
     ("python", "python -m locust --worker", "load generator"), ("bash", "-bash", "other")],
)  # fmt: skip
def test_processes_are_grouped(name: str, command: str, group: str) -> None:
    assert group_of(name, command) == group


def test_samples_are_read_back_and_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "samples-0.csv"
    good = [5, 1, "search", "peak", "a", 1.0, 1.0, 1.2, 200, "", "app-a1"]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, good])
    (sample,) = read(tmp_path)
    assert (sample.arrival, sample.first, sample.latency) == (5, True, pytest.approx(0.2))
    path.write_text(path.read_text() + "6,1,sea", encoding="utf-8")
    with pytest.raises(UserError, match=r"samples-0.csv, line 3"):
        read(tmp_path)
    with pytest.raises(UserError, match="No request was logged"):
        read(tmp_path.parent / "nowhere")


def past(
    *seconds: float, verdict: str = "held", scenario: str = "plateau", persons: int = 9, scale: float = 1.0
) -> list[dict[str, Any]]:
    return [
        {"run": f"{i}-{s}", "scenario": scenario, "verdict": verdict, "persons": persons, "parameters": {"scale": scale},
         "figures": {"search": {"p50": s / 2, "p95": s}}, "cost": {"PostgreSQL": s / 10}}
        for i, s in enumerate(seconds)
    ]  # fmt: skip


def test_a_run_is_slower_only_outside_what_its_baseline_differs_by() -> None:
    (now,) = past(0.21)
    assert not compare.compare({**now, "run": "now", "persons": 1040}, past(0.1, 0.15, 0.2, persons=1000))[0].worse
    (worse,) = compare.compare({**now, "run": "now"}, past(0.1, 0.12, 0.14))
    assert (worse.worse, worse.middle, worse.worst) == (True, 0.12, 0.14)


@pytest.mark.parametrize(
    ("baseline", "said"),
    [(past(0.1, 0.1), "there are 2"), (past(0.1, 0.1, 0.1, verdict="invalid"), "there are 0"),
     (past(0.1, 0.1, 0.1, scenario="soak"), "also holds: soak"),
     (past(0.1, 0.1, 0.1, persons=5), "of 9 persons; the baseline also holds: 5")],
)  # fmt: skip
def test_a_baseline_that_is_none_is_refused(baseline: list[dict[str, Any]], said: str) -> None:
    (now,) = past(0.1)
    with pytest.raises(UserError, match=said):
        compare.compare({**now, "run": "now"}, baseline)


def test_growth_is_the_median_at_each_size_and_a_factor_from_the_smallest_to_the_largest() -> None:
    silent = past(9.0, persons=1000, verdict="invalid")
    found = compare.growth([*past(0.4, persons=5000), *past(0.1, 0.3, persons=1000), *past(0.2, persons=1040), *silent])
    assert [(g.what, g.seconds, g.factor) for g in found] == [
        ("search, median", {1000: 0.1, 5000: 0.2}, 2.0),
        ("search, 95 %", {1000: 0.2, 5000: 0.4}, 2.0),
        ("processor: PostgreSQL", {1000: pytest.approx(0.02), 5000: pytest.approx(0.04)}, pytest.approx(2.0)),
        ("processor: all", {1000: pytest.approx(0.02), 5000: pytest.approx(0.04)}, pytest.approx(2.0)),
    ]


@pytest.mark.parametrize(
    ("runs", "said"),
    [(past(0.1, 0.2), "there are 1"), (past(0.1) + past(0.1, persons=5, verdict="invalid"), "there are 1"),
     (past(0.1) + past(0.1, persons=5, scale=0.5), "The same load")],
)  # fmt: skip
def test_growth_of_what_cannot_be_compared_is_refused(runs: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compare.growth(runs)


def test_the_cost_of_a_request_is_what_its_group_used_over_the_requests(planned: list[Arrival]) -> None:
    used = [replace(u, cores={"PostgreSQL": 0.5}) for u in IDLE]
    assert verdict(planned, answers(planned), used).cost == {"PostgreSQL": pytest.approx(0.5 * 60 / len(planned))}
    broken = Fault("x", 10, 20, write_gap=5, read_gap=5)
    assert verdict(planned, answers(planned), used, fault=broken).cost == {}


def test_the_page_stands_by_itself_and_escapes_what_it_shows(planned: list[Arrival], tmp_path: Path) -> None:
    samples = [replace(s, why="<script>") if s.arrival == 7 else s for s in answers(planned)]
    result = Result(
        "20261125-000000-plateau", "plateau", "lab", "Does it hold?", {}, 10.0, {}, verdict(planned, samples)
    )
    report.write(tmp_path, result, samples, IDLE, {"replica behind, MiB": {"db-b1": [(0.0, 1.0), (10.0, 2.0)]}})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-", "")
    assert "&lt;script&gt;" in page
    assert "replica behind" in page
    assert json.loads((tmp_path / "result.json").read_text())["verdict"] == "failed"
    assert "| search |" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("name", scenario.names())
def test_each_scenario_is_valid_and_says_what_it_asks(name: str, inventory: Inventory) -> None:
    found = scenario.load(name)
    assert found.question.rstrip().endswith("?")
    assert len(found.expected.split()) >= 8
    assert found.drill in {None, "any", "room-loss"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"phases": []}, "phases"), ({"drill": "room-loss", "drill_at": 99}, "after the load has ended"),
     ({"colour": "red"}, "colour"), ({"phases": [{"name": "a", "rate": 0, "seconds": 1}]}, "phases/0/rate")],
)  # fmt: skip
def test_a_wrong_scenario_is_refused_with_its_place(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    good = {"question": "Does it hold what it should?", "expected": "Everything that was promised.",
            "phases": [{"name": "a", "rate": 1, "seconds": 9}]}  # fmt: skip
    (tmp_path / "x.yml").write_text(yaml.safe_dump({**good, **changed}))
    with pytest.raises(UserError, match=said):
        scenario.load("x", tmp_path)


def test_both_rooms_serve_about_as_many_inhabitants(inventory: Inventory) -> None:
    found = scenario.sites(inventory)
    assert len(found) == 120
    people = Counter()
    for site in found:
        people[site.room] += site.population
    assert max(people.values()) / min(people.values()) < 1.05


def test_journeys_are_kinds_of_the_mix_and_shares_make_a_whole(inventory: Inventory) -> None:
    mix = inventory.facts["sias_load"]["mix"]
    listed = subprocess.run(
        [sys.executable, "-m", "loadtests.journeys"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(json.loads(listed.stdout)) <= set(mix)
    assert set(inventory.facts["sias_load"]["writes"]) <= set(mix)
    assert sum(m["share"] for m in mix.values()) == pytest.approx(100)


# In a process of its own: Locust makes the standard library cooperative as soon as it is imported.
REHEARSAL = """
import json, random, sys
from types import SimpleNamespace
from loadtests import journeys

pages, steps = json.load(sys.stdin), []
agents = SimpleNamespace(
    people=[journeys.Person(31, "Zoé SCHMITT", "1980-03-01", "Metz", "P0000000031")],
    households=[("7", "F00000007"), ("8", "F00000008")], requests=["5"], plan={"api_key": "k", "run": "r"},
)
def get(kind, path, **_): steps.append([kind, path, None]); return pages.get(path, "")
def post(kind, path, fields, **_): steps.append([kind, path, fields])
for draw in range(20):
    for kind, journey in journeys.JOURNEYS.items():
        agent = SimpleNamespace(
            agents=agents, arrival=SimpleNamespace(number=draw, kind=kind), rng=random.Random(draw), get=get, post=post,
            person=lambda: agents.people[0], think=lambda: None,
        )
        journey(agent)
print(json.dumps({"steps": steps, "without": sorted(set(journeys.JOURNEYS) - set(journeys.PROFILES))}))
"""
PAGES = {
    "/personnes/31/": '<a href="/foyers/7/">Ménage F00000007</a> <a href="/foyers/8/">Ménage F00000008</a>',
    "/personnes/31/modifier/": '<form><input name="birth_name" value="SCHMITT"><input name="phone"></form>',
    "/foyers/7/deplacer/": '<form><input name="q"></form><form method="post"><input type="hidden" name="idempotency_key" '
    'value="k1"><input type="checkbox" name="persons" value="30"><input type="checkbox" name="persons" value="31">'
    '<input type="text" name="target"><input type="text" name="effective_on" value="28/11/2026">'
    '<select name="reason"><option value="">Choisir</option></select><input type="text" name="comment"></form>',
}


@pytest.fixture(scope="module")
def rehearsed() -> dict[str, Any]:
    """What every journey asks for, twenty times, of an application that answers with these pages."""
    done = subprocess.run(
        [sys.executable, "-c", REHEARSAL], cwd=ROOT, input=json.dumps(PAGES), capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_journey_ends_with_a_request_of_its_kind_to_an_address_of_the_application(
    rehearsed: dict[str, Any], inventory: Inventory
) -> None:
    written = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "app" / "src" / "sias").rglob("urls.py"))
    known = [re.sub(r"<[^>]+>", "[^/]+", path) for path in re.findall(r'path\(\s*"([^"]+)"', written)]
    for kind, path, _ in rehearsed["steps"]:
        assert kind == "form" or kind in inventory.facts["sias_load"]["mix"]
        asked = path.partition("?")[0].removeprefix("/")
        assert kind == "partner_api" or any(re.fullmatch(one, asked) for one in known), path
    assert rehearsed["without"] == ["partner_api"], "a partner has a key, all others an account"


def test_a_move_sends_the_form_back_with_one_person_and_another_household(rehearsed: dict[str, Any]) -> None:
    moves = [(path, fields) for kind, path, fields in rehearsed["steps"] if kind == "move"]
    assert moves
    for path, fields in moves:
        assert path == "/foyers/7/deplacer/"
        assert fields == {
            "idempotency_key": "k1", "persons": "31", "target": "F00000008", "effective_on": "28/11/2026",
            "reason": "hebergement", "comment": "",
        }  # fmt: skip


def test_what_is_heavy_is_a_sheet_or_the_data_of_a_citizen(rehearsed: dict[str, Any]) -> None:
    asked = Counter(path for kind, path, _ in rehearsed["steps"] if kind == "heavy")
    assert set(asked) == {"/rgpd/5/donnees/", "/foyers/7/fiche.pdf", "/foyers/8/fiche.pdf"}


def test_a_sample_has_the_columns_that_workers_write() -> None:
    assert set(asdict(answers(list(mine(PLAN, 0, 1))[:1])[0])) == set(COLUMNS)
