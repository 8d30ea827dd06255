"""The session: a private PostgreSQL, migrated as sias_owner, filled with 20 000 persons, used as sias_app.

Tests commit for real, as in production: retries, idempotency keys and COMMIT itself are what they test. They share one
database, so a test makes the rows that it counts.
"""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import Cluster, short_folder

PERSONS = 20_000
SEED = 57
_folder = short_folder()
os.environ.update(
    DJANGO_SETTINGS_MODULE="sias.settings",
    SIAS_ENVIRONMENT="test",
    SIAS_DATABASE_HOST=str(_folder),
    SIAS_DATABASE_PORT="5432",
    SIAS_DATABASE_NAME="sias",
    SIAS_DATABASE_REPLICA_NAME="sias",
    SIAS_DATABASE_USER="sias_app",
    SIAS_DOCUMENTS_ROOT=str(_folder / "documents"),
    SIAS_JOURNAL_SPOOL=str(_folder / "spool"),
    SIAS_ROOM="a",
    SIAS_HOST="test-a1",
    SIAS_ALLOWED_HOSTS="testserver",
)
for _name in ("CREDENTIALS_DIRECTORY", "SIAS_CREDENTIALS_DIR", "PROMETHEUS_MULTIPROC_DIR"):
    os.environ.pop(_name, None)

import django  # noqa: E402 - the settings come from the environment

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import Client, override_settings  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402
from sias.habilitations.services import install  # noqa: E402
from sias.platform import health  # noqa: E402
from sias.platform.schema import FREEZE  # noqa: E402
from sias.repertoire.models import Person  # noqa: E402

SOURCE = Path(__file__).parents[1] / "src"
PASSWORD = "mot de passe des tests"


def manage(
    *arguments: str, user: str = "sias_owner", check: bool = True, **environment: str
) -> subprocess.CompletedProcess:
    """Run `sias-manage` as a host would: in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "sias", *arguments],
        cwd="/",
        text=True,
        capture_output=True,
        check=check,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "SIAS_DATABASE_USER": user, **environment},
    )


@contextmanager
def held_still(cluster: Cluster) -> Iterator[None]:
    """Refuse changes of the schema for the block, as a migration to another PostgreSQL does (siasops.migrate.gates)."""
    cluster.sql(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE 'the schema is frozen'; END $$"
    )
    cluster.sql(
        f"CREATE EVENT TRIGGER {FREEZE} ON ddl_command_start WHEN TAG IN ('CREATE TABLE', 'DROP TABLE', 'CREATE INDEX', "
        "'GRANT', 'REVOKE', 'ALTER DEFAULT PRIVILEGES') EXECUTE FUNCTION refuse()"
    )
    try:
        yield
    finally:
        cluster.sql(f"DROP EVENT TRIGGER {FREEZE}")
        cluster.sql("DROP FUNCTION refuse()")


@pytest.fixture(scope="session")
def cluster():
    server = Cluster(_folder)
    server.create()
    yield server
    for connection in connections.all(initialized_only=True):
        connection.close()
    health.close()
    server.remove()


@pytest.fixture(scope="session", autouse=True)
def database(cluster):
    cluster.sql("CREATE ROLE sias_owner LOGIN", database="postgres")  # no superuser: trusted extensions suffice
    cluster.sql("CREATE ROLE sias_app LOGIN", database="postgres")
    cluster.sql("CREATE DATABASE sias OWNER sias_owner", database="postgres")
    manage("migrate", "-v", "0")
    manage("load_population", "--persons", str(PERSONS), "--seed", str(SEED), "--processes", "1")
    (_folder / "documents").mkdir(exist_ok=True)
    setup_test_environment()
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    make_agent("agent", "TS", "AF", first_name="Alex", last_name="Agent", service="UTAS")
    make_agent("autre", "TS", "AF", first_name="Dominique", last_name="Autre")
    return cluster


def make_agent(username: str, *profiles: str, territory: str = "57", unit: str = "", **facts: str):
    """Create an agent who holds the profiles in a territory and, when given, a service (`unit`)."""
    made = get_user_model().objects.create_user(username, password=PASSWORD, **facts)
    for profile in profiles:
        install(made, profile, territory=territory, service=unit)
    return made


@pytest.fixture(autouse=True)
def _fresh_connections():
    """Each test starts as a request does, and leaves nothing open."""
    yield
    for connection in connections.all(initialized_only=True):
        connection.deadline = None
        connection.close()


@pytest.fixture
def agent():
    return get_user_model().objects.get(username="agent")


def sign_in(username: str = "agent") -> Client:
    client = Client(raise_request_exception=False)
    assert client.login(username=username, password=PASSWORD)
    return client


@pytest.fixture
def client():
    return sign_in()


@pytest.fixture
def documents(tmp_path):
    """A document folder of the test's own."""
    with override_settings(SIAS_DOCUMENTS_ROOT=tmp_path):
        yield tmp_path


@pytest.fixture
def identity():
    """A form for a person that nobody else bears the name of, with a fresh idempotency key."""
    name = "".join(chr(ord("A") + int(digit, 16)) for digit in uuid.uuid4().hex[:12])
    return {
        "birth_name": f"TEST{name}",
        "usage_name": "",
        "first_names": "Camille",
        "sex": "F",
        "birth_date": "14/07/1980",
        "birth_place": "Metz",
        "nir": "",
        "address": "1 rue des Clercs",
        "postal_code": "57000",
        "commune": "Metz",
        "phone": "",
        "email": "",
        "household": "",
        "idempotency_key": uuid.uuid4().hex,
    }


@pytest.fixture
def person(client, identity):
    """A person who was created through the form."""
    response = client.post("/personnes/nouvelle/", identity)
    assert response.status_code == 302
    return Person.objects.get(birth_name=identity["birth_name"])
