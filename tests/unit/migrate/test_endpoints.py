"""What every endpoint asks, as an application host tells it: read, weighed, and never shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.migrate import endpoints
from siasops.migrate.plans import Query, Sent
from siasops.remote import TIMED_OUT, UNREACHABLE, Result
from tests.unit.cluster.conftest import Hosts, lab

__all__ = ["lab"]
TEXT = 'SELECT "a" FROM "person" WHERE "name" = $1 AND "id" IN ($2, ...) LIMIT 21'
ROW = {
    "endpoint": "repertoire:person",
    "text": TEXT,
    "sets": [
        {"sql": "SELECT ... 'DUPONT' ...", "settings": {"sias.agent": "7", "pg_trgm.similarity_threshold": "0.45"}}
    ],
}
LAST = {"role": "sias_app", "visits": 9, "endpoints": 2, "queries": 1, "unvisited": {"notes:edit": "no row of notes.Note"},
        "excused": {"live": "asks nothing"}}  # fmt: skip
NAMES = ["app-a1", "app-b1"]


@pytest.fixture
def hosts(lab: Inventory) -> Hosts:
    return Hosts(lab)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def ask(hosts: Hosts, answer: Result | str, statements: tuple[Query, ...] = ()) -> tuple[list[Query], list[str]]:
    said: list[str] = []
    hosts.when("*", "sias-manage endpoint_queries", lambda: answer)
    return endpoints.ask(hosts, NAMES, statements, said.append), said  # type: ignore[arg-type]


def test_queries_come_with_their_statements_and_what_was_not_visited_is_told(hosts: Hosts) -> None:
    (query,), said = ask(hosts, lines(ROW, LAST))
    assert query.name.startswith("repertoire:person ")
    assert query.sent == (Sent("SELECT ... 'DUPONT' ...", ROW["sets"][0]["settings"], "sias_app"),)  # type: ignore[index]
    assert query.reads
    assert said == ["app-a1: 1 queries of 2 endpoints, 1 with values; left out on purpose: live",
                    "not visited, or not always: notes:edit (no row of notes.Note)"]  # fmt: skip
    assert hosts.told("endpoint_queries") == [("app-a1", "sias-manage endpoint_queries")]


def test_the_name_of_a_query_does_not_depend_on_its_values(hosts: Hosts) -> None:
    other = ROW | {"sets": [{"sql": "SELECT ... 'DURAND' ...", "settings": {}}]}
    names = {ask(hosts, lines(row, LAST))[0][0].name for row in (ROW, other)}
    assert len(names) == 1


def test_the_next_host_is_asked_when_one_does_not_answer(hosts: Hosts) -> None:
    hosts.when("*", "endpoint_queries", lambda: lines(ROW, LAST))
    hosts.when("app-a1", "endpoint_queries", lambda: Result("app-a1", UNREACHABLE, "", "no route"))
    assert endpoints.ask(hosts, NAMES, (), lambda _: None)  # type: ignore[arg-type]
    assert [host for host, _ in hosts.told("endpoint_queries")] == NAMES


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            Result("app-a1", 1, lines(ROW), "Unknown command: 'endpoint_queries'"),
            "could not be visited: Unknown command",
        ),
        (Result("app-a1", TIMED_OUT, lines(ROW), ""), "not done in 900 s"),
        (Result("app-a1", UNREACHABLE, "", ""), "No application host answers"),
        (lines(LAST), "no query was seen"),
        (lines(ROW, LAST | {"endpoints": 0}), "1 endpoints could not be visited, and 0 could"),
        ("", "not understood"),
        ("DUPONT", "not understood"),
        (lines(ROW), "not understood"),
        (lines(ROW | {"sets": []}, LAST), "not understood"),
        (lines(ROW | {"sets": [{"sql": "DUPONT", "settings": {"x; DROP": "1"}}]}, LAST), "not understood"),
    ],
)
def test_a_command_that_fails_or_finds_nothing_stops_the_gate_and_shows_no_value(
    hosts: Hosts, answer: Result | str, told: str
) -> None:
    with pytest.raises(UserError, match=told) as refused:
        ask(hosts, answer)
    assert "DUPONT" not in str(refused.value)


def test_a_query_weighs_what_it_was_called(hosts: Hosts) -> None:
    seldom = ROW | {"text": "SELECT 1 FROM seldom WHERE day = $1"}
    calls = (
        Query(
            "statement 1", 'SELECT "a" FROM "person" WHERE "name" = $1 AND "id" IN ($2, $3, $4)  LIMIT $5', weight=600
        ),
        Query("statement 2", 'SELECT "a" FROM "person" WHERE "name" = $1 AND "id" IN ($2) LIMIT $3', weight=300),
        Query("statement 3", "SELECT 1 FROM seldom WHERE day = $1::date", weight=100),
        Query("statement 4", "SELECT 1 FROM elsewhere", weight=9000),
    )
    queries, _ = ask(hosts, lines(ROW, seldom, LAST), calls)
    assert [query.weight for query in queries] == [90.0, 10.0]


@pytest.mark.parametrize("without", [None, "app-b1"])
def test_a_release_that_knows_no_visits_is_seen_before_anything_is_touched(hosts: Hosts, without: str | None) -> None:
    unknown = Result("app-b1", 1, "", "Unknown command: 'endpoint_queries'")
    hosts.when("app-a1", "endpoint_queries --help", lambda: "usage")
    hosts.when("app-b1", "endpoint_queries --help", lambda: unknown if without else "usage")
    line = endpoints.known(hosts, NAMES)  # type: ignore[arg-type]
    assert line.ok is (without is None)
    assert ("app-b1" in line.found, bool(line.action)) == (True, not line.ok)
    assert "app-a1" not in line.found or line.ok
