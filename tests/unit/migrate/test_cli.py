"""`sias migrate gates` asks every database of the primary, and says go or no-go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from siasops import inventory as facts
from siasops import remote
from siasops.errors import HELD, VERDICT_FAILED, UserError
from siasops.inventory import ROOT
from siasops.migrate import cli, copy
from tests.unit.migrate.conftest import Pair


@pytest.fixture
def ask(still: Pair, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A platform of one primary whose two databases are the pair's; its facts may be changed."""
    given: dict[str, Any] = {"leader": SimpleNamespace(host="db-a1", version="15.20")}

    @contextmanager
    def connect(*_: object) -> Iterator[object]:
        yield SimpleNamespace()

    def database(_fleet: object, _host: str, _port: int, name: str) -> object:
        sides = {"blue": still.blue, "green": still.green}
        return sides.get(name) or SimpleNamespace(ask=lambda _: [{"name": side} for side in sides])

    monkeypatch.setattr(remote, "connect", connect)
    monkeypatch.setattr(cli, "look", lambda *_: SimpleNamespace(**given))
    monkeypatch.setattr(cli, "Psql", database)
    monkeypatch.setattr(copy, "offered", lambda *_: {"plpgsql": "1.0"})
    return given


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.migrate, ["gates", *arguments], obj=facts.load(ROOT / "inventory" / "lab.yml"))


def test_sound_databases_are_go(ask: dict[str, Any]) -> None:
    result = run()
    assert result.exit_code == HELD, result.output
    assert "Database blue" in result.output
    assert "go for 17" in result.output


def test_a_defect_in_any_database_is_no_go(ask: dict[str, Any], still: Pair) -> None:
    still.green.do("CREATE UNLOGGED TABLE fast (id int PRIMARY KEY)")
    result = run("--json")
    assert result.exit_code == VERDICT_FAILED
    found = json.loads(result.stdout)["databases"]
    assert [(line["what"], line["found"]) for line in found["green"] if not line["ok"]] == [
        ("No unlogged tables or sequences", "public.fast")
    ]
    assert all(line["ok"] for line in found["blue"])


def test_nothing_to_ask_and_nothing_to_do_are_said(ask: dict[str, Any]) -> None:
    ask["leader"] = SimpleNamespace(host="db-a1", version="17.12")
    assert isinstance(run().exception, UserError)
    assert "runs PostgreSQL 17.12 already" in str(run().exception)
    ask["leader"] = None
    assert "Nobody leads" in str(run().exception)
