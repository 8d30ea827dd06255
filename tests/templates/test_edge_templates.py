"""Where users, reads, writes and documents are led, for both laboratories, without a machine."""

from __future__ import annotations

import base64
import configparser
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from siasops import inventory as facts
from siasops.cluster import address
from siasops.inventory import ROOT, Inventory

TEMPLATES = [
    *(["haproxy", "haproxy.cfg.j2"], ["keepalived", "keepalived.conf.j2"], ["keepalived", "room-address.j2"]),
    *(["pgbouncer", "pgbouncer.ini.j2"], ["pgbouncer", "hba.conf.j2"], ["pgbouncer", "userlist.txt.j2"]),
    *(["documents", "sias-documents.service.j2"], ["documents", "glusterd.vol.j2"]),
    *(["application", "app.env.j2"], ["application", "sias-manage.j2"]),
    *(["application", "sias-web.service.j2"], ["application", "sias-worker.service.j2"]),
]
RELEASE = {"stdout": json.dumps({"version": "1.2.3+gabc", "wheel": "/nowhere.whl", "changed": False})}


def secrets() -> dict[str, str]:
    listed = yaml.safe_load((ROOT / "roles/preflight/defaults/main.yml").read_text(encoding="utf-8"))
    return {key: f"value of {key}" for key in listed["preflight_secrets"]}


@dataclass
class Rendered:
    """The files of one environment, by application host."""

    inventory: Inventory
    folder: Path

    def text(self, host: str, name: str) -> str:
        return (self.folder / host / name).read_text(encoding="utf-8")

    @property
    def hosts(self) -> list[str]:
        return [host.name for host in self.inventory.group("applications")]

    def room(self, host: str) -> str:
        return self.inventory.hosts[host].room


def render(to: Path, environment: str, **variables: Any) -> Rendered:
    arguments = {
        "render": TEMPLATES,
        "render_to": str(to),
        "render_hosts": "applications",
        "sias_secrets": secrets(),
        "_keepalived_interface": "eth0",
        "__application_wheel": RELEASE,
        "ansible_facts": {"distribution": "Debian", "distribution_major_version": "12"},
        **variables,
    }
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "ansible-playbook"), "-i", f"inventory/{environment}.yml"),
            *("tests/templates/render.yml", "-e", json.dumps(arguments)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Rendered(facts.load(facts.resolve(environment)), to)


@pytest.fixture(scope="module", params=["lab", "lab-full"])
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    environment: str = request.param
    return render(tmp_path_factory.mktemp(environment), environment)


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    return render(tmp_path_factory.mktemp("production"), "production.example")


def sections(configuration: str) -> dict[str, list[str]]:
    """Lines of each HAProxy section by `kind name`."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in configuration.splitlines():
        if match := re.match(r"(global|defaults|frontend|backend)\b ?(\S*)", line):
            lines = found.setdefault(f"{match[1]} {match[2]}".strip(), [])
        elif line.strip() and not line.lstrip().startswith("#"):
            lines.append(line.strip())
    return found


def servers(section: list[str]) -> Iterator[tuple[str, str]]:
    """Name of each server, and everything that holds for it, defaults included."""
    common = " ".join(line for line in section if line.startswith("default-server "))
    for line in section:
        if line.startswith("server "):
            yield line.split()[1], f"{line} {common}"


def haproxy(rendered: Rendered, host: str) -> dict[str, list[str]]:
    return sections(rendered.text(host, "haproxy.cfg"))


def test_users_are_led_to_the_own_application_then_the_own_room_then_the_other(rendered: Rendered) -> None:
    for host in rendered.hosts:
        for backend in ("web_ready", "web_live"):
            section = haproxy(rendered, host)[f"backend {backend}"]
            names = [name for name, line in servers(section) if "backup" not in line]
            assert "balance first" in section
            assert names[0] == host
            assert sorted(names) == sorted(rendered.hosts)
            other = [rendered.room(name) != rendered.room(host) for name in names]
            assert other == sorted(other), f"{host}: {names}"


def test_requests_that_wait_when_nobody_is_ready_any_more_go_to_whoever_lives(rendered: Rendered) -> None:
    for host in rendered.hosts:
        found = haproxy(rendered, host)
        (line,) = [line for _, line in servers(found["backend web_ready"]) if "backup" in line]
        # No check of its own, and no place that it could be out of: those are the applications', behind it.
        assert line.split(" maxconn 0 ")[0] == "server live abns@sias-live"
        assert " check" not in line.split("inter")[0]
        assert found["frontend public_https"][-1] == "default_backend web_ready"
        assert found["frontend live"][-1] == "default_backend web_live"
        assert not any("backup" in line for _, line in servers(found["backend web_live"]))


def test_reads_prefer_replicas_of_the_own_room_and_end_at_the_primary(rendered: Rendered) -> None:
    databases = {host.name: host.room for host in rendered.inventory.group("databases")}
    for host in rendered.hosts:
        found = haproxy(rendered, host)
        standing_by = {name: " backup " in f"{line} " for name, line in servers(found["backend pg_replicas"])}
        assert standing_by == {name: room != rendered.room(host) for name, room in databases.items()}
        assert any("/replica?lag=" in line for line in found["backend pg_replicas"])
        assert "use_backend pg_primary if { nbsrv(pg_replicas) eq 0 }" in found["frontend pg_read"]


def test_writes_go_to_whoever_patroni_calls_primary_and_old_sessions_end(rendered: Rendered) -> None:
    databases = {h.name for h in rendered.inventory.group("databases")}
    for host in rendered.hosts:
        found = haproxy(rendered, host)
        asked, led = found["backend patroni_primary"], found["backend pg_primary"]
        assert "option httpchk GET /primary" in asked
        # Who is followed is the script's to see, by the timeline (test_edge.py in tests/infra has two primaries).
        assert any("""expect string '"role": "primary"' on-success "timeline %[""" in line for line in asked)
        assert "lua-load /etc/haproxy/primary.lua" in found["global"]
        assert {n for n, _ in servers(asked)} == {n for n, _ in servers(led)} == databases
        assert all(f"track patroni_primary/{n} " in line for n, line in servers(led))
        assert all("on-marked-down shutdown-sessions" in line for _, line in servers(led))


