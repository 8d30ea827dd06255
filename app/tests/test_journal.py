"""The access log: complete, append-only, chained, closed to who may not read it, kept while the database is away."""

import json
import threading
import uuid
from datetime import datetime, timedelta

import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connections, transaction
from django.test import Client, override_settings
from django.utils import timezone
from sias.journal import access, chain, duties
from sias.journal.access import Action, record_access
from sias.platform.postgresql.session import session_settings
from sias.repertoire.models import Person

from tests.conftest import held_still, make_agent, manage


def entries(cluster, agent, columns: str = "action, person_id"):
    """What an agent did, in order; without the assignment that the test itself gave."""
    return cluster.sql(
        f"SELECT {columns} FROM journal_entry WHERE agent_id = %s AND action <> 'habilitation' ORDER BY happened_at, id",  # noqa: S608
        [agent.pk],
    )


@pytest.fixture
def someone():
    return make_agent(f"j{uuid.uuid4().hex[:12]}", "TS", territory="UTAS-METZ")


@pytest.fixture
def browser(someone):
    client = Client(raise_request_exception=False)
    client.force_login(someone)
    return client


@pytest.fixture
def inhabitant():
    return Person.objects.filter(commune="57463").order_by("id").first()


def test_every_consultation_search_refusal_and_sign_in_leaves_its_entry(cluster, someone, browser, inhabitant):
    elsewhere = Person.objects.filter(commune="57672").order_by("id").first()
    browser.get("/repertoire/", {"q": "muller", "naissance": "1970"}, headers={"X-Forwarded-For": "10.1.2.3"})
    browser.get(inhabitant.get_absolute_url())
    browser.get(elsewhere.get_absolute_url())
    found = entries(cluster, someone, "action, person_id, profiles, host")
    assert found == [
        ("connexion", None, "", "test-a1"),
        ("recherche", None, "TS", "test-a1"),
        ("consultation", inhabitant.pk, "TS", "test-a1"),
        ("refus", elsewhere.pk, "TS", "test-a1"),
    ]
    detail, origin = entries(cluster, someone, "detail, host(origin)")[1]
    assert (detail["q"], detail["naissance"], origin) == ("muller", "1970", "10.1.2.3")


def test_a_page_that_only_reads_the_replica_is_logged_on_the_primary(
    cluster, someone, browser, inhabitant, monkeypatch
):
    """@read_only forbids writes: the trace goes its own way, after the view and before the answer."""
    seen = []
    original = access.write
    monkeypatch.setattr(
        access, "write", lambda trail: (seen.append(connections["default"].in_atomic_block), original(trail))
    )
    browser.get(inhabitant.get_absolute_url())
    assert seen == [True]
    assert entries(cluster, someone)[-1] == ("consultation", inhabitant.pk)


def test_a_wrong_password_is_logged_without_it(cluster):
    name = uuid.uuid4().hex[:20]
    Client().post("/connexion/", {"username": name, "password": "tout à fait secret"})
    rows = cluster.sql("SELECT action, journal_entry::text FROM journal_entry WHERE agent = %s", [name])
    assert [row[0] for row in rows] == ["connexion_refusee"]
    assert "secret" not in rows[0][1]


def test_a_write_and_its_entry_stand_or_fall_together(cluster, someone, inhabitant):
    with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
        record_access(someone, inhabitant, Action.CHANGE)
        raise ZeroDivisionError
    assert entries(cluster, someone) == []
    with transaction.atomic():
        record_access(someone, inhabitant, Action.CHANGE, "parce que", domain="repertoire")
    assert entries(cluster, someone, "action, reason, domain") == [("modification", "parce que", "repertoire")]


# --- what the database refuses ---------------------------------------------------------------------------------------
PARTITION = f"journal_entry_{timezone.now():%Y_%m}"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal_entry SET agent = 'x'",
        "DELETE FROM journal_entry",
        "TRUNCATE journal_entry",
        "DROP TABLE journal_entry",
        f"SELECT * FROM {PARTITION}",  # noqa: S608
        f"INSERT INTO {PARTITION} (agent, action) VALUES ('x', 'x')",  # noqa: S608
        f"DELETE FROM {PARTITION}",  # noqa: S608
        "SELECT * FROM journal_head",
        "UPDATE journal_head SET seq = 0",
        "UPDATE journal_policy SET keep_months = 6",
        "DELETE FROM journal_anchor",
        "ALTER TABLE journal_entry DISABLE TRIGGER ALL",
        "SELECT public.journal_close_partitions()",
        "INSERT INTO journal_entry (at, agent, action) VALUES (now() - interval '1 hour', 'x', 'x')",
    ],
)
def test_the_application_can_only_add(cluster, statement):
    with cluster.connect(user="sias_app") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


