"""The programs that keep the cluster's shared configuration, and the database with its roles."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siasops.migrate import gates
from tests.unit.drill.conftest import Server, private
from tests.unit.migrate.conftest import Direct

SOURCES = Path(__file__).parents[2] / "roles" / "patroni" / "files"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SOURCES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


cluster = load("patroni_cluster")
database = load("patroni_database")

DYNAMIC = {
    "ttl": 20,
    "loop_wait": 0,
    "synchronous_mode": True,
    "postgresql": {"use_slots": True, "parameters": {"wal_level": "logical"}},
}


def member(name: str, role: str = "replica", state: str = "streaming") -> dict[str, Any]:
    return {"name": name, "role": role, "state": state}


def wanted(*names: str, synchronous: int = 1) -> dict[str, Any]:
    return {"members": dict.fromkeys(names, "10.0.0.1"), "port": 8008, "synchronous": synchronous, "dynamic": DYNAMIC}


WHOLE = [member("db-a1", "leader", "running"), member("db-b1", "sync_standby")]


def test_a_whole_cluster_has_no_complaint() -> None:
    assert cluster.complaints_about({"members": WHOLE}, wanted("db-a1", "db-b1")) == []


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([WHOLE[0]], "db-b1 has not joined the cluster; on db-b1: journalctl -u patroni"),
        (
            [WHOLE[0], member("db-b1", "sync_standby", "starting")],
            "db-b1 is sync_standby, state starting, not streaming",
        ),
        ([WHOLE[0], member("db-b1")], "0 of 1 synchronous standbys are set (none); on db-a1"),
        ([member("db-a1", "replica", "stopped"), WHOLE[1]], "no member leads"),
        ([], "no member leads"),
    ],
)
def test_a_member_that_is_not_as_it_should_be_is_named(members: list[dict[str, Any]], said: str) -> None:
    assert any(said in line for line in cluster.complaints_about({"members": members}, wanted("db-a1", "db-b1")))


def test_a_cluster_of_one_wants_no_synchronous_standby() -> None:
    assert cluster.complaints_about({"members": WHOLE[:1]}, wanted("db-a1")) == []


def test_an_equal_configuration_is_left_alone() -> None:
    assert cluster.patch_for(DYNAMIC, DYNAMIC) == {}


def test_only_what_differs_is_sent() -> None:
    current = {
        "ttl": 30,
        "loop_wait": 0,
        "synchronous_mode": True,
        "postgresql": {"use_slots": True, "parameters": {"wal_level": "replica"}},
    }
    assert cluster.patch_for(current, DYNAMIC) == {"ttl": 20, "postgresql": {"parameters": {"wal_level": "logical"}}}


def test_what_an_operator_set_beside_ours_stays() -> None:
    current = {**DYNAMIC, "pause": True, "slots": {"migration": {"type": "logical"}}}
    assert cluster.patch_for(current, DYNAMIC) == {}


def test_a_parameter_that_the_inventory_does_not_know_is_removed() -> None:
    current = {"postgresql": {"parameters": {"wal_level": "logical", "fsync": "off"}}}
    assert cluster.unknown_parameters(current, DYNAMIC) == {"fsync": None}


def test_numbers_and_words_of_the_same_value_are_equal() -> None:
    assert cluster.patch_for({**DYNAMIC, "ttl": "20"}, DYNAMIC) == {}


class Answers:
    """Patroni's REST interface from a script of clusters; keeps what it is sent."""

    def __init__(self, *clusters: list[dict[str, Any]], config: dict[str, Any]) -> None:
        self.clusters, self.config, self.sent = list(clusters), config, []

    def anyone(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        if path == "/cluster":
            return 200, {"members": self.clusters.pop(0) if len(self.clusters) > 1 else self.clusters[0]}
        if method == "PATCH":
            self.sent.append(body)
        return 200, self.config


def test_a_change_is_sent_once_and_reported() -> None:
    rest = Answers(WHOLE, config={**DYNAMIC, "ttl": 30})
    result = cluster.converge(rest, wanted("db-a1", "db-b1"), 5, False)
    assert rest.sent == [{"ttl": 20}]
    assert result["changed"]
    assert result["leader"] == "db-a1"


def test_looking_sends_nothing() -> None:
    rest = Answers(WHOLE, config={**DYNAMIC, "ttl": 30})
    assert cluster.converge(rest, wanted("db-a1", "db-b1"), 5, True)["changed"]
    assert rest.sent == []


def test_a_parameter_that_waits_for_a_restart_is_reported() -> None:
    waiting = {**WHOLE[1], "pending_restart": True, "pending_restart_reason": {"shared_buffers": {}}}
    rest = Answers([WHOLE[0], waiting], config=DYNAMIC)
    result = cluster.converge(rest, wanted("db-a1", "db-b1"), 5, False)
    assert result["pending_restart"] == {"db-b1": ["shared_buffers"]}


def test_waiting_ends_at_the_deadline_with_the_members_named() -> None:
    rest = Answers([WHOLE[0]], config=DYNAMIC)
    with pytest.raises(TimeoutError, match="db-b1 has not joined the cluster"):
        cluster.wait_until_whole(rest, wanted("db-a1", "db-b1"), 0)


def test_a_verifier_matches_its_password_and_no_other() -> None:
    verifier = database.scram_verifier("correct horse", b"0123456789abcdef")
    assert database.matches(verifier, "correct horse")
    assert not database.matches(verifier, "correct horsf")


def test_the_verifier_of_rfc_7677_is_ours() -> None:
    # RFC 7677 section 3: user "pencil", salt W22ZaJ0SNY7soEsUEjb6gQ==, 4096 rounds. Its server signature and client proof
    # are made with these two keys.
    import base64  # noqa: PLC0415

    verifier = database.scram_verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    assert verifier == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


@pytest.mark.parametrize("verifier", [None, "", "md5abc", "SCRAM-SHA-256$", "SCRAM-SHA-256$x:y$z:w"])
def test_what_is_no_verifier_matches_nothing(verifier: str | None) -> None:
    assert not database.matches(verifier, "secret")


@given(st.text(min_size=1, max_size=40), st.binary(min_size=8, max_size=32))
def test_every_password_matches_the_verifier_made_of_it(password: str, salt: bytes) -> None:
    assert database.matches(database.scram_verifier(password, salt, 2), password)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with private(tmp_path_factory.mktemp("patroni")) as made:
        yield made


def test_the_database_is_made_once_and_every_index_of_it_can_be_checked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "connect", server.connect)
    wanted_database = {
        "database": "sias", "owner": "sias_owner", "application": "sias_app", "monitor": "sias_monitor", "drill": None,
        "passwords": dict.fromkeys(("sias_owner", "sias_app", "sias_monitor"), "secret"),
        "connection_limits": {"sias_app": 120}, "check": True,
    }  # fmt: skip
    assert "database sias made" in database.apply(wanted_database)
    wanted_database["check"] = False
    assert {"database sias made", "grants in sias", "extensions in postgres"} <= set(database.apply(wanted_database))
    assert database.apply(wanted_database) == []
    for name in ("sias", "postgres"):
        with server.connect(name) as connection:
            connection.execute("SELECT pg_catalog.bt_index_check('pg_class_oid_index'::regclass, true)")


def test_a_schema_that_a_migration_has_frozen_is_looked_at_and_not_changed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "connect", server.connect)
    wanted_database = {
        "database": "frozen", "owner": "frozen_owner", "application": "frozen_app", "monitor": "frozen_monitor", "drill": None,
        "passwords": dict.fromkeys(("frozen_owner", "frozen_app", "frozen_monitor"), "secret"), "connection_limits": {},
        "check": False,
    }  # fmt: skip
    assert database.apply(wanted_database)
    gates.freeze(Direct(server, "frozen"))
    assert database.apply(wanted_database) == []
    with server.connect("frozen") as connection:
        connection.execute("SET sias.migration = on")
        connection.execute("REVOKE USAGE ON SCHEMA public FROM frozen_app")
    with pytest.raises(database.psycopg.Error, match="a migration has frozen it"):
        database.apply(wanted_database)
