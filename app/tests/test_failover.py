"""What happens to requests while their database moves: with a real server that is stopped, fenced or cut off."""

import re
import socket
import struct
import threading
import time

import psycopg
import pytest
from django.conf import settings
from django.db import connections, transaction
from django.test import override_settings
from sias.platform import failover
from sias.platform.outage import Outcome, is_transient, worth_a_retry
from sias.platform.postgresql import base
from sias.platform.postgresql.base import DatabaseWrapper, UnacknowledgedCommitError
from sias.repertoire import services
from sias.repertoire.models import Person

from tests.conftest import sign_in


def saved(cluster, identity: dict) -> int:
    return cluster.sql("SELECT count(*) FROM repertoire_person WHERE birth_name = %s", [identity["birth_name"]])[0][0]


def kill_clients(cluster) -> None:
    """They are gone when this returns: one that was only told to go may still answer."""
    cluster.sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'sias_app'")


def once(act):
    """Run `act` at the first call only."""
    done = []

    def wrapper(*arguments: object, **named: object) -> None:
        if not done:
            done.append(True)
            act(*arguments, **named)

    return wrapper


@pytest.fixture
def fenced(cluster):
    """The server refuses writes, as a demoted or softly fenced primary does."""
    cluster.set(default_transaction_read_only="on")
    kill_clients(cluster)
    yield cluster
    cluster.set(default_transaction_read_only="")


@pytest.fixture
def impatient():
    with override_settings(SIAS_PRIMARY_WAIT=0.3, SIAS_REPLICA_WAIT=0.1, SIAS_CHECK_TIMEOUT=0.5):
        yield


def test_a_connection_killed_between_requests_is_replaced_unseen(cluster, client, identity):
    assert client.get("/repertoire/?q=muller").status_code == 200
    kill_clients(cluster)
    assert client.get("/repertoire/?q=muller").status_code == 200
    kill_clients(cluster)
    assert client.post("/personnes/nouvelle/", identity).status_code == 302
    assert saved(cluster, identity) == 1


def test_a_server_killed_in_the_middle_of_a_write_costs_nothing_but_a_moment(cluster, client, identity, monkeypatch):
    real, kill = services.create_person, once(lambda: kill_clients(cluster))

    def create(*arguments):
        person = real(*arguments)
        kill()
        return person

    monkeypatch.setattr(services, "create_person", create)
    assert client.post("/personnes/nouvelle/", identity).status_code == 302
    assert saved(cluster, identity) == 1


def test_a_link_lost_after_commit_was_sent_is_resolved_by_the_key(cluster, client, identity, monkeypatch):
    real = DatabaseWrapper._commit

    def lose(self) -> None:
        real(self)
        self.commit_in_doubt = True
        self.connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    lose_once = once(lose)

    def commit(self) -> None:
        with self.wrap_database_errors:
            lose_once(self)
        if self.connection is not None and not self.connection.closed:
            real(self)

    monkeypatch.setattr(DatabaseWrapper, "_commit", commit)
    response = client.post("/personnes/nouvelle/", identity)
    assert response.status_code == 302
    assert response["Idempotent-Replay"] == "true"
    assert saved(cluster, identity) == 1


def test_a_fenced_server_answers_503_with_the_form_kept_and_the_form_works_afterwards(fenced, identity, impatient):
    fenced.set(default_transaction_read_only="")
    client = sign_in()
    fenced.set(default_transaction_read_only="on")
    kill_clients(fenced)
    response = client.post("/personnes/nouvelle/", identity | {"address": "12 rue <b>des</b> Clercs"})
    page = response.content.decode().replace("&#x27;", "'")
    assert response.status_code == 503
    assert int(response["Retry-After"]) == settings.SIAS_RETRY_AFTER
    assert response["X-SIAS-Outcome"] == Outcome.NOTHING_SAVED.value
    assert "Rien n'a été enregistré." in page
    assert f'value="{identity["birth_name"]}"' in page
    assert "12 rue &lt;b&gt;des&lt;/b&gt; Clercs" in page
    assert f'name="idempotency_key" value="{identity["idempotency_key"]}"' in page
    assert "X-SIAS-Room" in response
    fenced.set(default_transaction_read_only="")
    fields = dict(re.findall(r'<input[^>]*?name="([^"]+)"[^>]*?value="([^"]*)"', page))
    again = {name: value for name, value in fields.items() if name != "csrfmiddlewaretoken"} | {"sex": "F"}
    assert client.post("/personnes/nouvelle/", again).status_code == 302
    assert saved(fenced, identity) == 1