@pytest.mark.parametrize("statement", ["UPDATE {} SET agent = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("table", ["journal_entry", PARTITION])
def test_a_superuser_is_stopped_by_the_triggers(cluster, someone, statement, table):
    record_access(someone, None, Action.READ)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only grows"):
        cluster.sql(statement.format(table))


@pytest.mark.parametrize("user", ["sias_app", "sias_owner"])
def test_nothing_is_read_without_saying_that_one_reads_the_log(cluster, someone, user):
    record_access(someone, None, Action.READ)
    with cluster.connect(user=user) as connection:
        assert connection.execute("SELECT count(*) FROM journal_entry").fetchone() == (0,)
        with connection.transaction():
            connection.execute("SELECT set_config('sias.journal', 'lecture', TRUE)")
            assert connection.execute("SELECT count(*) FROM journal_entry").fetchone()[0] > 0
        assert connection.execute("SELECT count(*) FROM journal_entry").fetchone() == (0,)


# --- the chain -------------------------------------------------------------------------------------------------------
def test_entries_of_many_writers_at_once_form_whole_chains(cluster, someone):
    def write() -> None:
        for _ in range(15):
            record_access(someone, None, Action.READ)
        connections["default"].close()

    writers = [threading.Thread(target=write) for _ in range(6)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert len(entries(cluster, someone)) == 90
    done = manage("verify_journal", "--json", user="sias_app")
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert report["entries"] >= 90


@pytest.fixture
def forger(cluster, someone):
    """A superuser who disables the triggers, does something to the last entry, and puts it back at the end."""
    for _ in range(3):
        record_access(someone, None, Action.READ)
    duties.anchors()
    undone = []
    with cluster.connect() as root:
        root.execute("SET session_replication_role = replica")

        def forge(statement: str, undo: str) -> None:
            root.execute(statement, [someone.pk])
            undone.append(undo)

        root.execute(
            "CREATE TEMP TABLE kept AS SELECT * FROM journal_entry WHERE agent_id = %s ORDER BY id DESC LIMIT 1",
            [someone.pk],
        )
        root.execute("CREATE TEMP TABLE heads AS SELECT * FROM journal_head")
        yield forge
        for undo in undone:
            root.execute(undo)


LAST = "(SELECT max(id) FROM journal_entry WHERE agent_id = %s)"
BACK = "INSERT INTO journal_entry SELECT * FROM kept"


@pytest.mark.parametrize(
    ("statement", "undo", "said"),
    [
        (
            f"UPDATE journal_entry SET label = 'autre chose' WHERE id = {LAST}",  # noqa: S608
            "UPDATE journal_entry j SET label = k.label FROM kept k WHERE j.id = k.id",
            "a été modifiée",
        ),
        (f"DELETE FROM journal_entry WHERE id = {LAST}", BACK, "devrait finir au"),  # noqa: S608
        (
            # The forger also repairs the head: only the sealed anchor still knows.
            f"WITH gone AS (DELETE FROM journal_entry WHERE id = {LAST} RETURNING *) "  # noqa: S608
            "UPDATE journal_head h SET seq = gone.seq - 1, hash = gone.previous FROM gone WHERE h.stream = gone.stream",
            f"{BACK}; UPDATE journal_head h SET seq = o.seq, hash = o.hash FROM heads o "  # noqa: S608
            "WHERE (h.month, h.stream) = (o.month, o.stream)",
            "scellé",
        ),
    ],
    ids=["changed", "removed", "removed and the head repaired"],
)
def test_a_change_behind_the_back_of_the_log_is_found(forger, statement, undo, said):
    with transaction.atomic():
        assert chain.verify().problems == []
    forge = forger
    forge(statement, undo)
    with transaction.atomic():
        problems = chain.verify().problems
    assert any(said in problem for problem in problems), problems


def test_a_forged_anchor_is_found(cluster):
    duties.anchors()
    cluster.sql("UPDATE journal_anchor SET heads = '{}' WHERE id = (SELECT max(id) FROM journal_anchor)")
    try:
        done = manage("verify_journal", user="sias_app", check=False)
        assert done.returncode == 1
        assert "faux" in done.stdout
    finally:
        cluster.sql("DELETE FROM journal_anchor WHERE heads = '{}'")


# --- while the primary is away ---------------------------------------------------------------------------------------
@pytest.fixture
def no_primary(monkeypatch, tmp_path):
    """The log's own write fails as it does during a failover; reading goes on."""

    def away(_trail):
        raise OperationalError("away") from psycopg.errors.AdminShutdown("terminating connection")

    monkeypatch.setattr(access, "_away_until", 0.0)
    original = access.write
    monkeypatch.setattr(access, "write", away)
    with override_settings(SIAS_JOURNAL_SPOOL=tmp_path / "spool"):
        yield lambda: (monkeypatch.setattr(access, "write", original), monkeypatch.setattr(access, "_away_until", 0.0))


def test_an_access_during_a_failover_waits_on_this_host_and_comes_into_the_log(  # noqa: PLR0917
    cluster, someone, browser, inhabitant, no_primary, tmp_path
):
    before = timezone.now()
    assert browser.get(inhabitant.get_absolute_url()).status_code == 200
    waiting = list((tmp_path / "spool").glob("*.jsonl"))
    assert len(waiting) == 1
    assert inhabitant.pk in {json.loads(line)["person_id"] for line in waiting[0].read_text().splitlines()}
    no_primary()
    assert browser.get("/repertoire/?q=muller").status_code == 200
    assert not list((tmp_path / "spool").iterdir())
    at, happened = entries(cluster, someone, "at, happened_at")[1]
    assert before <= happened < at


def test_nothing_is_shown_when_no_trace_can_be_kept(browser, inhabitant, no_primary, tmp_path):
    (tmp_path / "spool").write_text("a file where the folder should be")
    response = browser.get(inhabitant.get_absolute_url())
    assert response.status_code == 503
    assert inhabitant.birth_name not in response.content.decode()


# --- months ----------------------------------------------------------------------------------------------------------
def test_months_wait_while_the_schema_is_held_still_and_not_once_the_next_one_is_missing(cluster):
    def drop(month: datetime) -> None:
        cluster.sql(f"DROP TABLE journal_entry_{month:%Y_%m}")

    now = timezone.now()
    first = datetime(now.year, now.month, 1, tzinfo=now.tzinfo)
    next_one = (first + timedelta(days=32)).replace(day=1)
    drop((next_one + timedelta(days=32)).replace(day=1))
    try:
        with held_still(cluster):
            assert "plus tard" in duties.partitions()[0]
        drop(next_one)
        with held_still(cluster), pytest.raises(DatabaseError, match="the schema is frozen"):
            duties.partitions()
    finally:
        assert "2 mois préparés" in duties.partitions()[0]


def test_partitions_are_made_ahead_and_old_months_dropped_with_a_trace(cluster):
    def months() -> set[str]:
        rows = cluster.sql(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'journal_entry'::regclass"
        )
        return {row[0] for row in rows}

    now = timezone.now()
    old, kept = now - timedelta(days=500), now - timedelta(days=200)
    for day in (old, kept):
        first = datetime(day.year, day.month, 1, tzinfo=now.tzinfo)
        after = (first + timedelta(days=32)).replace(day=1)
        with cluster.connect(user="sias_owner") as owner:
            owner.execute(
                f"CREATE TABLE journal_entry_{first:%Y_%m} PARTITION OF journal_entry "
                f"FOR VALUES FROM ('{first:%Y-%m-%d} 00:00:00+00') TO ('{after:%Y-%m-%d} 00:00:00+00')"
            )
    said, more = duties.partitions()
    assert f"journal_entry_{old:%Y_%m}" in said
    assert not more
    assert f"journal_entry_{old:%Y_%m}" not in months()
    assert {f"journal_entry_{kept:%Y_%m}", PARTITION} <= months()
    assert len([name for name in months() if name > PARTITION]) == 3
    assert (
        cluster.sql(
            "SELECT count(*) FROM journal_entry WHERE action = 'purge' AND detail ->> 'mois' LIKE %s",
            ["%" + f"{old:%Y_%m}"],
        )[0][0]
        == 1
    )
    with cluster.connect(user="sias_owner") as owner:
        owner.execute(f"DROP TABLE journal_entry_{kept:%Y_%m}")


def test_reading_the_log_in_code_says_so():
    with session_settings(journal="lecture"), transaction.atomic(), connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM journal_entry")
        assert cursor.fetchone()[0] > 0
