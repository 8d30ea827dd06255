"""Releases of the application on the lab, under load: nobody notices a good one, a bad one goes by itself, both go back.

Each test begins with what the checkout deploys on both hosts. What a step took is printed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from siasops import remote
from siasops.change import state as states
from siasops.cluster.client import tls
from siasops.drill.faults import Stage
from siasops.drill.history import read_http, records
from siasops.drill.workers import Workers
from siasops.errors import HELD, VERDICT_FAILED
from siasops.inventory import ROOT, Inventory
from siasops.release import host as hosts
from tests.changes.conftest import Begun

pytestmark = [pytest.mark.changes, pytest.mark.timeout(3600)]
LIMIT = 900
SEARCH = "def search(request: HttpRequest) -> HttpResponse:\n"
MIGRATION = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("duplicates", "0003_absorbed_number")]
    operations = [migrations.RunSQL({sql!r})]
"""
ADDS = "ALTER TABLE duplicates_merge ADD COLUMN of_a_test integer NULL"
UNDONE = (
    "ALTER TABLE IF EXISTS duplicates_merge DROP COLUMN IF EXISTS of_a_test; "
    "DELETE FROM django_migrations WHERE app = 'duplicates' AND name = '0004_of_a_test'"
)


def sias(*words: str) -> tuple[int, str]:
    """Run `sias release …` as somebody would; what it wrote to standard output, and how long it took on the test's."""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "siasops.cli", "release", *words],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip
    print(
        f"\n== sias release {' '.join(words)}: exit {done.returncode} after {time.monotonic() - begin:.0f} s\n{done.stderr}"
    )
    return done.returncode, done.stdout


def act(*words: str) -> dict[str, Any]:
    """The same, acting: what it answers as JSON, with its exit code."""
    code, said = sias(*words, "--yes", "--json")
    answer: dict[str, Any] = json.loads(said)
    for phase in answer["phases"]:
        print(f"{phase['end'] - phase['begin']:6.1f} s  {phase['title']}")
    print(answer["sentence"])
    return {**answer, "code": code}


def standings(inventory: Inventory) -> dict[str, hosts.Standing]:
    with remote.connect(inventory) as fleet:
        return hosts.look(Stage(inventory, fleet))


def running(inventory: Inventory) -> set[str]:
    found = standings(inventory)
    assert all(s.runs(s.current) and not s.drained for s in found.values()), found
    return {s.current for s in found.values()}


def primary(inventory: Inventory, sql: str) -> None:
    """Run a statement on whichever database host is the primary."""
    line = "runuser -u postgres -- psql -X -At -d sias -c 'SELECT pg_is_in_recovery()'"
    with remote.connect(inventory) as fleet:
        answers = fleet.run_all(line, hosts=[h.name for h in inventory.group("databases")])
        (leader,) = (name for name, answer in answers.items() if answer.stdout.strip() == "f")
        fleet.run(leader, ["runuser", "-u", "postgres", "--", "psql", "-X", "-q", "-d", "sias"], stdin=sql, check=True)


@pytest.fixture(scope="module")
def deployed(lab: Inventory) -> Iterator[str]:
    """The version that the checkout is; both hosts run it again at the end, and nothing of a test is left in the schema."""
    (version,) = running(lab)
    yield version
    if states.unfinished(lab) is not None:
        sias("rollback", "--yes", "--no-load")
    if running(lab) != {version}:
        sias("rollback", "--to", version, "--yes", "--no-load")
    primary(lab, UNDONE)
    assert running(lab) == {version}


