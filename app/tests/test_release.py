"""A release comes while people work: what it wants of the schema is said first, it waits for nobody's lock, forms stay valid."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test import Client
from sias.platform.schema import describe
from sias.platform.warm import warm
from sias.repertoire.models import Person

from tests.conftest import SOURCE, held_still, manage

INDEX = ("duplicates", "0003_absorbed_number", "merge_absorbed_number")


@contextmanager
def undone(cluster, app, name, sql):
    """Make a migration pending, and the database as before it; whatever a test leaves, it is done at the end."""
    cluster.sql(sql)
    cluster.sql("DELETE FROM django_migrations WHERE app = %s AND name = %s", (app, name))
    try:
        yield
    finally:
        manage("migrate", "-v", "0")


def test_nothing_is_wanted_of_a_schema_that_is_as_it_should_be():
    found = json.loads(manage("schema", "--json", user="sias_app").stdout)
    assert (found["pending"], found["missing"]) == ([], [])
    assert found["uses"]["repertoire_person"]["birth_name"] == {"null": False}
    assert found["uses"]["repertoire_person"]["address_norm"] == {"null": True}
    person = found["tables"]["repertoire_person"]
    assert "birth_name" in person["columns"]
    assert "person_address" in person["indexes"]
    assert person["bytes"] > 1_000_000


def test_rows_are_those_of_the_planner_and_partitions_are_added_up(cluster):
    cluster.sql("ANALYZE")
    tables = describe(connection)["tables"]
    assert tables["repertoire_person"]["rows"] == pytest.approx(Person.objects.count(), rel=0.05)
    ((parent, rows),) = cluster.sql(
        "SELECT inhparent::regclass::text, sum(reltuples)::bigint FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
        "WHERE c.relkind = 'r' AND reltuples > 0 GROUP BY 1 LIMIT 1"
    )
    assert tables[parent]["rows"] == rows


def test_a_pending_migration_is_told_with_what_it_would_send(cluster):
    app, name, index = INDEX
    with undone(cluster, app, name, f"DROP INDEX {index}"):
        (pending,) = describe(connection)["pending"]
        assert (pending["name"], pending["atomic"], pending["python"]) == (f"{app}.{name}", True, [])
        assert [line for line in pending["sql"] if line.startswith(f'CREATE INDEX "{index}"')]
        assert "à faire" in manage("schema", user="sias_app").stdout


def test_what_a_release_uses_and_the_database_lacks_is_told(cluster):
    cluster.sql("ALTER TABLE duplicates_merge RENAME COLUMN absorbed_number TO elsewhere")
    try:
        assert describe(connection)["missing"] == ["duplicates_merge.absorbed_number"]
    finally:
        cluster.sql("ALTER TABLE duplicates_merge RENAME COLUMN elsewhere TO absorbed_number")


def test_a_schema_that_is_held_still_is_told_and_is_no_error_while_nothing_is_to_be_done(cluster):
    app, name, index = INDEX
    with undone(cluster, app, name, f"DROP INDEX {index}"):
        with held_still(cluster):
            found = json.loads(manage("schema", "--json", user="sias_app").stdout)
            assert (found["frozen"], [one["name"] for one in found["pending"]]) == (True, [f"{app}.{name}"])
            refused = manage("migrate", "--no-input", check=False)
            assert refused.returncode != 0
            assert "the schema is frozen" in refused.stderr
            cluster.sql("INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, now())", (app, name))
            assert "No migrations to apply" in manage("migrate", "--no-input").stdout
        cluster.sql("DELETE FROM django_migrations WHERE app = %s AND name = %s", (app, name))
    assert not describe(connection)["frozen"]


def test_a_migration_gives_way_to_those_who_write_and_leaves_nothing_half_done(cluster):
    app, name, index = INDEX
    with undone(cluster, app, name, f"DROP INDEX {index}"):
        with cluster.connect() as writer, writer.transaction():
            writer.execute("LOCK TABLE duplicates_merge IN ROW EXCLUSIVE MODE")
            done = manage("migrate", "--lock-limit", "100", "--tries", "2", check=False)
        assert done.returncode == 1
        assert done.stderr.count("verrou refusé, nouvel essai") == 1
        assert "pas de verrou en 2 essais de 100 ms" in done.stderr
        assert [p["name"] for p in describe(connection)["pending"]] == [f"{app}.{name}"]
    assert describe(connection)["pending"] == []


def test_a_statement_has_its_limit(cluster):
    app, name, index = INDEX
    slow = "CREATE FUNCTION public.slow() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); END'"
    with undone(cluster, app, name, f"DROP INDEX {index}"):
        cluster.sql(slow)
        cluster.sql(
            "CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION public.slow()"
        )
        try:
            done = manage("migrate", "--statement-limit", "300", check=False)
        finally:
            cluster.sql("DROP FUNCTION public.slow() CASCADE")
        assert "statement timeout" in done.stderr
        assert describe(connection)["pending"] != []


LATER = """
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
class Migration(migrations.Migration):
    atomic = False
    dependencies = [("duplicates", "0003_absorbed_number")]
    operations = [AddIndexConcurrently("merge", models.Index(fields=["absorbed_number"], name="merge_later"))]
