"""A query that gets slower is caught before users meet it; equal sides pass; what is accepted has a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from siasops.errors import UserError
from siasops.migrate import plans
from siasops.migrate.plans import Accepted, Finding, Measure, Query, Sent, Verdict
from tests.unit.drill.conftest import Server
from tests.unit.migrate.conftest import Pair, drop, fresh

BIG = """
CREATE EXTENSION pg_stat_statements;
CREATE TABLE town (id int PRIMARY KEY, name text);
CREATE TABLE dweller (id int PRIMARY KEY, town int, postcode int, name text, born date);
INSERT INTO town SELECT n, 'T' || n FROM generate_series(1, 300) n;
INSERT INTO dweller SELECT n, n % 300, (n % 300) * 10, 'N' || n % 500, date '1950-01-01' + n % 9000
  FROM generate_series(1, 40000) n;
CREATE INDEX dweller_town ON dweller (town);
CREATE INDEX dweller_name ON dweller (name);
CREATE STATISTICS dweller_place (dependencies, mcv) ON town, postcode FROM dweller;
ANALYZE;
"""
BY_NAME = Query("by name", "SELECT * FROM dweller WHERE name = $1", (("N7",), ("N8",), ("nobody",)), 20)
SORTED = Query("sorted", "SELECT * FROM dweller ORDER BY born, name OFFSET $1", (("39990",),))
PLACE = Query(
    "place",
    "SELECT count(*) FROM dweller d JOIN town t ON t.id = d.town WHERE d.town < 9 AND d.postcode < $1",
    (("90",),),
)
WRITE = Query("write", "UPDATE dweller SET name = $2 WHERE id = $1", (("5", "x"),))


@pytest.fixture(scope="module")
def big(postgres: Server) -> Iterator[Pair]:
    """Two equal databases, large enough for plans to matter."""
    blue = fresh(postgres, content=BIG)
    green = fresh(postgres, template=blue.database)
    green.do("ANALYZE")
    pair = Pair(blue, green)
    yield pair
    drop(green)
    drop(blue)


def rules(verdict: Verdict) -> set[tuple[str, str]]:
    return {(finding.query, finding.rule) for finding in verdict.findings}


def test_equal_sides_pass_and_something_was_measured(big: Pair) -> None:
    verdict = plans.gate(big.blue, big.green, [BY_NAME, PLACE, WRITE])
    timeless = [finding for finding in verdict.findings if finding.rule not in {"time", "total"}]
    assert timeless == []
    assert (verdict.measured, verdict.planned) == (4, 1)
    assert verdict.total[0] > 0


@pytest.mark.parametrize(
    ("join", "got", "wrong"), [("Merge Join", 1, 1), ("Hash Join", 1, 3019), ("Merge Join", 60380, 20)]
)
def test_a_node_that_was_stopped_had_no_wrong_estimate(join: str, got: int, wrong: float) -> None:
    scan = {"Node Type": "Index Scan", "Plan Rows": 3019, "Actual Rows": got}
    plan = {"Node Type": join, "Join Type": "Inner", "Plan Rows": 2, "Actual Rows": 0, "Plans": [scan]}
    assert plans.Measure(plan).wrong == wrong


def test_a_write_is_planned_and_never_run(big: Pair) -> None:
    plans.gate(big.blue, big.green, [WRITE])
    assert big.green.ask("SELECT name FROM public.dweller WHERE id = 5") == [{"name": "N5"}]
    assert not WRITE.reads
    assert not Query("x", "SELECT 1 FROM town FOR UPDATE").reads
    assert not Query("x", "WITH gone AS (DELETE FROM town RETURNING 1) SELECT * FROM gone").reads


def test_a_lost_index_is_caught_with_both_plans(big: Pair) -> None:
    big.green.do("DROP INDEX dweller_name")
    try:
        verdict = plans.gate(big.blue, big.green, [BY_NAME])
    finally:
        big.green.do("CREATE INDEX dweller_name ON dweller (name)")
    assert {("by name", "scan"), ("by name", "buffers")} <= rules(verdict)
    assert not verdict.line().ok
    shown = next(f for f in verdict.findings if f.rule == "scan").plans()
    assert "dweller_name" in shown.splitlines()[1] + shown.splitlines()[2]
    assert "| Seq Scan on dweller" in shown


def test_a_changed_setting_is_caught(big: Pair) -> None:
    with big.green.connect() as connection:
        connection.execute(f"ALTER DATABASE {big.green.database} SET work_mem = '64kB'".encode())
        connection.execute(f"ALTER DATABASE {big.blue.database} SET work_mem = '64MB'".encode())
    try:
        verdict = plans.gate(big.blue, big.green, [SORTED])
    finally:
        for side in (big.green, big.blue):
            side.do(f"ALTER DATABASE {side.database} RESET work_mem")
    assert ("sorted", "temporary") in rules(verdict)


def test_index_scans_forbidden_by_a_setting_are_caught_in_statements_of_unknown_parameters(big: Pair) -> None:
    big.blue.raw("SELECT pg_stat_statements_reset()")
    for name in ("N1", "N2"):
        # As somebody whose work counts; what a superuser asks does not.
        big.blue.raw(f"SET ROLE pg_read_all_data; SELECT id, name FROM public.dweller WHERE name = '{name}'")
        big.blue.raw(f"SELECT id FROM public.dweller WHERE name = '{name}'")
    found = plans.statements(big.blue)
    (query,) = [q for q in found if "dweller" in q.text]
    assert (query.weight, query.known) == (2.0, False)
    assert "$1" in query.text
    assert not plans.gate(big.blue, big.green, [query]).findings
    for setting in ("enable_indexscan", "enable_bitmapscan"):
        big.green.do(f"ALTER DATABASE {big.green.database} SET {setting} = off")
    try:
        assert rules(plans.gate(big.blue, big.green, [query])) == {(query.name, "scan")}
    finally:
        big.green.do(f"ALTER DATABASE {big.green.database} RESET ALL")


def without_statistics(big: Pair, query: Query) -> Verdict:
    """Run the gate while the target knows nothing of its largest table."""
    big.green.do("DELETE FROM pg_statistic WHERE starelid = 'dweller'::regclass; UPDATE pg_class SET reltuples = 10, relpages = 1"
                 " WHERE oid = 'dweller'::regclass")  # fmt: skip
    try:
        return plans.gate(big.blue, big.green, [query])
    finally:
        big.green.do("ANALYZE dweller")


def test_dropped_statistics_are_caught(big: Pair) -> None:
    """What made the source project slow after its migration: no statistics on the new cluster."""
    query = Query("in towns", "SELECT count(*) FROM dweller WHERE name < $1 AND born < $2", (("N9", "1974-01-01"),))
    assert not {r for r in rules(plans.gate(big.blue, big.green, [query])) if r[1] == "estimate"}
    verdict = without_statistics(big, query)
    assert ("in towns", "estimate") in rules(verdict) or ("in towns", "buffers") in rules(verdict)
    assert verdict.refused


def test_a_query_that_fails_on_the_target_is_a_finding(big: Pair) -> None:
    big.green.do("ALTER TABLE town RENAME TO place")
    try:
        verdict = plans.gate(big.blue, big.green, [Query("towns", "SELECT * FROM town")])
    finally:
        big.green.do("ALTER TABLE place RENAME TO town")
    assert rules(verdict) == {("towns", "error")}


def test_a_workload_that_does_not_fit_the_source_is_refused(big: Pair) -> None:
    with pytest.raises(UserError, match="nothing here does not run on"):
        plans.gate(big.blue, big.green, [Query("nothing here", "SELECT * FROM nowhere")])


def test_nothing_measured_is_no_go(big: Pair) -> None:
    verdict = plans.gate(big.blue, big.green, [WRITE])
    assert not verdict.findings
    assert not verdict.line().ok


PLAN: dict[str, Any] = {"Node Type": "Index Scan", "Relation Name": "t", "Plan Rows": 5, "Actual Rows": 5, "Actual Loops": 1,
                        "Actual Total Time": 1.0}  # fmt: skip


class Scripted:
    """A side that takes as long as it is told."""

    def __init__(self, name: str, *times: float, buffers: int = 100) -> None:
        self.name, self.times, self.buffers = name, list(times), buffers
        self.asked = 0

    def ask(self, query: str) -> list[dict[str, Any]]:
        return [{"name": "t", "rows": 10**6}]

    def do(self, statements: str) -> None:
        raise NotImplementedError

    def raw(self, statements: str) -> list[str]:
        self.asked += 1
        time = self.times.pop(0) if len(self.times) > 1 else self.times[0]
        answer = json.dumps([{"Plan": PLAN | {"Shared Hit Blocks": self.buffers}, "Execution Time": time}])
        return [answer] * (plans.RUNS + 1)


ONE = [Query("one", "SELECT 1")]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (10.0, 10.0, set()),
        (10.0, 14.9, {"total"}),
        (10.0, 15.1, {"time", "total"}),
        (1.0, 5.9, {"total"}),  # six times, but not five milliseconds
        (1.0, 6.1, {"time", "total"}),
        (10.0, 10.4, set()),
        (10.0, 10.6, {"total"}),
        (0.1, 0.15, set()),  # a mean that grows by a twentieth of a millisecond is noise
        (10.0, 5.0, set()),
    ],
)
def test_the_limits_of_time(before: float, after: float, found: set[str]) -> None:
    verdict = plans.gate(Scripted("blue", before), Scripted("green", after), ONE)
    assert {f.rule for f in verdict.findings} == found


def test_a_time_that_a_second_measurement_does_not_see_is_noise() -> None:
    green = Scripted("green", 100.0, 100.0, 100.0, 10.0)
    assert not plans.gate(Scripted("blue", 10.0), green, ONE).findings


@pytest.mark.parametrize("again", range(1, plans.AGAIN_ONE + 2))
def test_a_total_that_one_of_the_measurements_after_it_does_not_see_is_noise(again: int) -> None:
    # Not one of the critical queries, which are run as often in any case: three rounds, then twelve and twelve.
    sent = [replace(ONE[0], sent=[Sent("SELECT 1")])]
    slow = plans.ROUNDS + plans.PAIRED_ROUNDS * (again - 1)
    green = Scripted("green", *[11.0] * slow, 10.0)
    verdict = plans.gate(Scripted("blue", 10.0), green, sent)
    if again <= plans.AGAIN_ONE:
        assert (verdict.findings, verdict.total) == ([], (10.0, 10.0))
        assert green.asked == slow + plans.PAIRED_ROUNDS
    else:
        assert ({f.rule for f in verdict.findings}, green.asked) == ({"total"}, slow)


def test_the_fastest_of_all_the_runs_of_a_critical_query_counts_for_the_total() -> None:
    green = Scripted("green", *[11.0] * (plans.ROUNDS + plans.PAIRED_ROUNDS - 1), 10.0)
    verdict = plans.gate(Scripted("blue", 10.0), green, ONE)
    assert (verdict.findings, verdict.total) == ([], (10.0, 10.0))
    assert green.asked == plans.ROUNDS + plans.PAIRED_ROUNDS


@pytest.mark.parametrize(("blocks", "found"), [(200, set()), (201, {"buffers"})])
def test_the_limit_of_buffers(blocks: int, found: set[str]) -> None:
    verdict = plans.gate(Scripted("blue", 1.0), Scripted("green", 1.0, buffers=blocks), ONE)
    assert {f.rule for f in verdict.findings} == found


@pytest.mark.parametrize(("time", "rounds"), [(0.9, 1), (1.1, 3)])
def test_a_query_that_is_fast_on_both_sides_is_not_run_again_and_again(time: float, rounds: int) -> None:
    green = Scripted("green", time)
    plans.gate(Scripted("blue", time), green, [replace(ONE[0], sent=[Sent("SELECT 1")])])
    assert green.asked == rounds


def test_the_critical_queries_are_run_in_turn_for_their_p95() -> None:
    slow, quick = Query("slow", "SELECT 1", weight=1), Query("quick", "SELECT 2", (("1",), ("2",)), weight=9)
    verdict = plans.gate(Scripted("blue", 0.5), Scripted("green", 0.4), [slow, quick, WRITE])
    assert [(pair.query, len(pair.before), len(pair.after)) for pair in verdict.paired] == [
        ("slow", 36, 36),
        ("quick", 72, 72),
    ]
    assert "p95 of the critical queries 0.50 ms before, 0.40 ms after" in verdict.line().found
    both = "0.50 ms before, 0.40 ms after, 0.80"
    assert str(verdict.paired[0]) == f"slow: p50 of 36 runs {both}; p95 {both}"


@pytest.mark.parametrize(("weight", "p95"), [(1.0, 1.0), (20.0, 100.0)])
def test_the_mix_counts_each_query_by_its_weight_and_not_by_its_runs(weight: float, p95: float) -> None:
    often = plans.Paired("often", 95.0, [1.0] * 10, [1.0] * 10)
    heavy = plans.Paired("heavy", weight, [100.0] * 1000, [100.0] * 1000)
    assert plans.mixed([often, heavy]) == (p95, p95)


def test_nothing_paired_has_no_p95() -> None:
    assert plans.mixed([]) == (0.0, 0.0)
    assert "p95" not in Verdict(measured=1).line().found


# --- What endpoints send -----------------------------------------------------------------------------------------------
def endpoint(*statements: str, text: str = "SELECT * FROM dweller WHERE name = $1", **said: Any) -> Query:
    return Query("persons:page 1a2b3c4d", text, sent=[Sent(statement, **said) for statement in statements])


BY_SECRET = endpoint(*(f"SELECT * FROM dweller WHERE name = '{name}'" for name in ("N77", "D''Arc")))


def shown(verdict: Verdict) -> str:
    """Everything that is told of a verdict, or kept."""
    kept = [finding.after.plan if finding.after else None for finding in verdict.findings]
    return f"{verdict.findings} {verdict.line()} {[f.plans() for f in verdict.findings]} {json.dumps(kept)}"


def test_an_index_that_an_endpoint_lost_is_caught_and_no_value_is_shown(big: Pair) -> None:
    assert not {rule for _, rule in rules(plans.gate(big.blue, big.green, [BY_SECRET]))} - {"time", "total"}
    big.green.do("DROP INDEX dweller_name")
    try:
        verdict = plans.gate(big.blue, big.green, [BY_SECRET])
    finally:
        big.green.do("CREATE INDEX dweller_name ON dweller (name)")
    assert {(BY_SECRET.name, "scan"), (BY_SECRET.name, "buffers")} <= rules(verdict)
    assert verdict.measured == 2
    assert "N77" not in shown(verdict)
    assert "Arc" not in shown(verdict)
    assert any(f.after and f.after.plan["Filter"] == "(name = …::text)" for f in verdict.findings)


def test_statistics_that_an_endpoint_lost_are_caught(big: Pair) -> None:
    query = endpoint(
        "SELECT count(*) FROM dweller WHERE name < 'N9' AND born < '1974-01-01'", text="SELECT count(*) ..."
    )
    verdict = without_statistics(big, query)
    assert {rule for _, rule in rules(verdict)} & {"estimate", "buffers"}


def test_an_endpoints_query_runs_as_the_application_under_its_policies(big: Pair) -> None:
    big.blue.do("CREATE ROLE reader")
    for side in (big.blue, big.green):
        side.do("GRANT SELECT ON town TO reader; ALTER TABLE town ENABLE ROW LEVEL SECURITY;"
                " CREATE POLICY of_agent ON town USING (id = current_setting('sias.town')::int);"
                f" ALTER DATABASE {side.database} SET row_security = off")  # as a session that has asked for rows  # fmt: skip
    query = endpoint("SELECT * FROM town", text="SELECT * FROM town", settings={"sias.town": "5'6"}, role="reader")
    try:
        with pytest.raises(UserError) as refused:
            plans.gate(big.blue, big.green, [query])
        fine = replace(query, sent=[replace(query.sent[0], settings={"sias.town": "5"})])
        verdict = plans.gate(big.blue, big.green, [fine])
    finally:
        for side in (big.blue, big.green):
            side.do(
                "DROP POLICY of_agent ON town; ALTER TABLE town DISABLE ROW LEVEL SECURITY; REVOKE ALL ON town FROM reader;"
                f" ALTER DATABASE {side.database} RESET row_security"
            )
        big.blue.do("DROP ROLE reader")
    assert "5'6" not in str(refused.value)
    assert refused.value.__suppress_context__
    assert verdict.measured == 1
    measure = plans._Judge(big.blue, big.green, "public").measure(
        endpoint("SELECT 1", text="SELECT 1"), Sent("SELECT 1"), 0
    )
    assert measure.plan["Node Type"] == "Result"


def test_an_endpoints_query_never_writes(big: Pair) -> None:
    with pytest.raises(UserError):
        plans.gate(big.blue, big.green, [endpoint("SELECT setval('x', 1)")])
    big.blue.do("CREATE SEQUENCE counter")
    with pytest.raises(UserError):
        plans.gate(big.blue, big.green, [endpoint("SELECT nextval('counter')")])
    assert Query("x", "WITH RECURSIVE a AS (SELECT 1) SELECT * FROM a").reads


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            'psql:<stdin>:5: ERROR:  relation "dweller" does not exist\nLINE 1: ... WHERE name = \'N77\'',
            'relation "dweller" does not exist',
        ),
        ('ERROR:  invalid input syntax for type integer: "N77"\nCONTEXT:  N77', 'invalid input syntax for type integer: "…"'),
        ("ERROR:  value 2750499123456 of 'N77' is out of range", "value … of … is out of range"),
        ("...name = 'N77'", "what was said may hold values, and is not shown"),
    ],
)  # fmt: skip
def test_what_postgresql_says_of_a_statement_is_told_without_its_values(error: str, told: str) -> None:
    assert plans._said(BY_SECRET, UserError(f"db-a1 refused: {error}")) == told.replace('"…"', "…")


def test_a_statement_is_not_part_of_what_describes_it() -> None:
    assert "N77" not in repr(BY_SECRET)


def test_an_accepted_difference_is_remembered_with_its_reason_and_only_for_that_plan(tmp_path: Path) -> None:
    accepted = Accepted(tmp_path / "accepted.jsonl")
    sides = Scripted("blue", 1.0), Scripted("green", 1.0, buffers=500)
    (finding,) = plans.gate(*sides, ONE, accepted).refused
    with pytest.raises(UserError, match="with a reason"):
        accepted.add(finding, " ", "me")
    accepted.add(finding, "a larger page cache, measured", "ops")
    verdict = plans.gate(*sides, ONE, Accepted(tmp_path / "accepted.jsonl"))
    assert verdict.refused == []
    assert verdict.line().ok
    assert "accepted: a larger page cache" in verdict.line().found
    assert finding.after is not None
    other = replace(finding, after=Measure({**PLAN, "Node Type": "Seq Scan"}))
    assert accepted.reason(other) == ""
    assert accepted.reason(replace(finding, rule="scan")) == ""


def test_a_workload_file_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "workload.yml"
    path.write_text("- {name: a, text: 'SELECT $1::int + $2::int', parameters: [[1, 2], [3, null]], weight: 3}")
    assert plans.load(path) == [Query("a", "SELECT $1::int + $2::int", (("1", "2"), ("3", None)), 3.0)]
    path.write_text("- {name: a, text: 'SELECT $1::int', parameters: [[1, 2]]}")
    with pytest.raises(UserError, match="a has 1 placeholders"):
        plans.load(path)
    path.write_text("- {text: 1}")
    with pytest.raises(UserError, match="is not a workload"):
        plans.load(path)


def test_findings_read_as_sentences() -> None:
    assert str(Finding("q", (), "time", "slow", accepted="fine")) == "q: slow (accepted: fine)"