def test_every_other_machine_is_checked_by_its_certificate(rendered: Rendered) -> None:
    for host in rendered.hosts:
        for title, section in haproxy(rendered, host).items():
            for name, line in servers(section):
                if "unix@" in line or "abns@" in line or " track " in line:
                    continue
                assert "verify required" in line, f"{host}: {title}"
                assert f"verifyhost {name}" in line, f"{host}: {title}"
                assert "ca-file /etc/sias/pki/ca.crt" in line
                assert "crt /etc/sias/pki/host.pem" in line


def test_ports_of_other_machines_want_a_client_certificate(rendered: Rendered) -> None:
    for host in rendered.hosts:
        found = haproxy(rendered, host)
        for title in ("frontend internal", "frontend metrics"):
            (bind,) = [line for line in found[title] if line.startswith("bind ")]
            assert "ca-file /etc/sias/pki/ca.crt verify required" in bind
            assert bind.split()[1].startswith(rendered.inventory.hosts[host].address)
        for title in ("frontend pg_write", "frontend pg_read", "frontend state"):
            assert all(line.split()[1].startswith("127.0.0.1:") for line in found[title] if line.startswith("bind "))


def test_a_request_is_handed_to_another_host_once(rendered: Rendered) -> None:
    for host in rendered.hosts:
        found = haproxy(rendered, host)
        assert "default_backend web_own" in found["frontend internal"]
        assert not any(line.startswith("use_backend") for line in found["frontend internal"])
        assert [line.split()[2] for line in found["backend web_own"] if line.startswith("server ")] == [
            "unix@/run/sias-web/web.sock"
        ]


def test_a_request_that_may_have_been_executed_is_not_sent_twice(rendered: Rendered) -> None:
    for host in rendered.hosts:
        found = haproxy(rendered, host)
        for backend in ("web_ready", "web_live"):
            (retries,) = [line for line in found[f"backend {backend}"] if line.startswith("retry-on")]
            assert set(retries.split()[1:]) <= {"conn-failure", "empty-response"}
            assert "http-request disable-l7-retry unless METH_GET" in found[f"backend {backend}"]


@pytest.mark.parametrize("path", ["/metrics", "//metrics", "/metrics/", "/metricsx"])
def test_figures_are_denied_to_users(rendered: Rendered, path: str) -> None:
    for host in rendered.hosts:
        (rule,) = [line for line in haproxy(rendered, host)["frontend public_https"] if "deny" in line]
        pattern = re.search(r"path,url_dec -m reg (\S+) \}", rule)
        assert pattern
        assert re.search(pattern[1], path)