"""
MIGRATE_LATER = """
import django
django.setup()
from django.conf import settings
from django.core.management import call_command
settings.MIGRATION_MODULES = {"duplicates": "later"}
call_command("migrate", verbosity=0, lock_limit=300, statement_limit=300)
"""


def test_an_index_that_was_left_half_built_is_built_anew(cluster, tmp_path):
    """And building one beside the traffic has no time limit: it waits for others, and stops nobody."""
    (tmp_path / "later").mkdir()
    (tmp_path / "later/__init__.py").write_text(
        "from sias.duplicates.migrations import __path__ as done\n__path__ += done\n"
    )
    (tmp_path / "later/0004_later.py").write_text(LATER)
    cluster.sql("CREATE INDEX merge_later ON duplicates_merge (id)")
    cluster.sql("UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = 'merge_later'::regclass")
    try:
        with cluster.connect() as writer:
            writer.execute("BEGIN; LOCK TABLE duplicates_merge IN ROW EXCLUSIVE MODE")
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", MIGRATE_LATER],
                env={**os.environ, "PYTHONPATH": f"{SOURCE}:{tmp_path}", "SIAS_DATABASE_USER": "sias_owner"},
            )
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%CONCURRENTLY%' AND wait_event_type = 'Lock'"
            )
            end = time.monotonic() + 30
            while cluster.sql(waiting) != [(1,)] and time.monotonic() < end:
                time.sleep(0.1)
            time.sleep(0.5)  # longer than either limit
            assert process.poll() is None
            writer.execute("COMMIT")
        assert process.wait(60) == 0
        ((definition, valid),) = cluster.sql(
            "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index WHERE indexrelid = 'merge_later'::regclass"
        )
        assert valid
        assert "(absorbed_number)" in definition
    finally:
        cluster.sql("DROP INDEX IF EXISTS merge_later")
        cluster.sql("DELETE FROM django_migrations WHERE app = 'duplicates' AND name = '0004_later'")


FORM = """
import json, re, django
django.setup()
from django.contrib.auth import get_user_model
from django.test import Client
client = Client(enforce_csrf_checks=True)
client.force_login(get_user_model().objects.get(username="agent"))
page = client.get("/personnes/nouvelle/").content.decode()
field = lambda name: re.search(f'name="{name}" value="([^"]+)"', page)[1]
print(json.dumps({
    "cookies": {name: cookie.value for name, cookie in client.cookies.items()},
    "fields": {name: field(name) for name in ("csrfmiddlewaretoken", "idempotency_key")},
}))
"""


def test_a_session_and_a_form_that_was_opened_before_the_release_are_accepted_after_it(identity):
    """The former release is another process: nothing that it knew but secrets and the database is left."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORM],
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    before = json.loads(done.stdout)
    client = Client(enforce_csrf_checks=True)
    client.cookies.load(before["cookies"])
    answer = client.post("/personnes/nouvelle/", {**identity, **before["fields"]})
    assert answer.status_code == 302
    assert Person.objects.filter(birth_name=identity["birth_name"]).count() == 1
    # Without the token of its page it is refused: this test can fail.
    again = client.post("/personnes/nouvelle/", {**identity, "csrfmiddlewaretoken": "", "idempotency_key": "x"})
    assert again.status_code == 403


def test_every_page_compiles_before_the_first_user_comes(caplog):
    assert warm() > 50
    assert caplog.messages == []