def test_the_kept_form_carries_a_csrf_token_that_is_accepted(cluster, identity, impatient):
    client = sign_in()
    client.handler.enforce_csrf_checks = True
    page = client.get("/personnes/nouvelle/").content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page).group(1)
    cluster.set(default_transaction_read_only="on")
    kill_clients(cluster)
    try:
        response = client.post("/personnes/nouvelle/", identity | {"csrfmiddlewaretoken": token})
    finally:
        cluster.set(default_transaction_read_only="")
    assert response.status_code == 503
    kept = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', response.content.decode()).group(1)
    assert client.post("/personnes/nouvelle/", identity | {"csrfmiddlewaretoken": kept}).status_code == 302


def test_reading_goes_on_while_the_primary_cannot_write(client, fenced):
    assert client.get("/personnes/1/").status_code == 200
    assert client.get("/repertoire/?q=muller").status_code == 200


def test_without_any_server_pages_say_so_and_come_back(cluster, client, impatient):
    cluster.stop()
    try:
        response = client.get("/repertoire/?q=muller")
        assert response.status_code == 503
        assert "rien n'est perdu" in response.content.decode().replace("&#x27;", "'")
        assert client.get("/healthz/live").status_code == 200
        ready = client.get("/healthz/ready")
        assert ready.status_code == 503
        assert ready.json()["checks"]["database"]["ok"] is False
        assert ready.json()["checks"]["documents"]["ok"] is True
    finally:
        cluster.start()
    assert client.get("/repertoire/?q=muller").status_code == 200
    assert client.get("/healthz/ready").status_code == 200


def test_a_request_waits_for_a_server_that_comes_back_in_time(cluster, client, identity):
    cluster.stop()
    threading.Timer(0.5, cluster.start).start()
    assert client.post("/personnes/nouvelle/", identity).status_code == 302
    assert saved(cluster, identity) == 1


@pytest.fixture
def other_room_silent(cluster):
    """COMMIT waits for a standby that never answers."""
    cluster.set(synchronous_standby_names="nobody")
    yield cluster
    cluster.set(synchronous_standby_names="")


def waiting(cluster) -> list[int]:
    return [row[0] for row in cluster.sql("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")]