def test_logs_never_hold_what_stands_behind_the_question_mark(rendered: Rendered) -> None:
    for host in rendered.hosts:
        (form,) = [line for line in haproxy(rendered, host)["defaults web"] if line.startswith("log-format")]
        assert not re.search(r"%HU|%r\b|%\{\+Q\}r|%HQ|query|\burl\b", form)


def test_each_room_s_address_prefers_its_own_hosts_in_a_strict_order(rendered: Rendered) -> None:
    for letter, room in rendered.inventory.rooms.items():
        priorities = {}
        for host in rendered.hosts:
            text = rendered.text(host, "keepalived.conf")
            body = re.search(rf"vrrp_instance room_{letter} {{(.*?)^}}", text, re.DOTALL | re.MULTILINE)
            assert body
            assert f"{room.address}/32 dev eth0" in body[1]
            assert f"virtual_router_id {room.virtual_router_id}\n" in body[1]
            match = re.search(r"priority (\d+)", body[1])
            assert match
            priorities[host] = int(match[1])
            peers = re.search(r"unicast_peer {(.*?)}", body[1], re.DOTALL)
            assert peers
            assert set(peers[1].split()) == {rendered.inventory.hosts[h].address for h in rendered.hosts if h != host}
        own = [p for host, p in priorities.items() if rendered.room(host) == letter]
        others = [p for host, p in priorities.items() if rendered.room(host) != letter]
        assert min(own) > max(others)
        assert len(set(own)) == len(own), "two hosts of a room with one priority would quarrel"


def test_a_host_can_leave_each_room_s_address_over_a_reboot(rendered: Rendered) -> None:
    for host in rendered.hosts:
        text = rendered.text(host, "keepalived.conf")
        for letter in rendered.inventory.rooms:
            file = re.search(rf"^track_file away_{letter} {{(.*?)^}}", text, re.DOTALL | re.MULTILINE)
            assert file
            lines = [line.strip() for line in file[1].strip().splitlines()]
            # Weight 0: a 1 in the file is a fault. Never overwritten at start, or a reboot would forget it.
            assert lines == [f'file "{address.file(letter)}"', "weight 0", "init_file 0"]
            body = re.search(rf"vrrp_instance room_{letter} {{(.*?)^}}", text, re.DOTALL | re.MULTILINE)
            assert body
            assert re.search(rf"track_file {{\s+away_{letter}\s+}}", body[1])


def test_an_address_is_not_given_up_while_a_lease_may_still_end(rendered: Rendered) -> None:
    dynamic = (ROOT / "roles/patroni/defaults/main.yml").read_text(encoding="utf-8")
    ttl = re.search(r"^patroni_ttl: (\d+)", dynamic, re.MULTILINE)
    assert ttl
    text = rendered.text(rendered.hosts[0], "keepalived.conf")
    script = re.search(r"vrrp_script served {(.*?)^}", text, re.DOTALL | re.MULTILINE)
    assert script
    patience = re.search(r"fall (\d+)", script[1])
    assert patience
    assert int(patience[1]) >= int(ttl[1]) + 10


def test_keepalived_s_questions_are_ones_that_haproxy_answers(rendered: Rendered) -> None:
    for host in rendered.hosts:
        asked = set(re.findall(r"room-address (\w+)\"", rendered.text(host, "keepalived.conf")))
        state = haproxy(rendered, host)["frontend state"]
        assert asked == {"alive", "connected", "reached", "served"}
        for question in asked:
            assert any(f"{{ path /{question} }}" in line and "status 200" in line for line in state)
        port = re.search(r"/dev/tcp/127\.0\.0\.1/(\d+)", rendered.text(host, "room-address"))
        assert port
        assert f"bind 127.0.0.1:{port[1]}" in state


