"""Alerts against the rest of the repository: runbooks, tests, objectives, and the names of their own platform."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from siasops.cli import sias
from siasops.inventory import ROOT, Inventory

FOLDER = ROOT / "monitoring" / "alerts"
RUNBOOKS = ROOT / "runbooks" / "alerts"
RULE_FILES = sorted(p for p in FOLDER.glob("*.yml") if not p.stem.endswith("_test"))
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
SCOPES = {"users", "data", "service", "platform"}
"""What an alert is about. Planned work silences `service` alone: what it explains, on the hosts that it is done on."""
DURATION = re.compile(r"^(\d+)(s|m|h)$")
UNITS = {"s": 1, "m": 60, "h": 3600}


@cache
def rules() -> list[tuple[Path, dict[str, Any]]]:
    """Every alert with the file it stands in."""
    return [
        (path, rule)
        for path in RULE_FILES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


ALERTS = pytest.mark.parametrize(("path", "rule"), rules(), ids=[rule["alert"] for _, rule in rules()])


def objective(inventory: Inventory, name: str) -> float:
    """The value of an objective named with dots, such as write_gap.room_loss."""
    value: Any = inventory.objectives
    for key in name.split("."):
        value = value[key]
    return float(value)


@ALERTS
class TestAlert:
    def test_it_says_what_is_wrong_and_how_grave_it_is(self, path: Path, rule: dict[str, Any]) -> None:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["labels"]["scope"] in SCOPES
        assert rule["annotations"]["summary"].rstrip().endswith((".", "?")), "a summary is a sentence"
        assert len(rule["annotations"]["description"].split()) >= 10, "a description explains"

    def test_its_runbook_exists_and_is_complete(self, path: Path, rule: dict[str, Any]) -> None:
        assert rule["annotations"]["runbook"] == f"runbooks/alerts/{rule['alert']}.md"
        text = (RUNBOOKS / f"{rule['alert']}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {rule['alert']}\n")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
        bodies = re.split(r"^## .*$", text, flags=re.MULTILINE)[1:]
        assert all(len(body.split()) >= 4 for body in bodies), "a section says nothing"
        assert "```sh\n" in bodies[2], "Diagnosis shows no command"
        assert not re.search(r"TODO|TBD|FIXME|lorem", text)

    def test_it_is_seen_firing_and_silent_in_the_test_beside_it(self, path: Path, rule: dict[str, Any]) -> None:
        test = path.with_name(f"{path.stem}_test.yml")
        cases = yaml.safe_load(test.read_text(encoding="utf-8"))["tests"]
        checks = [check for case in cases for check in case["promql_expr_test"]]
        name = f'alertname="{rule["alert"]}"'
        fires = [
            check
            for check in checks
            if "ALERTS" in check["expr"] and any(name in sample["labels"] for sample in check["exp_samples"])
        ]
        assert fires, f"{test.name} never expects {rule['alert']} to fire"
        assert [c for c in checks if c["expr"].strip() == "ALERTS" and not c["exp_samples"]] or [
            c for c in checks if name in c["expr"] and not c["exp_samples"]
        ], f"{test.name} never expects {rule['alert']} to be silent"


@pytest.mark.parametrize(
    "rule",
    [pytest.param(rule, id=rule["alert"]) for _, rule in rules() if "objective" in rule["annotations"]],
)
def test_the_objective_that_an_alert_quotes_is_the_one_of_the_inventory(
    rule: dict[str, Any], inventory: Inventory
) -> None:
    name = rule["annotations"]["objective"]
    thresholds = {float(number) for number in re.findall(r"[<>]=?\s*(\d+(?:\.\d+)?)", rule["expr"])}
    held, unit = DURATION.fullmatch(rule.get("for", "0s")).groups()  # type: ignore[union-attr]
    value = objective(inventory, name)
    assert value in thresholds | {float(held) * UNITS[unit]}, f"{rule['alert']} does not use {name} = {value:g}"


def test_every_name_of_an_alert_is_used_once() -> None:
    names = [rule["alert"] for _, rule in rules()]
    assert sorted(names) == sorted(set(names))


def test_every_runbook_belongs_to_an_alert() -> None:
    assert {p.stem for p in RUNBOOKS.glob("*.md")} == {rule["alert"] for _, rule in rules()}


def test_links_between_runbooks_lead_somewhere() -> None:
    for page in RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (RUNBOOKS / target).is_file(), f"{page.name} links to {target}"


def test_alerts_that_silence_others_name_alerts_that_exist() -> None:
    text = (ROOT / "roles/monitoring/templates/alertmanager.yml.j2").read_text(encoding="utf-8")
    named = {
        name
        for matcher in re.findall(r'alertname =~? "?([\w|]+)"?', text)
        for name in matcher.split("|")
    }  # fmt: skip
    assert named
    assert named <= {rule["alert"] for _, rule in rules()}


def test_no_alert_that_planned_work_silences_holds_back_one_that_it_must_not() -> None:
    # Alertmanager goes on inhibiting by an alert that is silenced.
    scopes = {rule["alert"]: rule["labels"]["scope"] for _, rule in rules()}
    text = (ROOT / "roles/monitoring/templates/alertmanager.yml.j2").read_text(encoding="utf-8")
    pairs = re.findall(
        r"- source_matchers: \[alertname =~? ([^\]]+)\]\n\s+target_matchers: \[alertname =~? ([^\]]+)\]", text
    )
    assert len(pairs) == text.count("source_matchers")
    for source, target in ([side.strip('"').split("|") for side in pair] for pair in pairs):
        if any(scopes[name] == "service" for name in source):
            assert {scopes[name] for name in target} == {"service"}, source


@pytest.mark.parametrize("file", ["users", "budget", "backup"])
def test_what_users_feel_and_what_would_be_lost_is_heard_during_planned_work(file: str) -> None:
    # ApplicationNotReady and ProxyHasNoServer are of one host, whose users another one serves.
    of_one_host = {"ApplicationNotReady", "ProxyHasNoServer"}
    found = {
        rule["labels"]["scope"] for path, rule in rules() if path.stem == file and rule["alert"] not in of_one_host
    }
    assert found == {"data" if file == "backup" else "users"}


def sias_commands() -> list[tuple[str, str]]:
    """Every `sias …` that a runbook tells to type, with the page."""
    found = []
    for page in sorted(RUNBOOKS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        lines = re.findall(r"^sias .*$", text, re.MULTILINE) + re.findall(r"`(sias [^`]*)`", text)
        found += [(page.stem, line.split("#")[0].strip()) for line in lines]
    return sorted({(line, page) for page, line in found})


@pytest.mark.parametrize(("line", "page"), sias_commands())
def test_the_command_that_a_runbook_names_exists(line: str, page: str) -> None:
    # A placeholder such as <other room> is one word.
    words = shlex.split(re.sub(r"<[^>]*>", "PLACEHOLDER", line))[1:]
    command: click.Command = sias
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"{page}: sias has no {name!r}"
        command = found
    options = {opt for parameter in command.params for opt in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [w for w in words if w.startswith("--") and w not in options | {"--help"}]
    assert not unknown, f"{page}: {line!r}: no option {unknown}"


def test_playbooks_and_tags_that_runbooks_name_exist() -> None:
    site = (ROOT / "playbooks" / "site.yml").read_text(encoding="utf-8")
    tags = set(re.findall(r"tags: \[?([\w, ]+)\]?", site))
    known = {tag.strip() for group in tags for tag in group.split(",")}
    for page in RUNBOOKS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for playbook, asked in re.findall(r"ansible-playbook playbooks/(\S+\.yml)(?: --tags ([\w,]+))?", text):
            assert (ROOT / "playbooks" / playbook).is_file(), f"{page.name}: no {playbook}"
            assert set(filter(None, asked.split(","))) <= known, f"{page.name}: tags {asked}"


@ALERTS
def test_an_alert_asks_for_figures_by_a_job_that_prometheus_reads(path: Path, rule: dict[str, Any]) -> None:
    template = (ROOT / "roles/monitoring/templates/prometheus.yml.j2").read_text(encoding="utf-8")
    jobs = set(re.findall(r"job_name: (\w+)", template))
    named = {job for value in re.findall(r'job[=!]~?"([^"]+)"', rule["expr"]) for job in value.split("|")}
    assert named <= jobs


def test_burn_rates_are_of_the_share_of_failures_that_the_inventory_allows(inventory: Inventory) -> None:
    rates = [rule["expr"] for _, rule in rules() if rule["alert"].startswith("ErrorBudget")]
    assert rates
    for expression in rates:
        assert {float(x) for x in re.findall(r"\* (0\.\d+)", expression)} == {inventory.facts["sias_load"]["failed"]}


@pytest.mark.parametrize("path", sorted((ROOT / "monitoring" / "dashboards").glob("*.json")), ids=lambda p: p.stem)
def test_a_dashboard_can_be_imported_and_explains_each_panel(path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    assert board["uid"] == f"sias-{path.stem}"
    assert len(board["uid"]) <= 40, "Grafana refuses longer ones"
    assert [p["id"] for p in board["panels"]] == list(range(1, len(board["panels"]) + 1))
    for panel in board["panels"]:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == "${source}", "a dashboard works with anybody's Prometheus"
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
    assert len(set(places)) == len(places), "two panels lie on each other"