def until(condition, seconds: float = 10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("not in time")


def test_a_commit_whose_wait_was_cancelled_is_not_acknowledged(other_room_silent, agent):
    cluster = other_room_silent

    def cancel() -> None:
        for pid in until(lambda: waiting(cluster)):
            cluster.sql("SELECT pg_cancel_backend(%s)", [pid])

    canceller = threading.Thread(target=cancel)
    canceller.start()
    agent.service = "essai"
    with pytest.raises(UnacknowledgedCommitError) as raised, transaction.atomic():
        agent.save()
    canceller.join()
    assert worth_a_retry(raised.value)
    assert connections["default"].commit_in_doubt


def test_a_write_never_confirmed_by_the_other_room_is_told_as_unconfirmed(other_room_silent, identity, impatient):
    cluster = other_room_silent
    cluster.set(synchronous_standby_names="")
    client = sign_in()
    cluster.set(synchronous_standby_names="nobody")
    stop = threading.Event()

    def cancel() -> None:
        while not stop.wait(0.02):
            for pid in waiting(cluster):
                cluster.sql("SELECT pg_cancel_backend(%s)", [pid])

    canceller = threading.Thread(target=cancel)
    canceller.start()
    try:
        response = client.post("/personnes/nouvelle/", identity)
    finally:
        stop.set()
        canceller.join()
    assert response.status_code == 503
    assert response["X-SIAS-Outcome"] == Outcome.UNKNOWN.value
    assert "pas confirmé" in response.content.decode()
    cluster.set(synchronous_standby_names="")
    again = client.post("/personnes/nouvelle/", identity)  # the other room is back: now it is in both
    assert (again.status_code, again["Idempotent-Replay"]) == (302, "true")
    assert saved(cluster, identity) == 1


def test_no_time_out_of_ours_cancels_a_commit_that_waits_for_the_other_room(other_room_silent, agent):
    cluster = other_room_silent

    def come_back() -> None:
        until(lambda: waiting(cluster))
        time.sleep(0.6)  # twice the statement time-out below
        cluster.set(synchronous_standby_names="")

    thread = threading.Thread(target=come_back)
    thread.start()
    with override_settings(SIAS_STATEMENT_TIMEOUT=300), transaction.atomic():
        agent.service = "UTAS"
        agent.save()
    thread.join()
    assert connections["default"].position


def test_statements_do_have_a_time_out(agent):
    with (
        override_settings(SIAS_STATEMENT_TIMEOUT=100),
        pytest.raises(Exception, match="statement timeout") as raised,
        transaction.atomic(),
        connections["default"].cursor() as cursor,
    ):
        cursor.execute("SELECT pg_sleep(5)")
    assert is_transient(raised.value)
    assert not worth_a_retry(raised.value)


def test_an_answer_that_ends_in_the_middle_of_a_row_is_a_lost_connection():
    """As PgBouncer leaves it when the server goes away: part of a row, then a message of its own."""

    def message(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("!I", len(content) + 4) + content

    def serve() -> None:
        link, _ = server.accept()
        with link:
            link.recv(1000)
            link.sendall(message(b"R", struct.pack("!I", 0)) + message(b"Z", b"I"))
            link.recv(1000)
            column = b"a\0" + struct.pack("!IHIhih", 0, 0, 25, -1, -1, 0)
            cut = message(b"D", struct.pack("!HI", 1, 1000) + b"x" * 40)
            link.sendall(message(b"T", struct.pack("!H", 1) + column) + cut + b"ed to be a row, not a message")
            link.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        way = f"host=127.0.0.1 port={server.getsockname()[1]} user=nobody sslmode=disable gssencmode=disable"
        with psycopg.connect(way, autocommit=True) as connection:
            with pytest.raises(psycopg.Error, match="lost synchronization") as raised:
                connection.execute("SELECT 'a'")
            assert connection.broken
        thread.join(10)
    assert not isinstance(raised.value, psycopg.OperationalError)
    assert worth_a_retry(raised.value)
    assert is_transient(raised.value)


@pytest.fixture
def asked(monkeypatch):
    """What the engine itself asks the server, one entry per round trip."""
    said, real = [], base.ask
    monkeypatch.setattr(base, "ask", lambda link, query, *rest: said.append(query.decode()) or real(link, query, *rest))
    return said


def test_a_transaction_begins_and_proves_its_connection_in_one_round_trip(asked):
    connection = connections["default"]
    connection.close()  # one that is old is closed for its age
    connection.ensure_connection()
    connection.close_if_unusable_or_obsolete()  # what Django does at the start of a request
    asked.clear()
    with transaction.atomic():
        assert show("lock_timeout") == "5s"
    assert len(asked) == 1
    assert asked[0].startswith("BEGIN; SET LOCAL")
    assert base.CHECK.decode() in asked[0]


def test_a_reading_asks_in_the_same_round_trip_whether_the_replica_knows_the_browsers_write(client, identity, asked):
    assert client.post("/personnes/nouvelle/", identity).status_code == 302
    asked.clear()
    assert client.get("/repertoire/?q=muller").status_code == 200
    reading = [said for said in asked if "READ ONLY" in said]
    assert len(reading) == 1
    assert reading[0].startswith("BEGIN READ ONLY; SET LOCAL")
    assert "pg_last_wal_replay_lsn() >=" in reading[0]


@pytest.mark.parametrize("end", ["unseen", "seen"])
def test_a_connection_that_ended_before_a_transaction_is_replaced(cluster, end):
    """A server that went away is seen at the next word only; libpq's connection may also be known to be closed."""
    connection = connections["default"]
    connection.close()  # one that is old is closed for its age
    connection.ensure_connection()
    connection.close_if_unusable_or_obsolete()  # what Django does at the start of a request
    if end == "seen":
        connection.connection.close()
    else:
        kill_clients(cluster)
    with transaction.atomic():
        assert show("lock_timeout") == "5s"


def test_a_transaction_on_a_server_that_was_fenced_meanwhile_fails_and_leaves_nothing_open():
    connection = connections["default"]
    connection.ensure_connection()
    connection.connection.execute("SET default_transaction_read_only = on")  # as for all, and at once
    with pytest.raises(Exception, match="not the primary, or fenced"), transaction.atomic():
        pass
    assert connection.connection is None
    with transaction.atomic():
        assert show("transaction_read_only") == "off"


def test_time_outs_end_with_their_transaction():
    """PgBouncer hands the server connection to someone else after COMMIT."""
    with transaction.atomic():
        assert show("statement_timeout") == "10s"
        assert show("lock_timeout") == "5s"
    assert show("statement_timeout") == "0"


def show(name: str) -> str:
    with connections["default"].cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return cursor.fetchone()[0]


def test_a_server_that_never_answers_is_given_up_in_time(monkeypatch, impatient):
    """PgBouncer accepts a query while it has no server, and keeps silent."""
    connection = connections["default"]
    connection.ensure_connection()
    monkeypatch.setattr("sias.platform.postgresql.base.CHECK", b"SELECT pg_sleep(30)")
    start = time.monotonic()
    assert not connection.is_usable()
    assert time.monotonic() - start < 2


def test_the_write_alias_refuses_a_standby(cluster, impatient):
    standby = cluster.standby()
    connection = connections["default"].copy()
    connection.settings_dict = {**connection.settings_dict, "HOST": str(standby.folder)}
    try:
        with pytest.raises(Exception, match="not the primary"):
            connection.ensure_connection()
        standby.run("pg_ctl", "-D", str(standby.data), "-w", "promote")
        connection.ensure_connection()
    finally:
        connection.close()
        standby.remove()


@pytest.fixture(scope="module")
def standby(cluster):
    server = cluster.standby()
    yield server
    server.remove()


class TestReadYourWrites:
    """A replica that lags must not show an agent the page before his own write."""

    @pytest.fixture(autouse=True)
    def _replica(self, standby):
        replica = connections["replica"]
        replica.close()
        old = replica.settings_dict["HOST"]
        replica.settings_dict["HOST"] = str(standby.folder)
        yield
        replica.close()
        replica.settings_dict["HOST"] = old
        standby.sql("SELECT pg_wal_replay_resume()")

    def used(self, alias: str) -> float:
        return failover.metrics.READS.labels(alias)._value.get()

    def test_a_reading_uses_the_replica(self, cluster, standby):
        client = sign_in()
        position = cluster.sql("SELECT pg_current_wal_insert_lsn()::text")[0][0]
        until(lambda: standby.sql("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position])[0][0])
        before = self.used("replica")
        assert client.get("/repertoire/?q=muller").status_code == 200
        assert self.used("replica") == before + 1

    def test_after_a_write_a_lagging_replica_is_not_used(self, standby, identity):
        client = sign_in()
        standby.sql("SELECT pg_wal_replay_pause()")
        until(lambda: standby.sql("SELECT pg_get_wal_replay_pause_state()")[0][0] == "paused")
        address = client.post("/personnes/nouvelle/", identity)["Location"]
        before = self.used("default")
        assert identity["birth_name"] in client.get(address).content.decode()
        assert self.used("default") == before + 1

    def test_a_dead_replica_is_no_reason_to_fail(self, standby, impatient):
        client = sign_in()
        standby.stop()
        try:
            assert client.get("/repertoire/?q=muller").status_code == 200
        finally:
            standby.start()

    @pytest.mark.parametrize("replica", ["alive", "dead"])
    def test_a_read_only_view_cannot_write_whoever_answers(self, cluster, monkeypatch, impatient, replica):
        client = sign_in()
        if replica == "dead":
            monkeypatch.setitem(connections["replica"].settings_dict, "HOST", "/nonexistent")
        monkeypatch.setattr(
            "sias.repertoire.views.services.composition", lambda *_: Person.objects.filter(pk=1).update(address="écrit")
        )
        assert client.get("/personnes/1/").status_code == 500
        assert cluster.sql("SELECT address FROM repertoire_person WHERE id = 1")[0][0] != "écrit"
