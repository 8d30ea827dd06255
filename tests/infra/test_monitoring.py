"""Prometheus sees the whole platform, knows every alert, and has nothing to say about a healthy lab."""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml

from siasops import inventory as facts
from siasops.inventory import ROOT, Host, Inventory
from tests.infra.conftest import Prometheus, Reach, reading, trust

RULE_FILES = sorted(p for p in (ROOT / "monitoring/alerts").glob("*.yml") if not p.stem.endswith("_test"))
# Words of PromQL that look like metric names.
WORDS = {
    *(
        "abs",
        "absent",
        "and",
        "avg",
        "avg_over_time",
        "by",
        "count",
        "for",
        "group_left",
        "histogram_quantile",
        "ignoring",
    ),
    *(
        "increase",
        "last_over_time",
        "le",
        "max",
        "max_over_time",
        "min",
        "min_over_time",
        "offset",
        "on",
        "or",
        "predict_linear",
        "rate",
        "sum",
        "time",
    ),
    *("timestamp", "unless", "vector"),
}
Value = TypeVar("Value")


WATCHERS = pytest.mark.parametrize("watcher", [host.name for host in facts.load().watchers()])


def eventually(question: Callable[[], Value], holds: Callable[[Value], bool], *, within: float) -> Value:
    """Ask until the answer holds, at most for `within` seconds; return the last answer."""
    deadline = time.monotonic() + within
    while True:
        answer = question()
        if holds(answer) or time.monotonic() > deadline:
            return answer
        time.sleep(1)