def pools(rendered: Rendered, host: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parsed.read_string(rendered.text(host, "pgbouncer.ini"))
    return parsed


def test_all_pools_together_fit_into_postgresql(rendered: Rendered) -> None:
    defaults = yaml.safe_load((ROOT / "roles/patroni/defaults/main.yml").read_text(encoding="utf-8"))
    total = 0
    for host in rendered.hosts:
        for line in pools(rendered, host)["databases"].values():
            match = re.search(r"max_db_connections=(\d+)", line)
            assert match
            total += int(match[1])
    # The worst case: no replica is fresh, so reads are on the primary as well.
    assert total <= defaults["patroni_max_connections"] - 30
    assert total >= len(rendered.hosts) * 20


def test_pgbouncer_checks_the_name_of_postgresql_and_never_cancels_a_commit(rendered: Rendered) -> None:
    for host in rendered.hosts:
        main = pools(rendered, host)["pgbouncer"]
        assert main["server_tls_sslmode"] == "verify-full"
        assert "query_timeout" not in main
        assert float(main["server_login_retry"]) <= 1
        for line in pools(rendered, host)["databases"].values():
            assert f"host=postgres.{rendered.inventory.domain} " in line


def test_a_log_in_that_leads_nowhere_is_given_up_after_haproxy_asked_the_next_server_or_cannot(tmp_path: Path) -> None:
    for debian, seconds in (("12", 3.0), ("13", 2.0)):
        known = {"distribution": "Debian", "distribution_major_version": debian}
        folder = tmp_path / debian
        folder.mkdir()
        made = render(folder, "lab", ansible_facts=known)
        for host in made.hosts:
            assert float(pools(made, host)["pgbouncer"]["server_connect_timeout"]) == seconds


def test_only_controllers_reach_pgbouncer_as_the_drill(rendered: Rendered) -> None:
    for host in rendered.hosts:
        lines = [line.split() for line in rendered.text(host, "hba.conf").splitlines() if not line.startswith("#")]
        drill = [line for line in lines if "sias_drill" in line[2].split(",")]
        controllers = rendered.inventory.facts["sias_controller_addresses"]
        assert [(line[0], line[3]) for line in drill] == [("hostssl", f"{address}/32") for address in controllers]
        owner = [line for line in lines if "sias_owner" in line[2].split(",")]
        assert owner
        assert {line[0] if line[0] == "local" else line[3] for line in owner} == {"local", "127.0.0.1/32"}


def test_production_has_no_trace_of_drills(production: Rendered) -> None:
    for host in production.hosts:
        assert pools(production, host)["pgbouncer"]["listen_addr"] == "127.0.0.1"
        for name in ("hba.conf", "userlist.txt"):
            assert "sias_drill" not in production.text(host, name)
        assert "sias_owner" in production.text(host, "userlist.txt")


def test_the_mount_asks_the_own_room_s_brick_first_and_the_witness_last(rendered: Rendered) -> None:
    bricks = {host.name: host.room for host in rendered.inventory.group("bricks")}
    for host in rendered.hosts:
        asked = re.findall(r"--volfile-server=(\S+)", rendered.text(host, "sias-documents.service"))
        assert sorted(asked) == sorted(bricks)
        assert bricks[asked[0]] == rendered.room(host)
        assert bricks[asked[-1]] == "w"


def test_bricks_use_the_ports_that_the_firewall_opens(rendered: Rendered) -> None:
    (flow,) = [f for f in rendered.inventory.facts["flows"] if f["name"] == "document bricks"]
    text = rendered.text(rendered.hosts[0], "glusterd.vol")
    found = re.search(r"base-port (\d+)\n.*max-port (\d+)", text)
    assert found
    assert f"{found[1]}-{found[2]}" == flow["port"]


def test_the_application_is_told_everything_that_the_architecture_promises(rendered: Rendered) -> None:
    contract = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    paragraph = contract[contract.index("Environment of the application") : contract.index("Credential files")]
    # SIAS_CREDENTIALS_DIR is for workstations; systemd hands credentials over here.
    promised = set(re.findall(r"`(SIAS_\w+)`", paragraph)) - {"SIAS_CREDENTIALS_DIR"}
    assert promised
    for host in rendered.hosts:
        told = dict(line.split("=", 1) for line in rendered.text(host, "app.env").splitlines() if "=" in line)
        assert promised <= set(told)
        assert told["SIAS_ROOM"] == rendered.room(host)
        assert "SIAS_VERSION" not in told  # a release knows its own, whichever one the link leads to
        names = told["SIAS_ALLOWED_HOSTS"].split(",")
        assert {room.address for room in rendered.inventory.rooms.values()} <= set(names)


def test_the_running_application_never_holds_the_owner_s_password(rendered: Rendered) -> None:
    for host in rendered.hosts:
        for unit in ("sias-web.service", "sias-worker.service"):
            given = set(re.findall(r"LoadCredential=(\w+):", rendered.text(host, unit)))
            assert given == {"secret_key", "identifier_key", "database_password", "ldap_password"}


def test_the_application_asks_its_own_room_s_directory_first(rendered: Rendered) -> None:
    for host in rendered.hosts:
        servers = re.findall(r"ldaps://([\w-]+)\.sias\.internal", rendered.text(host, "app.env"))
        assert [rendered.room(server) for server in servers] == sorted(
            "ab", key=lambda room: room != rendered.room(host)
        )
        assert "SIAS_OIDC" not in rendered.text(host, "app.env")


def test_only_a_provider_of_identities_opens_the_network_to_the_application(tmp_path: Path) -> None:
    told = render(tmp_path, "lab", application_oidc_issuer="https://identite.example", application_oidc_client="sias")
    for host in told.hosts:
        unit = told.text(host, "sias-web.service")
        assert "PrivateNetwork" not in unit
        assert "LoadCredential=oidc_client_secret:" in unit
        assert "SIAS_OIDC_ISSUER=https://identite.example\n" in told.text(host, "app.env")


@pytest.mark.parametrize("unit", ["sias-web.service", "sias-worker.service"])
def test_the_application_runs_in_a_sandbox_without_network(rendered: Rendered, unit: str) -> None:
    for host in rendered.hosts:
        lines = set(rendered.text(host, unit).splitlines())
        wanted = {"PrivateNetwork=true", "NoNewPrivileges=true", "ProtectSystem=strict", "User=sias", "PrivateTmp=true"}
        assert wanted <= lines


def test_management_commands_run_in_the_same_sandbox(rendered: Rendered) -> None:
    for host in rendered.hosts:
        sandbox = rendered.text(host, "sias-manage").split("<<'SANDBOX'\n")[1].split("\nSANDBOX\n")[0]
        settings = {line for line in sandbox.splitlines() if line and not line.startswith("#")}
        assert settings
        assert settings <= set(rendered.text(host, "sias-web.service").splitlines())
        subprocess.run(["bash", "-n"], input=rendered.text(host, "sias-manage"), text=True, check=True, timeout=10)


@pytest.mark.parametrize("serves", ["blue", "green"])
def test_a_cluster_that_does_not_serve_is_checked_and_has_no_weight(tmp_path: Path, serves: str) -> None:
    clusters = {
        "blue": {"slot": "blue", "major": "15", "stanza": "sias", "runs": True},
        "green": {"slot": "green", "major": "17", "stanza": "sias-17", "runs": True},
    }
    serving = clusters.pop(serves)
    made = render(tmp_path, "lab", sias_postgresql={"serving": serving, "beside": next(iter(clusters.values()))})
    found = haproxy(made, "app-a1")
    led, asked, replicas = (
        dict(servers(found[f"backend {b}"])) for b in ("pg_primary", "patroni_primary", "pg_replicas")
    )
    assert set(led) == set(asked) == set(replicas) == {"db-a1", "db-b1", "db-a1-green", "db-b1-green"}
    # The script tells the clusters apart by the names that the template gives.
    assert 'GREEN = "-green$"' in (ROOT / "roles/haproxy/files/primary.lua").read_text(encoding="utf-8")
    for name in led:
        rests = name.endswith("-green") != (serves == "green")
        assert [" weight 0" in told[name] for told in (led, asked, replicas)] == [rests, False, rests]
        assert f"track patroni_primary/{name} " in led[name]
        for told in (asked, replicas):
            # Each asks its own Patroni, as the certificate of its own host.
            own = re.findall(r"\bport (\d+)", told[name])[0]
            assert own == ("8018" if name.endswith("-green") else "8008"), told[name]
            assert f"verifyhost {name.removesuffix('-green')}" in told[name]
    assert " backup" in replicas["db-b1-green"]
    assert " backup" not in led["db-b1-green"]
    scope = {"blue": "sias", "green": "sias-green"}[serves]
    key = base64.b64encode(f"/service/{scope}/leader".encode()).decode()
    assert any(key in line for line in found["backend etcd_leader"])
