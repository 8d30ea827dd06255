"""What every endpoint asks the database, for a migration that measures it on both clusters."""

import json
import os
from pathlib import Path

import pytest
from sias.endpoints import visits
from sias.endpoints.visits import Endpoint, only_reads, text_of

from tests.conftest import manage

pytestmark = pytest.mark.timeout(400)  # commands in processes of their own, on a machine that may be busy
DATABASE = "endpoints"
# One of each kind that the demonstration lacks.
MORE = """
import uuid
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from sias.accounts.models import Agent
from sias.documents.models import Document
from sias.households.models import ExternalKey
from sias.repertoire.models import Person
demo, one = Agent.objects.get(username="demo"), Person.objects.order_by("pk").first()
Document.objects.all().delete()  # of other tests, whose folders are gone
address = default_storage.save(None, ContentFile(b"un jugement", "jugement.pdf"))
Document.objects.create(id=uuid.uuid4(), person=one, name="jugement.pdf", size=11, sha256=address.rsplit("/", 1)[-1],
    content_type="application/pdf", created_by=demo)
ExternalKey.objects.create(household=one.memberships.first().household, system="DELTA", key="D-1")
"""


@pytest.fixture(scope="module")
def apart(cluster, tmp_path_factory):
    """A copy of the tests' database, with an account of each profile and something in every screen."""
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'sias'", database="postgres")
    cluster.sql(f"CREATE DATABASE {DATABASE} TEMPLATE sias OWNER sias_owner", database="postgres")
    folder = tmp_path_factory.mktemp("credentials")
    for name in ("secret_key", "identifier_key", "demo_password", "probe_password"):
        (folder / name).write_text(f"workstation only: {name}")  # which the population was loaded with
    names = {
        "SIAS_DATABASE_NAME": DATABASE,
        "SIAS_DATABASE_REPLICA_NAME": DATABASE,
        "SIAS_CREDENTIALS_DIR": str(folder),
    }

    def act(*arguments: str):
        done = manage(*arguments, user="sias_app", check=False, **names)
        assert done.returncode == 0, done.stderr
        return done

    act("create_accounts")
    act("load_demonstration")
    act("shell", "-v", "0", "-c", MORE)
    yield act
    cluster.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)", database="postgres")


def content(cluster) -> dict[str, tuple]:
    """Of every table how many rows, and which was written last."""
    tables = cluster.sql(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public'", database=DATABASE
    )
    return {
        name: cluster.sql(f"SELECT count(*), max(xmin::text::bigint) FROM {name}", database=DATABASE)[0]  # noqa: S608
        for (name,) in tables
    }


@pytest.fixture(scope="module")
def told(cluster, apart):
    """What the command prints: its queries and its last line; and that nothing changed meanwhile."""
    spool = Path(os.environ["SIAS_JOURNAL_SPOOL"])
    spool.mkdir(exist_ok=True)
    waiting = spool / "1.jsonl"
    waiting.write_text("")
    before = content(cluster)
    done = apart("endpoint_queries")
    *queries, last = map(json.loads, done.stdout.splitlines())
    return queries, last, before == content(cluster) and waiting.exists()


def test_every_get_endpoint_is_visited_or_excused_with_a_reason(told):
    """One that is not: name what fills its arguments (PLACES), or why nobody may visit it (EXCUSED)."""
    _, last, _ = told
    assert last["unvisited"] == {}
    assert last["endpoints"] > 60
    assert all(last["excused"].values())
    assert set(last["excused"]) <= {endpoint.name for endpoint in visits.endpoints()}


def test_nothing_remains_of_the_visits_and_what_waits_for_the_access_log_stays(told):
    assert told[2]


def test_the_queries_of_the_search_and_of_a_persons_page_are_there(told):
    queries, last, _ = told
    assert len(queries) == last["queries"] > 100
    assert len({query["text"] for query in queries}) == len(queries)
    met = {query["endpoint"] for query in queries}
    assert {"repertoire:search", "repertoire:person", "households:tab", "controle:log", "api-v1:find"} <= met
    names = next(query for query in queries if "repertoire_nameform" in query["text"] and "unnest" in query["text"])
    assert len(names["sets"]) == 3
    assert names["sets"][0]["settings"].keys() >= {"sias.agent", "sias.domaines"}
    similar = [query for query in queries if "%" in query["text"] and "repertoire_nameform" in query["text"]]
    assert similar
    assert all("pg_trgm.similarity_threshold" in one["settings"] for query in similar for one in query["sets"])


def test_each_query_runs_as_the_application_and_says_no_value_in_its_text(cluster, told):
    queries, last, _ = told
    names = {
        name
        for row in cluster.sql("SELECT birth_name, first_names FROM repertoire_person", database=DATABASE)
        for name in row
    }
    with cluster.connect(database=DATABASE) as connection:
        for query in queries:
            assert not {f"'{name}'" for name in names if f"'{name}'" in query["text"]}
            for one in query["sets"]:
                with connection.transaction(force_rollback=True):
                    connection.execute("SET TRANSACTION READ ONLY")
                    for name, value in one["settings"].items():
                        connection.execute("SELECT set_config(%s, %s, true)", [name, value])
                    connection.execute(f"SET LOCAL ROLE {last['role']}".encode())
                    connection.execute(f"EXPLAIN (ANALYZE) {one['sql']}".encode())


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("inconnu/<int:other>/", "nobody says what fills its arguments"),
        ("taches/absences/<int:identity>/", "no row of tasks.Absence"),
        ("foyers/<int:identity>/<slug:slug>/", "no row of foyers/<int:identity>/<slug:slug>/"),
    ],
)
def test_an_endpoint_that_leads_nowhere_is_named(monkeypatch, pattern, why):
    monkeypatch.setattr(visits, "_sample", lambda *_: [])
    visitor = visits.Visitor(1)
    rows, said = visitor._led_to(Endpoint("x", pattern, print))
    assert (len(rows), said) == (1, why)


@pytest.mark.parametrize(
    ("sql", "params", "text"),
    [
        ("SELECT 1", None, "SELECT 1"),
        ("SELECT 'a%%'", (), "SELECT 'a%'"),
        ("SELECT '%'\n  x", None, "SELECT '%' x"),
        ("SELECT %s, %s LIKE 'a%%'", ("x", 2), "SELECT $1, $2 LIKE 'a%'"),
        ("a = %(a)s AND b = %(b)s", {"a": 1, "b": 2}, "a = $1 AND b = $2"),
        ("a IN (%s, %s, %s) AND b = %s", (1, 2, 3, 4), "a IN ($1, ...) AND b = $2"),
    ],
)
def test_a_text_has_no_values(sql, params, text):
    assert text_of(sql, params) == text


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("SELECT a FROM b WHERE updated_at = $1", True),
        ("WITH x AS (SELECT 1) SELECT * FROM x", True),
        ("WITH x AS (DELETE FROM y RETURNING 1) SELECT * FROM x", False),
        ("WITH x AS (INSERT INTO y VALUES (1)) SELECT 1", False),
        ("SELECT a FROM b FOR UPDATE", False),
        ("SELECT a FROM b FOR NO KEY UPDATE OF b", False),
        ("SELECT a FROM b FOR KEY SHARE", False),
        ("SELECT set_config('a.b', $1, true)", False),
        ("SELECT pg_advisory_xact_lock($1)", False),
        ("SAVEPOINT s1", False),
        ("UPDATE a SET b = 1", False),
    ],
)
def test_only_plain_reads_are_told(text, reads):
    assert only_reads(text) is reads
