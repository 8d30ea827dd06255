"""The generator and the loader."""

import hashlib
import json
import subprocess
from collections import Counter

import pytest
from django.db import connections
from sias.habilitations.table import table
from sias.population import generator, loader
from sias.repertoire import nir

from tests.conftest import PERSONS, SEED, manage

INDEXES = """
SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL
SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
 WHERE connamespace = 'public'::regnamespace ORDER BY 1
"""


def digest(persons: int, seed: int, processes: int) -> str:
    found = hashlib.sha256()
    for shard in loader._shards(persons, seed, processes):
        for part in (shard.persons, shard.households, shard.memberships):
            found.update(part)
    return found.hexdigest()


def test_one_seed_makes_one_population_whatever_the_number_of_processes():
    assert digest(6000, 1, 1) == digest(6000, 1, 2) != digest(6000, 2, 1)


@pytest.mark.parametrize("persons", [1, 31, 33, 1000])
def test_exactly_as_many_persons_as_asked(persons):
    shards = list(generator.shards(persons, 3))
    assert sum(shard.persons.count(b"\n") for shard in shards) == persons
    identities = [line.split(b"\t")[0] for shard in shards for line in shard.persons.splitlines()]
    assert sorted(map(int, identities)) == list(range(1, persons + 1))


def test_what_is_loaded_is_what_is_generated(cluster):
    assert cluster.sql("SELECT digest FROM population_load ORDER BY id LIMIT 1")[0][0] == digest(PERSONS, SEED, 1)


def test_every_national_identifier_has_its_key_and_its_own_number(cluster):
    sealed = [
        row[0]
        for row in cluster.sql(
            "SELECT nir_encrypted FROM repertoire_person WHERE nir_encrypted IS NOT NULL AND id <= %s", [PERSONS]
        )
    ]
    numbers = [nir.decrypt(value) for value in sealed]
    assert len(numbers) > 0.95 * PERSONS
    assert len(set(numbers)) == len(numbers)
    assert [number for number in numbers if nir.problem(number)] == []


def test_identifiers_agree_with_sex_and_birth(cluster):
    for value, sex, born in cluster.sql(
        "SELECT nir_encrypted, sex, birth_date FROM repertoire_person WHERE nir_encrypted IS NOT NULL LIMIT 500"
    ):
        number = nir.decrypt(value)
        assert number[:5] == f"{2 if sex == 'F' else 1}{born:%y%m}"


def test_the_population_looks_like_one(cluster):
    figures = cluster.sql(
        """
        SELECT avg(date_part('year', age(DATE '2026-01-01', birth_date))), avg((sex = 'F')::int),
               avg((birth_date > DATE '2008-01-01')::int), count(DISTINCT birth_norm), max(birth_date), min(birth_date)
          FROM repertoire_person WHERE id <= %s""",
        [PERSONS],
    )[0]
    assert 35 < figures[0] < 50
    assert 0.48 < figures[1] < 0.56
    assert 0.12 < figures[2] < 0.30
    assert figures[3] > 4000
    assert figures[4].year <= 2025
    assert figures[5].year >= 1920
    sizes = Counter(
        dict(
            cluster.sql(
                """SELECT size, count(*) FROM (SELECT count(*) AS size FROM repertoire_membership
        WHERE until IS NULL AND person_id <= %s GROUP BY household_id) AS h GROUP BY size""",
                [PERSONS],
            )
        )
    )
    mean = sum(size * count for size, count in sizes.items()) / sizes.total()
    assert 1.9 < mean < 2.6
    assert 0.25 < sizes[1] / sizes.total() < 0.45
    metz = cluster.sql("SELECT avg((commune_id = '57463')::int) FROM repertoire_person WHERE id <= %s", [PERSONS])[0][0]
    assert 0.09 < metz < 0.15  # 121 695 of 1 051 309


def test_some_persons_lived_elsewhere_before(cluster):
    assert cluster.sql("SELECT count(*) FROM repertoire_membership WHERE until IS NOT NULL")[0][0] > 100