def alerts() -> list[dict[str, Any]]:
    """Every alert of the repository."""
    return [
        rule
        for path in RULE_FILES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def metric_names(expression: str) -> set[str]:
    """The metrics that an expression asks for."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)
    bare = re.sub(r"\b(?:by|on|ignoring|unless on|group_left)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"\b[a-z_][a-zA-Z0-9_]*", bare)) - WORDS


def expected_targets(lab: Inventory) -> set[tuple[str, str, str]]:
    """Job, room and host of every target that the inventory implies (probes of rooms have no host)."""
    by_group = {
        "node": "all",
        "postgres": "databases",
        "patroni": "databases",
        "etcd": "etcd",
        "room_guard": "witnesses",
        "room_guard_agents": "databases",
        "haproxy": "applications",
        "application": "applications",
        "ready": "applications",
        "prometheus": "monitoring",
        "alertmanager": "monitoring",
    }
    hosts = {
        (job, host.room, host.name)
        for job, group in by_group.items()
        for host in lab.hosts.values()
        if group == "all" or group in host.groups
    }
    own = lab.watchers()[0]
    return hosts | {("users", letter, "") for letter in lab.rooms} | {("blackbox", own.room, own.name)}


def test_every_component_of_every_host_is_watched_and_answers(lab: Inventory, prometheus: Prometheus) -> None:
    def targets() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = prometheus.api("targets", state="active")["activeTargets"]
        return found

    found = eventually(targets, lambda all_: all(t["health"] == "up" for t in all_), within=75)
    silent = {t["scrapeUrl"]: t["lastError"] for t in found if t["health"] != "up"}
    assert silent == {}
    seen = {(t["labels"]["job"], t["labels"]["room"], t["labels"].get("host", "")) for t in found}
    assert {target for target in seen if target[0] != "certificates"} == expected_targets(lab)


def test_no_figure_travels_in_the_clear(prometheus: Prometheus) -> None:
    targets = prometheus.api("targets", state="active")["activeTargets"]
    plain = {t["scrapeUrl"] for t in targets if not t["scrapeUrl"].startswith("https://")}
    assert all(re.match(r"http://127\.0\.0\.1:\d+/", url) for url in plain), plain


def test_every_probe_succeeds(prometheus: Prometheus) -> None:
    failing = eventually(lambda: prometheus.query("probe_success == 0"), lambda found: not found, within=75)
    assert [sample["metric"]["instance"] for sample in failing] == []


def test_prometheus_evaluates_every_alert_of_the_repository(prometheus: Prometheus) -> None:
    loaded = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
    assert sorted(rule["name"] for rule in loaded) == sorted(rule["alert"] for rule in alerts())
    assert [rule["name"] for rule in loaded if rule["health"] == "err"] == []


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in alerts()])
def test_every_figure_that_an_alert_asks_for_is_one_that_somebody_tells(
    rule: dict[str, Any], prometheus: Prometheus
) -> None:
    asked = metric_names(rule["expr"])
    assert asked, f"{rule['expr']} asks for nothing"
    known = set(prometheus.api("label/__name__/values"))
    # What is told with the first drill, the first unfinished change, and the first look at documents, an hour after a deployment;
    # the unit tests of who tells them hold their names.
    told_later = {name for name in asked if name.startswith(("sias_drill_", "sias_change_", "sias_scrub_"))}
    assert asked - told_later <= known, f"nobody tells {sorted(asked - known)}"


def test_the_page_of_the_control_room_is_served_and_asks_for_figures_that_somebody_tells(
    prometheus: Prometheus,
) -> None:
    page = prometheus.client.get("/consoles/salle.html")
    assert page.status_code == httpx.codes.OK
    assert "Salle de contrôle" in page.text
    block = re.search(r'id="questions">(.*?)</script>', page.text, re.DOTALL)
    assert block
    questions: dict[str, str] = json.loads(block.group(1))
    # What the controller tells about changes, drills and load tests comes with the first of them.
    told_later = {"change", "done", "drills", "drilled", "load", "loaded"}
    known = set(prometheus.api("label/__name__/values"))
    for name in questions.keys() - told_later:
        assert metric_names(questions[name]) - {"ALERTS"} <= known, name
    for name in ("served", "primary", "sync", "lag", "requests", "backup", "quorum"):
        assert prometheus.query(questions[name]), f"{name} finds nothing on a healthy lab"


DASHBOARDS = sorted((ROOT / "monitoring" / "dashboards").glob("*.json"))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_every_panel_of_a_dashboard_asks_for_figures_that_somebody_tells(path: Path, prometheus: Prometheus) -> None:
    known = set(prometheus.api("label/__name__/values"))
    for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            assert metric_names(target["expr"]) <= known, f"{panel['title']}: {target['expr']}"
            # Prometheus refuses what it cannot parse.
            prometheus.query(target["expr"])


def test_a_healthy_lab_raises_no_alert(prometheus: Prometheus) -> None:
    def firing() -> list[str]:
        found = prometheus.api("alerts")["alerts"]
        return sorted(alert["annotations"]["summary"] for alert in found if alert["state"] == "firing")

    # A deployment that has just ended may have restarted something that is still being noticed as back.
    assert eventually(firing, lambda found: not found, within=150) == []


def alertmanager(lab: Inventory, host: Host) -> httpx.Client:
    return httpx.Client(
        base_url=f"https://{host.address}:{lab.ports['alertmanager']}/api/v2",
        verify=trust(lab, identity=False),
        auth=("operateur", lab.secrets()["prometheus_password"]),
    )


@WATCHERS
def test_every_alertmanager_takes_what_each_prometheus_raises(lab: Inventory, watcher: str) -> None:
    with reading(lab, lab.host(watcher)) as prometheus:
        active = prometheus.api("alertmanagers")["activeAlertmanagers"]
        wanted = {f"https://{host.name}:{lab.ports['alertmanager']}/api/v2/alerts" for host in lab.watchers()}
        assert {manager["url"] for manager in active} == wanted
        assert prometheus.query("prometheus_notifications_dropped_total > 0") == []


@WATCHERS
def test_every_prometheus_sees_everything(lab: Inventory, prometheus: Prometheus, watcher: str) -> None:
    """What it watches is what the witness's watches; only the prober on loopback is its own."""
    with reading(lab, lab.host(watcher)) as own:

        def seen(place: Prometheus) -> set[tuple[str, str]]:
            targets = place.api("targets", state="active")["activeTargets"]
            return {(t["labels"]["job"], t["labels"]["instance"]) for t in targets if t["labels"]["job"] != "blackbox"}

        def silent() -> list[str]:
            targets = own.api("targets", state="active")["activeTargets"]
            return [f"{t['scrapeUrl']}: {t['lastError']}" for t in targets if t["health"] != "up"]

        assert seen(own) == seen(prometheus)
        assert eventually(silent, lambda found: not found, within=75) == []


@WATCHERS
def test_alertmanagers_know_each_other(lab: Inventory, watcher: str) -> None:
    with alertmanager(lab, lab.host(watcher)) as client:
        status = client.get("/status").raise_for_status().json()
    assert status["config"]["original"].count("receiver: operators") == 1
    assert status["cluster"]["status"] == "ready"
    told = {peer["address"] for peer in status["cluster"]["peers"]}
    assert told == {f"{host.address}:{lab.ports['alertmanager_peers']}" for host in lab.watchers()}


def test_what_is_silenced_at_one_alertmanager_is_silent_at_all(lab: Inventory) -> None:
    now = dt.datetime.now(dt.UTC)
    body = {
        "matchers": [{"name": "alertname", "value": "NoSuchAlert", "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + dt.timedelta(minutes=5)).isoformat(),
        "createdBy": "test",
        "comment": "infrastructure test",
    }
    first, *others = lab.watchers()
    with alertmanager(lab, first) as client:
        made = client.post("/silences", json=body).raise_for_status().json()["silenceID"]
        try:
            for host in others:
                with alertmanager(lab, host) as peer:
                    found = eventually(
                        lambda peer=peer: peer.get(f"/silence/{made}").status_code, lambda code: code == 200, within=30
                    )  # type: ignore[misc]
                    assert found == httpx.codes.OK, f"{host.name} does not know of it"
        finally:
            client.delete(f"/silence/{made}").raise_for_status()


@WATCHERS
@pytest.mark.parametrize("service", ["prometheus", "alertmanager"])
def test_nobody_reads_without_the_password(lab: Inventory, service: str, watcher: str) -> None:
    url = f"https://{lab.host(watcher).address}:{lab.ports[service]}/api/v2/status"
    for auth in (None, ("operateur", "mauvais")):
        page = url.replace("api/v2/status", "consoles/salle.html")
        assert httpx.get(page, verify=trust(lab, identity=False), auth=auth).status_code == httpx.codes.UNAUTHORIZED
        assert httpx.get(url, verify=trust(lab, identity=False), auth=auth).status_code == httpx.codes.UNAUTHORIZED


@WATCHERS
def test_the_watchers_leave_a_host_its_memory(lab: Inventory, on: Reach, watcher: str) -> None:
    units = ["prometheus", "prometheus-alertmanager", "prometheus-blackbox-exporter", "prometheus-node-exporter"]
    command = f"systemctl show --property MemoryCurrent --value {' '.join(units)}"
    used = [int(value) for value in on(watcher).check_output(command).split()]
    assert len(used) == len(units)
    share = 0.5 if lab.host(watcher).room == "w" else 0.3
    memory = lab.host(watcher).memory_mb
    assert sum(used) / 2**20 < memory * share, f"{sum(used) / 2**20:.0f} MiB of {memory}"


def test_the_runbook_of_every_alert_that_prometheus_knows_is_at_hand(prometheus: Prometheus) -> None:
    loaded = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
    missing = [rule["name"] for rule in loaded if not Path(ROOT / rule["annotations"]["runbook"]).is_file()]
    assert missing == []
