"""What Prometheus, Alertmanager and the exporters are told, for both laboratories and both Debians, without a machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml

from siasops import inventory as facts
from siasops import pki
from siasops.inventory import ROOT

MONITORING = ["sias-rules.yml.j2", "prometheus.yml.j2", "blackbox.yml.j2", "alertmanager.yml.j2", "web.yml.j2"]
PEERS = "alertmanager-peers.yml.j2"
UNITS = ["prometheus.service.j2", "prometheus-alertmanager.service.j2", "prometheus-blackbox-exporter.service.j2"]
EXPORTERS = [
    "exporter-web.yml.j2",
    "postgres-queries.yml.j2",
    "prometheus-node-exporter.service.j2",
    "prometheus-postgres-exporter.service.j2",
    "sias-metrics.service.j2",
    "sias-queues.service.j2",
]
# One host of each kind: every render costs a second per host.
SAMPLE = "db-a1:app-b1:witness"
SECRET = "correct horse battery staple"
EMAIL = {
    "monitoring_email_to": ["astreinte@example.fr"],
    "monitoring_email_from": "sias@example.fr",
    "monitoring_email_smarthost": "smtp.example.fr:587",
    "monitoring_email_username": "sias",
    "monitoring_email_password": "un 'mot' de \"passe\"",
}


def render(to: Path, environment: str, hosts: str, what: list[list[str]], **variables: Any) -> Path:
    """Render templates for some hosts of an environment; return the folder that holds one folder per host."""
    arguments = {
        "render": what,
        "render_to": str(to),
        "render_hosts": hosts,
        "sias_secrets": {"prometheus_password": SECRET},
        "monitoring_rules_folder": str(ROOT / "monitoring/alerts"),
        **variables,
    }
    program = str(Path(sys.executable).parent / "ansible-playbook")
    done = subprocess.run(
        [program, "-i", f"inventory/{environment}.yml", "tests/templates/render.yml", "-e", json.dumps(arguments)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_FILTER_PLUGINS": str(ROOT / "roles/monitoring/filter_plugins")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return to


@pytest.fixture(scope="module", params=["lab", "lab-full"])
def environment(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def rendered(environment: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(environment)
    what = [["monitoring", name] for name in [*MONITORING, PEERS, *UNITS]]
    return render(folder, environment, "monitoring", what) / "witness"


@pytest.fixture(scope="module")
def promtool() -> str:
    beside = ROOT / "var/tools/promtool"
    found = str(beside) if beside.is_file() else shutil.which("promtool")
    assert found, "promtool is missing: `make var/tools/promtool` fetches it"
    return found


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_promtool_accepts_the_configuration_and_the_rules(rendered: Path, promtool: str) -> None:
    for check in (["config", "--syntax-only", "prometheus.yml"], ["rules", "sias-rules.yml"]):
        done = subprocess.run([promtool, "check", *check], cwd=rendered, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_host_is_watched_under_its_room_and_role(rendered: Path, environment: str) -> None:
    inventory = facts.load(facts.resolve(environment))
    jobs = {job["job_name"]: job for job in load(rendered / "prometheus.yml")["scrape_configs"]}
    nodes = {entry["labels"]["host"]: entry for entry in jobs["node"]["static_configs"]}
    assert set(nodes) == set(inventory.hosts)
    for host in inventory.hosts.values():
        labels = nodes[host.name]["labels"]
        role = (
            "database" if "databases" in host.groups else "application" if "applications" in host.groups else "witness"
        )
        assert labels == {"host": host.name, "room": host.room, "role": role}
        assert nodes[host.name]["targets"] == [f"{host.name}:{inventory.ports['node_exporter']}"]
    for job, group in (
        ("postgres", "databases"),
        ("patroni", "databases"),
        ("etcd", "etcd"),
        ("haproxy", "applications"),
    ):
        watched = {entry["labels"]["host"] for entry in jobs[job]["static_configs"]}
        assert watched == {host.name for host in inventory.group(group)}, job


def test_the_address_of_each_room_is_looked_at_as_users_do(rendered: Path, environment: str) -> None:
    inventory = facts.load(facts.resolve(environment))
    jobs = {job["job_name"]: job for job in load(rendered / "prometheus.yml")["scrape_configs"]}
    looked_at = {entry["labels"]["room"]: entry["targets"] for entry in jobs["users"]["static_configs"]}
    assert looked_at == {
        letter: [f"https://{room.address}:443/healthz/ready"] for letter, room in inventory.rooms.items()
    }
    assert "cert_file" not in load(rendered / "blackbox.yml")["modules"]["users"]["http"]["tls_config"]


def test_only_loopback_is_read_without_tls(rendered: Path) -> None:
    for job in load(rendered / "prometheus.yml")["scrape_configs"]:
        probe = job.get("metrics_path") == "/probe"
        local = all(t.startswith("127.0.0.1:") for entry in job["static_configs"] for t in entry["targets"])
        assert probe or local or job["scheme"] == "https", job["job_name"]


def test_the_witness_keeps_memory_for_its_voter_and_its_brick(rendered: Path, environment: str) -> None:
    memory = facts.load(facts.resolve(environment)).host("witness").memory_mb
    unit = (rendered / "prometheus.service").read_text(encoding="utf-8")
    limit = int(unit.split("MemoryMax=")[1].split("M")[0])
    soft = int(unit.split("GOMEMLIMIT=")[1].split("MiB")[0])
    assert 128 <= soft < limit <= memory / 2


def test_a_host_in_a_room_keeps_most_of_its_memory_for_users(rendered: Path, environment: str) -> None:
    for host in facts.load(facts.resolve(environment)).watchers()[1:]:
        unit = (rendered.parent / host.name / "prometheus.service").read_text(encoding="utf-8")
        assert int(unit.split("MemoryMax=")[1].split("M")[0]) <= host.memory_mb / 4


def test_every_prometheus_watches_the_same_and_tells_every_alertmanager(rendered: Path, environment: str) -> None:
    inventory = facts.load(facts.resolve(environment))
    watchers = {host.name for host in inventory.watchers()}
    assert {inventory.host(name).room for name in watchers} == {*inventory.rooms, "w"}
    told = []
    for name in watchers:
        configuration = load(rendered.parent / name / "prometheus.yml")
        (entry,) = configuration["alerting"]["alertmanagers"][0]["static_configs"]
        assert set(entry["targets"]) == {f"{other}:{inventory.ports['alertmanager']}" for other in watchers}
        for job in configuration["scrape_configs"]:
            if job["job_name"] == "blackbox":  # on loopback: each knows its own
                assert [one["labels"].pop("host") for one in job["static_configs"]] == [name]
                job["static_configs"][0]["labels"].pop("room")
                job["static_configs"][0]["labels"].pop("role")
        told.append(configuration)
    assert all(one == told[0] for one in told), "two of them would not raise one and the same alert"


def test_alertmanagers_find_each_other_and_let_nobody_else_in(rendered: Path, environment: str) -> None:
    inventory = facts.load(facts.resolve(environment))
    port = inventory.ports["alertmanager_peers"]
    for host in inventory.watchers():
        unit = (rendered.parent / host.name / "prometheus-alertmanager.service").read_text(encoding="utf-8")
        peers = {other.name for other in inventory.watchers() if other is not host}
        assert set(re.findall(r"--cluster[.]peer=(\S+)", unit)) == {f"{name}:{port}" for name in peers}
        # An application host carries a room's address as well, which moves.
        assert f"--cluster.advertise-address={host.address}:{port}" in unit
        link = load(rendered.parent / host.name / "alertmanager-peers.yml")
        assert link["tls_server_config"]["client_auth_type"] == "RequireAndVerifyClientCert"
        assert link["tls_client_config"]["ca_file"] == link["tls_server_config"]["client_ca_file"]


def test_every_alert_leads_to_the_page_of_its_prometheus(rendered: Path) -> None:
    rules = [rule for group in load(rendered / "sias-rules.yml")["groups"] for rule in group["rules"]]
    assert {rule["annotations"]["dashboard"] for rule in rules} == {"{{ $externalURL }}/consoles/salle.html"}


def test_without_an_address_alerts_go_nowhere_and_say_so(rendered: Path) -> None:
    configuration = load(rendered / "alertmanager.yml")
    assert configuration["receivers"] == [{"name": "operators"}]
    assert "global" not in configuration


@pytest.fixture(scope="module")
def with_email(tmp_path_factory: pytest.TempPathFactory) -> Path:
    what = [["monitoring", "alertmanager.yml.j2"], ["monitoring", "web.yml.j2"]]
    return render(tmp_path_factory.mktemp("email"), "lab", "monitoring", what, **EMAIL) / "witness"


def test_an_address_in_the_inventory_makes_alerts_travel(with_email: Path) -> None:
    configuration = load(with_email / "alertmanager.yml")
    assert configuration["receivers"] == [
        {"name": "operators", "email_configs": [{"to": "astreinte@example.fr", "send_resolved": True}]}
    ]
    assert configuration["global"] == {
        "smtp_from": "sias@example.fr",
        "smtp_smarthost": "smtp.example.fr:587",
        "smtp_require_tls": True,
        "smtp_auth_username": "sias",
        "smtp_auth_password": EMAIL["monitoring_email_password"],
    }


def test_the_password_is_hashed_and_the_hash_is_stable(rendered: Path, environment: str, with_email: Path) -> None:
    text = (rendered / "web.yml").read_text(encoding="utf-8")
    assert SECRET not in text
    (hashed,) = load(rendered / "web.yml")["basic_auth_users"].values()
    assert bcrypt.checkpw(SECRET.encode(), hashed.encode())
    assert not bcrypt.checkpw(b"autre chose", hashed.encode())
    # Another run writes the same file; another environment has another salt.
    assert ((with_email / "web.yml").read_text(encoding="utf-8") == text) == (environment == "lab")


@pytest.fixture(scope="module", params=["12", "13"])
def debian(request: pytest.FixtureRequest) -> str:
    release: str = request.param
    return release


@pytest.fixture(scope="module")
def exporters(debian: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    known = {"distribution": "Debian", "distribution_major_version": debian}
    what = [["exporters", name] for name in EXPORTERS]
    return render(tmp_path_factory.mktemp("exporters"), "lab", SAMPLE, what, ansible_facts=known)


def test_exporters_ask_their_client_for_a_certificate_on_both_debians(exporters: Path, debian: str) -> None:
    inventory = facts.load(facts.resolve("lab"))
    for host in map(inventory.host, SAMPLE.split(":")):
        folder = exporters / host.name
        assert (
            load(folder / "exporter-web.yml")["tls_server_config"]["client_auth_type"] == "RequireAndVerifyClientCert"
        )
        metrics = (folder / "sias-metrics.service").read_text(encoding="utf-8")
        assert ("--stanza" in metrics) == ("repositories" in host.groups)
        assert ("--brick" in metrics) == ("bricks" in host.groups)
        assert ("--directory dc=sias,dc=internal" in metrics) == ("directories" in host.groups)
        assert ("--mount" in metrics) == ("applications" in host.groups)
        assert ("--passes /var/lib/sias-worker/" in metrics) == ("applications" in host.groups)
        assert f"--pools {inventory.ports['pgbouncer']}\n" in (folder / "sias-queues.service").read_text(
            encoding="utf-8"
        )
        names = next(subject.names for subject in pki.subjects(inventory) if subject.name == host.name)
        assert metrics.split("--covers ")[1].splitlines()[0].split() == list(names)
        for unit in ("prometheus-node-exporter", "prometheus-postgres-exporter"):
            text = (folder / f"{unit}.service").read_text(encoding="utf-8")
            assert "--web.config.file=/etc/sias/exporter-web.yml" in text
    exporter = (exporters / "db-a1" / "prometheus-postgres-exporter.service").read_text(encoding="utf-8")
    assert ("--no-collector.stat_bgwriter" in exporter) == (debian == "13")


def test_every_figure_of_postgresql_that_an_alert_asks_for_is_queried(exporters: Path) -> None:
    told = {
        f"{prefix}_{column}"
        for prefix, query in load(exporters / "db-a1" / "postgres-queries.yml").items()
        for metric in query["metrics"]
        for column in metric
    }
    asked = {
        word
        for path in (ROOT / "monitoring/alerts").glob("*.yml")
        if not path.stem.endswith("_test")
        for word in re.findall(r"\bsias_pg_\w+", path.read_text(encoding="utf-8"))
    }
    assert asked
    assert asked <= told