class TestLoading:
    """On a database of its own."""

    @pytest.fixture
    def own(self, cluster):
        connections.close_all()
        cluster.sql("CREATE DATABASE own OWNER sias_owner", database="postgres")
        manage("migrate", "-v", "0", SIAS_DATABASE_NAME="own")
        yield "own"
        cluster.sql("DROP DATABASE own WITH (FORCE)", database="postgres")

    def load(self, own: str, persons: int, *more: str, user: str = "sias_owner") -> subprocess.CompletedProcess:
        return manage(
            "load_population",
            "--persons",
            str(persons),
            "--seed",
            "1",
            *more,
            check=False,
            user=user,
            SIAS_DATABASE_NAME=own,
        )

    def test_loads_repeats_refuses_and_replaces(self, cluster, own):
        before = cluster.sql(INDEXES, database=own)
        first = self.load(own, 600, "--progress", "json")
        lines = [json.loads(line) for line in first.stdout.splitlines()]
        assert lines[-1]["state"] == "changed"
        assert lines[-1]["persons"] == 600
        assert {"phase", "done", "total", "elapsed"} <= set(lines[0])
        assert cluster.sql(INDEXES, database=own) == before  # every index and constraint is back as it was
        assert json.loads(self.load(own, 600, "--progress", "json").stdout)["state"] == "unchanged"
        refused = self.load(own, 700)
        assert refused.returncode == 3
        assert "--replace" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert self.load(own, 700, "--replace").returncode == 0
        stats = json.loads(manage("stats", "--json", user="sias_app", SIAS_DATABASE_NAME=own).stdout)
        assert (stats["persons"], stats["load"]["persons"], stats["documents"]) == (700, 700, 0)
        wrong_role = self.load(own, 800, "--replace", user="sias_app")
        assert wrong_role.returncode == 3
        assert "sias_owner" in wrong_role.stderr

    def test_an_interrupted_load_leaves_what_was_there_and_can_be_run_again(self, cluster, own, monkeypatch):
        self.load(own, 300)
        before = cluster.sql(INDEXES, database=own)
        code = (
            "import os, django; django.setup()\n"
            "from sias.population import loader\n"
            "def die(phase, done, total):\n"
            "    if phase.startswith('index'): os.kill(os.getpid(), 9)\n"
            "loader.load(400, 2, die, 1)\n"
        )
        killed = manage("shell", "-c", code, check=False, SIAS_DATABASE_NAME=own)
        assert killed.returncode == -9
        assert cluster.sql("SELECT count(*) FROM repertoire_person", database=own) == [(300,)]
        assert cluster.sql(INDEXES, database=own) == before
        assert self.load(own, 400, "--replace").returncode == 0


def test_accounts_are_made_once_and_corrected_when_a_password_changes(tmp_path):
    for name, value in {
        "secret_key": "s" * 60,
        "identifier_key": "i" * 60,
        "demo_password": "un mot de passe",
        "probe_password": "un autre mot",
    }.items():
        (tmp_path / name).write_text(value + "\n")

    def run() -> dict:
        done = manage("create_accounts", "--json", user="sias_app", SIAS_CREDENTIALS_DIR=str(tmp_path))
        return json.loads(done.stdout)

    first = run()
    assert first["changed"]
    assert set(first["accounts"].values()) == {"created"}
    assert {"demo", "sonde"} | {f"demo-{code.lower()}" for code in table().profiles} == set(first["accounts"])
    again = run()
    assert (again["changed"], set(again["accounts"].values())) == (False, {"unchanged"})
    (tmp_path / "probe_password").write_text("encore un autre")
    assert {name for name, state in run()["accounts"].items() if state == "changed"} == {"sonde"}
    (tmp_path / "probe_password").unlink()
    missing = manage("create_accounts", user="sias_app", check=False, SIAS_CREDENTIALS_DIR=str(tmp_path))
    assert "probe_password" in missing.stderr
