"""What etcd, Patroni and pgBackRest are told, for both laboratories and both PostgreSQLs, without a machine."""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from siasops import inventory as facts
from siasops.inventory import ROOT, Inventory

ON_DATABASES = [
    *(["etcd", "etcd.env.j2"], ["etcd", "placement.json.j2"]),
    *(["patroni", "config.yml.j2"], ["patroni", "cluster.json.j2"], ["patroni", "patroni.service.j2"]),
    *(["patroni", "base.conf.j2"], ["patroni", "pgpass_flow.j2"], ["patroni", "postgresqlrc.j2"]),
    ["backup", "pgbackrest.conf.j2"],
]
ON_REPOSITORIES = [
    ["backup", "pgbackrest.conf.j2"],
    ["backup", "sias-backup@.service.j2"],
    ["backup", "sias-backup.target.j2"],
]
SECRETS = yaml.safe_load((ROOT / "roles/preflight/defaults/main.yml").read_text(encoding="utf-8"))["preflight_secrets"]


@dataclass
class Rendered:
    """Files of one environment, by host."""

    inventory: Inventory
    folder: Path
    major: str

    def text(self, host: str, name: str) -> str:
        return (self.folder / host / name).read_text(encoding="utf-8")

    def names(self, group: str) -> list[str]:
        return [host.name for host in self.inventory.group(group)]

    def etcd(self, host: str) -> dict[str, str]:
        lines = [line for line in self.text(host, "etcd.env").splitlines() if line and not line.startswith("#")]
        return dict(line.split("=", 1) for line in lines)

    def patroni(self, host: str) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load(self.text(host, "config.yml"))
        return document

    def pgbackrest(self, host: str) -> dict[str, dict[str, list[str]]]:
        """Sections of the file; an option may stand several times."""
        sections: dict[str, dict[str, list[str]]] = {}
        current: dict[str, list[str]] = {}
        for line in self.text(host, "pgbackrest.conf").splitlines():
            if line.startswith("["):
                current = sections.setdefault(line.strip("[]"), {})
            elif line and not line.startswith("#"):
                key, value = line.split("=", 1)
                current.setdefault(key, []).append(value)
        return sections


def render(to: Path, environment: str, hosts: str, what: list[list[str]], **variables: Any) -> None:
    arguments = {
        "render": what,
        "render_to": str(to),
        "render_hosts": hosts,
        "sias_secrets": {key: f'value: of "{key}"' for key in SECRETS},
        **variables,
    }
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "ansible-playbook"), "-i", f"inventory/{environment}.yml"),
            *("tests/templates/render.yml", "-e", json.dumps(arguments)),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=[("lab", "15"), ("lab-full", "15"), ("lab", "17")], ids="-".join)
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    environment, major = request.param
    folder = tmp_path_factory.mktemp(environment)
    variables = {"_patroni_major": major, "_backup_major": major}
    render(folder, environment, "databases", ON_DATABASES, **variables)
    render(folder, environment, "repositories", ON_REPOSITORIES, **variables)
    return Rendered(facts.load(ROOT / "inventory" / f"{environment}.yml"), folder, major)


BLUE = {"slot": "blue", "major": "15", "stanza": "sias", "runs": True}
GREEN = {"slot": "green", "major": "17", "stanza": "sias-17", "runs": True}


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Green serves, blue stands beside it; `config.yml` and the like are blue's."""
    folder = tmp_path_factory.mktemp("second")
    both = {"sias_postgresql": {"serving": GREEN, "beside": BLUE}, "_backup_major": "17"}
    render(folder, "lab", "databases", ON_DATABASES, **both, patroni_instance=BLUE, _patroni_major="15")
    render(folder, "lab", "repositories", ON_REPOSITORIES, **both)
    (folder / "green").mkdir()
    render(folder / "green", "lab", "databases", ON_DATABASES, **both, patroni_instance=GREEN, _patroni_major="17")
    return Rendered(facts.load(ROOT / "inventory" / "lab.yml"), folder, "17")


# --- etcd -------------------------------------------------------------------------------------------------------------


def test_every_voter_names_the_same_cluster(rendered: Rendered) -> None:
    voters = rendered.inventory.group("etcd")
    expected = ",".join(f"{voter.name}=https://{voter.address}:2380" for voter in voters)
    assert {rendered.etcd(host)["ETCD_INITIAL_CLUSTER"] for host in rendered.names("databases")} == {expected}