@pytest.fixture
def before(lab: Inventory, deployed: str) -> str:
    if running(lab) != {deployed}:
        assert sias("rollback", "--to", deployed, "--yes", "--no-load")[0] == HELD
    return deployed


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the application that is another release: its style has changed."""
    copy = tmp_path / "app"
    shutil.copytree(
        ROOT / "app", copy, ignore=shutil.ignore_patterns("tests", "__pycache__", "*.egg-info", "build", "staticfiles")
    )
    with (copy / "src/sias/static/sias/sias.css").open("a", encoding="utf-8") as file:
        file.write(f"/* {tmp_path.name} {time.time()} */\n")
    return copy


def with_migration(source: Path, name: str, sql: str) -> None:
    (source / f"src/sias/duplicates/migrations/{name}.py").write_text(MIGRATION.format(sql=sql), encoding="utf-8")


class Agent:
    """Somebody of room a who signs in, opens a form, fills it in slowly, and keeps a page open."""

    def __init__(self, inventory: Inventory) -> None:
        base = f"https://{inventory.rooms['a'].address}"
        self.http = httpx.Client(
            base_url=base, verify=tls(inventory, certificate=False), headers={"Referer": f"{base}/"}, trust_env=False
        )
        page = self.http.get("/connexion/").text
        secret = inventory.secrets()["app_probe_password"]
        given = {
            "username": "sonde",
            "password": secret,
            "csrfmiddlewaretoken": self._field(page, "csrfmiddlewaretoken"),
        }
        assert self.http.post("/connexion/", data=given).status_code in {302, 303}
        page = self.http.get("/personnes/nouvelle/").text
        self.form = {name: self._field(page, name) for name in ("csrfmiddlewaretoken", "idempotency_key")}
        self.files = sorted(set(re.findall(r'"(/static/[^"]+)"', page)))
        assert self.files

    @staticmethod
    def _field(page: str, name: str) -> str:
        found = re.search(rf'name="{name}"\s+value="([^"]+)"', page)
        assert found, name
        return found[1]

    def sends_the_form(self) -> int:
        fields = {"birth_name": "EXERCICE", "first_names": "Formulaire", "sex": "F", "birth_date": "1950-01-01"}
        return self.http.post("/personnes/nouvelle/", data={**fields, **self.form}).status_code

    def loads_the_page_s_files(self) -> dict[str, int]:
        return {path: self.http.get(path).status_code for path in self.files}


@pytest.fixture
def agents(lab: Inventory) -> Iterator[Callable[[], Agent]]:
    """Makes agents, whose connections are closed in the end."""
    with ExitStack() as made:

        def make() -> Agent:
            agent = Agent(lab)
            made.callback(agent.http.close)
            return agent

        yield make


@contextmanager
def load(inventory: Inventory, folder: Path) -> Iterator[None]:
    """Users of both rooms for the block, whatever becomes of the commands in it: none of their requests may fail."""
    folder.mkdir()
    workers = Workers(inventory, f"release-{folder.name}-{int(time.time())}", folder)
    try:
        workers.start("prober")
        workers.wait_ready(60)
        yield
        workers.look()
    finally:
        workers.stop()
    ops = read_http(records(folder / "http.jsonl"))
    failed = [op for op in ops if not op.ok]
    print(f"{len(failed)} of {len(ops)} requests failed, the slowest took {max(op.latency for op in ops):.2f} s")
    assert failed == []
    assert len(ops) > 100


def test_nobody_notices_a_release_nor_its_way_back(
    lab: Inventory, before: str, source: Path, agents: Callable[[], Agent]
) -> None:
    with_migration(source, "0004_of_a_test", ADDS)
    agent, late = agents(), agents()
    went = act("run", "--source", str(source))
    assert (went["code"], went["status"], went["held"]) == (HELD, "done", True)
    assert went["felt"]["figures"]["http_failed"] == 0
    (version,) = running(lab)
    assert version != before
    assert agent.loads_the_page_s_files() == dict.fromkeys(agent.files, 200)
    assert agent.sends_the_form() in {302, 303}
    assert [s.releases.keys() >= {before, version} for s in standings(lab).values()] == [True, True]

    changes = len(states.every(lab))
    code, said = sias("run", "--source", str(source), "--yes")
    assert (code, "there is nothing to do" in said, len(states.every(lab))) == (HELD, True, changes)
    assert sias("verify")[0] == HELD

    new = agents()
    back = act("rollback")
    assert (back["code"], back["status"]) == (HELD, "rolled back")
    assert back["felt"]["figures"]["http_failed"] == 0
    assert running(lab) == {before}
    assert (late.sends_the_form(), new.sends_the_form()) in {(302, 302), (303, 303)}
    assert new.loads_the_page_s_files() == dict.fromkeys(new.files, 200)
    assert "there is nothing to do" in sias("rollback", "--yes")[1]


def test_a_bad_release_is_seen_on_the_first_host_and_goes_by_itself(lab: Inventory, before: str, source: Path) -> None:
    views = source / "src/sias/repertoire/views.py"
    text = views.read_text(encoding="utf-8")
    assert SEARCH in text
    views.write_text(text.replace(SEARCH, f'{SEARCH}    raise RuntimeError("a bad release")\n'), encoding="utf-8")
    went = act("run", "--source", str(source))
    assert (went["code"], went["status"]) == (VERDICT_FAILED, "rolled back")
    assert re.search(r"on app-a1 \d+ of its \d+ requests fail", went["sentence"])
    assert running(lab) == {before}
    change = states.every(lab)[0]
    (log,) = change.folder.glob("*/http.jsonl*")
    failed = [op for op in read_http(records(log.with_name("http.jsonl"))) if not op.ok]
    print(f"{len(failed)} requests failed before its users were led elsewhere")
    assert {op.served_by for op in failed} == {"app-a1"}
    assert 0 < len(failed) <= 12


def test_a_bad_migration_is_refused_before_anything_is_touched(lab: Inventory, before: str, source: Path) -> None:
    bad = "ALTER TABLE duplicates_merge DROP COLUMN absorbed_number; CREATE INDEX of_a_test ON repertoire_person (birth_place)"
    with_migration(source, "0004_bad", bad)
    with load(lab, source.parent / "load"):
        went = act("run", "--source", str(source), "--no-load")
    assert (went["code"], went["status"]) == (VERDICT_FAILED, "rolled back")
    assert "the running release uses duplicates_merge.absorbed_number (drops-what-runs)" in went["sentence"]
    assert "(require-concurrent-index-creation); instead: AddIndexConcurrently" in went["sentence"]
    assert running(lab) == {before}
    code, said = sias("check", "--source", str(source))
    assert code == VERDICT_FAILED
    assert "require-concurrent-index-creation" in said


@pytest.mark.parametrize("at", ["Switch app-a1", "Watch app-a1", "Switch app-b1"])
@pytest.mark.parametrize("then", ["run", "rollback"])
def test_a_run_that_is_killed_goes_on_or_back(lab: Inventory, before: str, source: Path, at: str, then: str) -> None:
    with load(lab, source.parent / "load"):
        begun = Begun(source.parent, "release", "run", "--source", str(source), "--no-load")
        assert begun.until(lambda: begun.says(at)), begun.said()
        time.sleep(1.0)  # into the phase
        begun.kill()
        assert states.unfinished(lab) is not None
        words = ["run", "--source", str(source)] if then == "run" else ["rollback"]
        went = act(*words, "--no-load")
        assert went["code"] == HELD
        assert states.unfinished(lab) is None
    (version,) = running(lab)
    assert (version == before) is (then == "rollback")
