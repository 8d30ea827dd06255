"""Go or no-go: each line says what was found and what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from siasops.calendar import due
from siasops.change.state import State
from siasops.cluster.check import healthy
from siasops.inventory import ROOT, Inventory
from siasops.upgrade import check, wheels
from siasops.upgrade.hosts import Found, Offer, Road
from tests.unit.cluster.conftest import Hosts

ROAD = Road("12", "13", "bookworm", "trixie")
GOOD = Found(
    "db-b1", "12", "x:1", "", (), 40 << 30, 1 << 30, True, (("bookworm", "Debian"), ("bookworm-security", "Debian")),
    "inactive", "", "",
)  # fmt: skip
OFFER = Offer(171_000_000, 166_000_000, ("libdb5.3", "python3.11-venv"), 283)


def test_a_host_in_order_may_be_upgraded() -> None:
    assert healthy(list(check.packages(ROAD, {"db-b1": GOOD})))
    assert healthy(list(check.room(ROAD, {"db-b1": GOOD}, {"db-b1": OFFER})))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "db-b1"),
        (replace(GOOD, audit="half configured"), "db-b1: half configured"),
        (replace(GOOD, held=("haproxy",)), "db-b1: haproxy"),
        (replace(GOOD, sources=(("bookworm", "PGDG"),)), "db-b1: bookworm of PGDG"),
        (replace(GOOD, sources=(("stable", "Debian"),)), "db-b1: stable of Debian"),
        (replace(GOOD, sources=()), "db-b1: apt has read no archive"),
    ],
    ids=["silent", "broken", "held", "foreign", "stable", "unread"],
)
def test_packages_that_the_upgrade_cannot_follow_are_a_no_go(found: Found | None, said: str) -> None:
    wrong = [line for line in check.packages(ROAD, {"db-b1": found, "db-a1": GOOD}) if not line.ok]
    assert said in "; ".join(line.found for line in wrong)


@pytest.mark.parametrize(
    ("found", "offer", "said"),
    [
        (GOOD, "E: no Release file", "E: no Release file"),
        (replace(GOOD, free=100 << 20), OFFER, "100 MiB free on /"),
        (replace(GOOD, free_boot=20 << 20), OFFER, "20 MiB free on /boot"),
        (GOOD, replace(OFFER, removed=("glusterfs-server", "libdb5.3")), "db-b1: glusterfs-server"),
        (GOOD, replace(OFFER, removed=("postgresql-15",)), "db-b1: postgresql-15"),
        (GOOD, replace(OFFER, removed=("python3.11",)), "db-b1: python3.11"),
    ],
)
def test_a_host_without_room_or_that_would_lose_something_is_a_no_go(
    found: Found, offer: Offer | str, said: str
) -> None:
    wrong = [line for line in check.room(ROAD, {"db-b1": found}, {"db-b1": offer}) if not line.ok]
    assert len(wrong) == 1
    assert said in wrong[0].found
    assert wrong[0].action


def test_a_container_needs_no_room_for_a_kernel() -> None:
    tight = replace(GOOD, free_boot=1 << 20, kernel=False)
    assert healthy(list(check.room(ROAD, {"db-b1": tight}, {"db-b1": OFFER})))


@pytest.mark.parametrize(
    ("records", "good"),
    [
        (
            {"db-a1": {"repository": "a", "proven": 900_000}, "db-b1": {"repository": "b", "proven": 990_000}},
            [True, True],
        ),
        (
            {"db-a1": {"repository": "a", "proven": 700_000}, "db-b1": {"repository": "b", "proven": 990_000}},
            [False, True],
        ),
        ({"db-a1": {"repository": "a", "proven": 0}}, [False, False]),
        ({}, [False, False]),
    ],
)
def test_a_repository_that_was_not_proven_lately_is_a_no_go(
    lab: Inventory, records: dict[str, dict[str, Any]], good: list[bool]
) -> None:
    hosts = Hosts(lab)
    from siasops.remote import Result  # noqa: PLC0415

    hosts.when("*", "record.json", lambda: Result("x", 1, "", ""))
    for name, record in records.items():
        hosts.when(name, "record.json", lambda record=record: json.dumps(record))  # type: ignore[misc]
    found = list(check.restores(lab, hosts, now=1_000_000))  # type: ignore[arg-type]
    assert [line.ok for line in found] == good
    assert all(line.ok or f"--room {letter}" in line.action for line, letter in zip(found, "ab", strict=True))


@pytest.mark.parametrize(
    ("since", "found", "good"),
    [
        ([], ["15"], True),
        ([], ["17"], False),
        ([("postgres", "done")], ["17"], True),
        ([("postgres", "done")], ["15"], False),
        ([("postgres", "rolled back")], ["17"], False),
        ([("postgres", "rolled back")], ["15"], True),
        ([("release", "done")], ["17"], False),
    ],
)
def test_a_migration_after_the_upgrade_is_no_doing_of_its(
    lab: Inventory, monkeypatch: pytest.MonkeyPatch, since: list[tuple[Any, Any]], found: list[str], good: bool
) -> None:
    facts = {"from": "12", "to": "13", "postgresql": "15"}
    past = [
        State("1", "postgres", "lab", "before", {"to": "17"}, "", "done"),
        State("2", "debian", "lab", "", facts, ""),
    ]
    past += [State("3", kind, "lab", "", {"to": "17"}, "", status) for kind, status in since]
    monkeypatch.setattr(check.changes, "every", lambda _: past[::-1])
    assert check._major(lab, facts, found).ok is good


def test_the_calendar_is_asked_where_people_work(lab: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    assert due.due(lab, check.KIND, []).ok
    facts = {key: value for key, value in lab.facts.items() if key != "lab_bridge"}
    production = replace(lab, facts=facts | {"sias_environment": "production"})
    line = due.due(production, check.KIND, [])
    assert not line.ok
    assert "debian_upgrade" in line.found


def test_environments_are_those_that_the_roles_describe() -> None:
    described = {}
    for path in (ROOT / "roles").glob("*/tasks/*.yml"):
        for task in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
            included = task.get("ansible.builtin.include_role", {})
            if included.get("name") == "python_venv":
                facts = task["vars"]
                described[facts["python_venv_name"]] = (
                    tuple(facts.get("python_venv_sources", ())),
                    "python_venv_wheels" in facts,
                    facts["python_venv_lock"].rsplit("/", 1)[-1],
                )
    assert described == {one.name: (one.sources, one.built, one.lock.rsplit("/", 1)[-1]) for one in wheels.ENVIRONMENTS}
    assert all((ROOT / one.lock).is_file() for one in wheels.ENVIRONMENTS)


def test_wheels_are_resolved_for_the_python_to_come(lab: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def run(program: str, *arguments: str) -> dict[str, Any]:
        asked.append(arguments)
        return {"wheel": "/w.whl", "version": "1", "archive": f"/{len(asked)}.tar"}

    monkeypatch.setattr(wheels, "_run", run)
    assert wheels.resolve(lab, "3.13") == ["/1.tar", "/3.tar"]
    text = [" ".join(arguments) for arguments in asked]
    assert "--python 3.13 --source python-etcd --source ydiff" in text[0]
    assert text[2].endswith("--python 3.13 --wheel /w.whl")
