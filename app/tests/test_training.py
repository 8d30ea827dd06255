"""Demonstration data and the training instance, on a database of their own."""

import os

import pytest

from tests.conftest import manage

pytestmark = pytest.mark.timeout(400)  # commands in processes of their own, on a machine that may be busy


@pytest.fixture(scope="module")
def formation(cluster, tmp_path_factory):
    """An instance whose environment is `formation`: a copy of the tests' database."""
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'sias'", database="postgres")
    cluster.sql("CREATE DATABASE formation TEMPLATE sias OWNER sias_owner", database="postgres")
    folder = tmp_path_factory.mktemp("credentials")
    for name in ("secret_key", "identifier_key", "demo_password", "probe_password", "database_password"):
        (folder / name).write_text("un secret de formation")
    (folder / "database_owner_password").write_text("un secret de formation")

    def act(*arguments: str, user: str = "sias_owner", check: bool = True, **environment: str):
        settings = {
            "SIAS_ENVIRONMENT": "formation",
            "SIAS_CREDENTIALS_DIR": str(folder),
            "SIAS_DATABASE_NAME": "formation",
            "SIAS_DATABASE_REPLICA_NAME": "formation",
            "SIAS_ALLOWED_HOSTS": os.environ["SIAS_ALLOWED_HOSTS"],
        }
        return manage(*arguments, user=user, check=check, **settings | environment)

    act("create_accounts", user="sias_app")
    yield act
    cluster.sql("DROP DATABASE formation WITH (FORCE)", database="postgres")


def counted(cluster, table: str) -> int:
    return cluster.sql(f"SELECT count(*) FROM {table}", database="formation")[0][0]  # noqa: S608


def test_a_reset_leaves_the_first_day_and_nothing_that_trainees_wrote(cluster, formation):
    formation("reset_training", "--persons", "100")
    assert "unchanged" in formation("load_demonstration", user="sias_app").stdout
    tables = (
        "tasks_task", "reception_contact", "thirdparties_thirdparty", "privacy_rightsrequest",
        "notes_note", "evaluations_answer", "duplicates_candidate",
    )  # fmt: skip
    before = {table: counted(cluster, table) for table in tables}
    assert all(before.values()), before
    cluster.sql("DELETE FROM reception_contact", database="formation")
    cluster.sql("UPDATE tasks_task SET state = 'faite', closed_at = now()", database="formation")
    done = formation("reset_training", "--persons", "100")
    assert "remise à neuf" in done.stdout
    assert {table: counted(cluster, table) for table in tables} == before
    assert cluster.sql("SELECT count(*) FROM tasks_task WHERE state = 'ouverte'", database="formation")[0][0] > 5


@pytest.mark.parametrize("environment", ["production", "lab"])
def test_a_reset_is_refused_elsewhere_and_touches_nothing(cluster, formation, environment):
    before = counted(cluster, "repertoire_person")
    refused = formation("reset_training", check=False, SIAS_ENVIRONMENT=environment)
    assert refused.returncode == 3
    assert environment in refused.stderr
    assert counted(cluster, "repertoire_person") == before


def test_demonstration_data_are_refused_in_production(formation):
    refused = formation("load_demonstration", user="sias_app", check=False, SIAS_ENVIRONMENT="production")
    assert refused.returncode == 3