def test_etcd_takes_nobody_without_a_certificate(rendered: Rendered) -> None:
    told = rendered.etcd("db-a1")
    assert told["ETCD_CLIENT_CERT_AUTH"] == told["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"
    urls = [value for key, value in told.items() if key.endswith("_URLS")]
    assert urls
    assert all(url.startswith("https://") for value in urls for url in value.split(","))


def test_a_member_that_comes_back_does_not_disturb(rendered: Rendered) -> None:
    told = rendered.etcd("db-a1")
    assert told["ETCD_PRE_VOTE"] == "true"
    assert int(told["ETCD_ELECTION_TIMEOUT"]) >= 10 * int(told["ETCD_HEARTBEAT_INTERVAL"])


def test_the_placement_knows_every_room(rendered: Rendered) -> None:
    told = json.loads(rendered.text("db-a1", "placement.json"))
    hosts = rendered.inventory.group("etcd") + rendered.inventory.group("databases")
    assert told["rooms"] == {host.name: host.room for host in hosts}
    assert told["server_rooms"] == ["a", "b"]
    assert set(told["endpoints"]) == set(told["peer_urls"]) == set(rendered.names("etcd"))


# --- Patroni ------------------------------------------------------------------------------------------------------------


def test_a_commit_waits_for_the_other_room(rendered: Rendered) -> None:
    databases = rendered.inventory.group("databases")
    largest_room = max(sum(host.room == room for host in databases) for room in ("a", "b"))
    dynamic = rendered.patroni("db-a1")["bootstrap"]["dcs"]
    assert dynamic["synchronous_mode"] is True
    assert dynamic["synchronous_node_count"] == largest_room == rendered.inventory.synchronous_count
    assert dynamic["postgresql"]["parameters"]["synchronous_commit"] == "on"


def test_a_former_primary_keeps_the_wal_since_its_last_checkpoint_to_rewind(rendered: Rendered) -> None:
    told = rendered.patroni("db-a1")["bootstrap"]["dcs"]["postgresql"]["parameters"]
    assert told["wal_keep_size"] == told["max_wal_size"]


def test_patronis_own_rule_of_times_is_kept(rendered: Rendered) -> None:
    dynamic = rendered.patroni("db-a1")["bootstrap"]["dcs"]
    assert dynamic["loop_wait"] + 2 * dynamic["retry_timeout"] <= dynamic["ttl"]
    assert dynamic["ttl"] >= 20


def test_the_shared_configuration_is_the_same_on_every_host_and_at_bootstrap(rendered: Rendered) -> None:
    wanted = [json.loads(rendered.text(host, "cluster.json")) for host in rendered.names("databases")]
    assert all(document == wanted[0] for document in wanted)
    assert wanted[0]["dynamic"] == rendered.patroni("db-a1")["bootstrap"]["dcs"]
    assert wanted[0]["members"] == {host.name: host.address for host in rendered.inventory.group("databases")}


def test_each_host_asks_its_own_rooms_voters_first_and_never_the_other_rooms(rendered: Rendered) -> None:
    rooms = {f"{voter.address}:2379": voter for voter in rendered.inventory.group("etcd")}
    for host in rendered.inventory.group("databases"):
        asked = [rooms[address] for address in rendered.patroni(host.name)["etcd3"]["hosts"]]
        assert [voter.room for voter in asked] == [host.room, "w"]
        if "etcd" in host.groups:
            assert asked[0].name == host.name


def test_the_room_is_told_to_patroni(rendered: Rendered) -> None:
    for host in rendered.inventory.group("databases"):
        assert rendered.patroni(host.name)["tags"] == {"room": host.room}


def test_nobody_comes_in_without_tls_a_certificate_and_a_password(rendered: Rendered) -> None:
    for line in rendered.patroni("db-a1")["postgresql"]["pg_hba"]:
        kind, *_, method = [word for word in line.split() if not word.startswith("clientcert")]
        if kind == "local":
            assert method in {"peer", "scram-sha-256"}
            continue
        assert kind == "hostssl"
        assert method == "scram-sha-256"
        assert "samehost" in line or line.endswith("clientcert=verify-ca")
        assert "0.0.0.0/0" not in line


def test_only_application_hosts_use_the_database(rendered: Rendered) -> None:
    lines = [line.split() for line in rendered.patroni("db-a1")["postgresql"]["pg_hba"] if "sias_app" in line]
    assert {line[3] for line in lines} == {f"{host.address}/32" for host in rendered.inventory.group("applications")}
    assert all(line[1] == "sias" for line in lines)


def test_the_drills_role_stays_out_of_production(tmp_path: Path) -> None:
    render(tmp_path, "production.example", "databases", [["patroni", "config.yml.j2"]], _patroni_major="15")
    lines = yaml.safe_load((tmp_path / "db-a1" / "config.yml").read_text(encoding="utf-8"))["postgresql"]["pg_hba"]
    assert not any("sias_drill" in line for line in lines)
    assert any("sias_app" in line for line in lines)


def test_the_rest_interface_wants_a_certificate_and_a_password(rendered: Rendered) -> None:
    rest = rendered.patroni("db-a1")["restapi"]
    assert rest["verify_client"] == "required"
    assert rest["authentication"] == {"username": "patroni", "password": 'value: of "patroni_rest"'}


def test_memory_fits_the_machine(rendered: Rendered) -> None:
    for host in rendered.inventory.group("databases"):
        told = rendered.patroni(host.name)["postgresql"]["parameters"]
        megabytes = {name: int(told[name].removesuffix("MB")) for name in told if told[name].endswith("MB")}
        assert megabytes["shared_buffers"] * 4 == host.memory_mb
        assert megabytes["shared_buffers"] < megabytes["effective_cache_size"] < host.memory_mb
        assert megabytes["maintenance_work_mem"] * 8 <= host.memory_mb


def test_new_databases_sort_by_code_point_with_the_provider_of_their_version(rendered: Rendered) -> None:
    options = rendered.patroni("db-a1")["bootstrap"]["initdb"]
    assert {"locale": "C.UTF-8"} in options
    assert "data-checksums" in options
    assert ({"locale-provider": "builtin"} in options) is (rendered.major == "17")
    assert rendered.patroni("db-a1")["postgresql"]["data_dir"] == f"/var/lib/postgresql/{rendered.major}/sias"


def test_a_patroni_that_dies_leaves_postgresql_alone(rendered: Rendered) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(rendered.text("db-a1", "patroni.service"))
    assert unit["Service"]["KillMode"] == "process"
    assert unit["Service"]["Restart"] == "always"
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_patroni_compares_nothing_that_reads_otherwise_over_its_own_socket(rendered: Rendered) -> None:
    told = rendered.patroni("db-a1")
    assert told["postgresql"]["custom_conf"] == "/etc/patroni/base.conf"
    assert "tcp_user_timeout = 6000" in rendered.text("db-a1", "base.conf").splitlines()
    compared = {**told["bootstrap"]["dcs"]["postgresql"]["parameters"], **told["postgresql"]["parameters"]}
    assert not [name for name in compared if name.startswith("tcp_") or name == "pg_stat_statements.track"]


# --- pgBackRest ---------------------------------------------------------------------------------------------------------


def test_a_repository_has_one_number_on_every_host(rendered: Rendered) -> None:
    repositories = sorted(rendered.inventory.group("repositories"), key=lambda host: host.room)
    for number, repository in enumerate(repositories, start=1):
        assert f"repo{number}-path" in rendered.pgbackrest(repository.name)["global"]
        for database in rendered.names("databases"):
            assert rendered.pgbackrest(database)["global"][f"repo{number}-host"] == [repository.name]


def test_each_room_encrypts_with_a_key_of_its_own(rendered: Rendered) -> None:
    for number, repository in enumerate(
        sorted(rendered.inventory.group("repositories"), key=lambda h: h.room), start=1
    ):
        told = rendered.pgbackrest(repository.name)["global"]
        assert told[f"repo{number}-cipher-type"] == ["aes-256-cbc"]
        assert told[f"repo{number}-cipher-pass"] == [f'value: of "backup_cipher_{repository.room}"']


def test_database_hosts_do_not_know_the_keys_of_repositories(rendered: Rendered) -> None:
    assert all("cipher-pass" not in rendered.text(host, "pgbackrest.conf") for host in rendered.names("databases"))


def test_archiving_is_asynchronous_and_bounded(rendered: Rendered) -> None:
    told = rendered.pgbackrest("db-a1")
    assert told["global"]["archive-async"] == ["y"]
    assert told["global"]["archive-push-queue-max"]
    assert told["global:archive-push"]["io-timeout"] == ["10"]


def test_servers_hand_files_to_their_peers_only(rendered: Rendered) -> None:
    databases, repositories = rendered.names("databases"), rendered.names("repositories")
    for host, peers in [("db-a1", repositories), (repositories[0], databases)]:
        assert rendered.pgbackrest(host)["global"]["tls-server-auth"] == [f"{peer}=sias" for peer in peers]


def test_a_repository_reads_every_database_host_over_tls_and_a_standby_first(rendered: Rendered) -> None:
    for repository in rendered.names("repositories"):
        told = rendered.pgbackrest(repository)
        assert told["global"]["backup-standby"] == ["y"]
        for number, database in enumerate(rendered.names("databases"), start=1):
            assert told["sias"][f"pg{number}-host"] == [database]
            assert told["sias"][f"pg{number}-host-type"] == ["tls"]
            assert told["sias"][f"pg{number}-path"] == [f"/var/lib/postgresql/{rendered.major}/sias"]


def test_only_options_that_both_versions_of_pgbackrest_know_are_used(rendered: Rendered) -> None:
    """Debian 12 has 2.45: block incremental (2.46), backup-standby=prefer (2.54) and others came later."""
    for host in [*rendered.names("databases"), *rendered.names("repositories")]:
        text = rendered.text(host, "pgbackrest.conf")
        assert "-block" not in text
        assert "prefer" not in text


# --- Two clusters -------------------------------------------------------------------------------------------------------


def test_two_clusters_on_a_host_share_no_port_file_key_or_stanza(second: Rendered) -> None:
    blue, green = second.patroni("db-a1"), yaml.safe_load(second.text("green/db-a1", "config.yml"))
    for path in (["scope"], ["restapi", "listen"], ["restapi", "connect_address"], ["postgresql", "listen"],
                 ["postgresql", "connect_address"], ["postgresql", "data_dir"], ["postgresql", "bin_dir"],
                 ["postgresql", "pgpass"], ["postgresql", "custom_conf"],
                 ["bootstrap", "dcs", "postgresql", "parameters", "archive_command"]):  # fmt: skip
        one, other = blue, green
        for key in path:
            one, other = one[key], other[key]
        assert one != other, path
    assert green["scope"] == "sias-green"
    assert "/etc/patroni/green/config.yml" in second.text("green/db-a1", "patroni.service")
    assert json.loads(second.text("green/db-a1", "cluster.json"))["port"] == 8018


def test_each_cluster_may_follow_the_other_and_only_by_a_database_host(second: Rendered) -> None:
    lines = [
        line for line in second.patroni("db-a1")["postgresql"]["pg_hba"] if line.startswith("hostssl sias replicator")
    ]
    assert {line.split()[3] for line in lines} == {f"{h.address}/32" for h in second.inventory.group("databases")}


def test_the_cluster_that_serves_is_the_first_stanza_and_both_are_archived(second: Rendered) -> None:
    for host in [*second.names("databases"), *second.names("repositories")]:
        told = second.pgbackrest(host)
        assert [name for name in told if not name.startswith("global")] == ["sias-17", "sias"]
        assert told["sias-17"]["pg1-port"] == ["5433"]
        assert "pg1-port" not in told["sias"]
        assert all(line.endswith("=sias-17,sias") for line in told["global"]["tls-server-auth"])


def test_etcds_leader_keeps_away_from_the_primary_that_serves(second: Rendered) -> None:
    assert json.loads(second.text("db-a1", "placement.json"))["primary_key"] == "/service/sias-green/leader"


def test_psql_and_the_flow_find_their_way_by_files_of_the_host(second: Rendered) -> None:
    # As Debian's pg_wrapper reads it: version, host:port, database.
    lines = [line for line in second.text("green/db-a1", "postgresqlrc").splitlines() if not line.startswith("#")]
    assert lines == ["17 /var/run/postgresql:5433 *"]
    assert second.text("db-a1", "pgpass_flow") == '*:*:*:replicator:value\\: of "postgres_replicator"\n'
