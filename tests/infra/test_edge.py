"""What users, the application and its data meet on a deployed lab: addresses, HAProxy, PgBouncer, documents, sandbox."""

from __future__ import annotations

import csv
import json
import re
import ssl
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import httpx
import pytest

from siasops import inventory as facts
from siasops.inventory import Inventory
from tests.infra.conftest import Reach, trust

FACTS = facts.load()
APPLICATIONS = [host.name for host in FACTS.group("applications")]
ROOMS = sorted(FACTS.rooms)
UNITS = ["haproxy", "pgbouncer", "keepalived", "sias-documents", "sias-web", "sias-worker"]
READS_ARE_HOME_S = 75
"""PgBouncer's server_lifetime, and some."""
TWO_PRIMARIES = (Path(__file__).parent / "two_primaries.py").read_text(encoding="utf-8")
SHOW_STAT = """
import socket
link = socket.socket(socket.AF_UNIX)
link.connect('/run/haproxy/admin.sock')
link.sendall(b'show stat\\n')
while part := link.recv(65536):
    print(part.decode(), end='')
"""


def statistics(on: Reach, host: str) -> dict[tuple[str, str], dict[str, str]]:
    """What HAProxy of a host says about each proxy and server."""
    answer = on(host).run(f'python3 -c "{SHOW_STAT}"')
    assert answer.rc == 0, answer.stderr
    rows = csv.DictReader(answer.stdout.removeprefix("# ").splitlines())
    return {(row["pxname"], row["svname"]): row for row in rows}


def sql(on: Reach, host: str, database: str, user: str, query: str, *, door: str = "/run/pgbouncer") -> tuple[int, str]:
    """Exit code and answer of a query through PgBouncer; the password never leaves the machine."""
    script = (
        f'PGPASSWORD=$(sed -n \'s/^"{user}" "\\(.*\\)"$/\\1/p\' /etc/pgbouncer/userlist.txt) PGCONNECT_TIMEOUT=5 '
        f'psql -XAtq -h {door} -p {FACTS.ports["pgbouncer"]} -U {user} -d {database} -c "{query}"'
    )
    answer = on(host).run(script)
    return answer.rc, (answer.stdout or answer.stderr).strip()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("host", APPLICATIONS)
def test_it_runs_and_comes_back_after_a_power_cut(on: Reach, host: str, unit: str) -> None:
    service = on(host).service(unit)
    assert service.is_running
    assert service.is_enabled


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_s_address_stands_on_one_host_of_that_room(on: Reach, room: str) -> None:
    address = FACTS.rooms[room].address
    holders = [host for host in APPLICATIONS if f" {address}/" in on(host).check_output("ip -4 -o address show")]
    assert [FACTS.hosts[host].room for host in holders] == [room]


@pytest.mark.parametrize("room", ROOMS)
def test_users_are_served_by_the_room_that_they_open(lab: Inventory, room: str) -> None:
    with httpx.Client(verify=trust(lab, identity=False), timeout=10) as client:
        answer = client.get(f"https://{lab.rooms[room].address}/connexion/")
        plain = client.get(f"http://{lab.rooms[room].address}/connexion/?suite=1")
    assert answer.status_code == 200
    assert answer.headers["x-sias-room"] == room
    assert int(re.sub(r".*max-age=(\d+).*", r"\1", answer.headers["strict-transport-security"])) >= 15_768_000
    assert plain.status_code == 308
    assert plain.headers["location"] == f"https://{lab.rooms[room].address}/connexion/?suite=1"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(lab: Inventory, version: ssl.TLSVersion) -> None:
    context = trust(lab, identity=False)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = context.maximum_version = version
    with httpx.Client(verify=context, timeout=10) as client, pytest.raises(httpx.ConnectError):
        client.get(f"https://{lab.rooms[ROOMS[0]].address}/")


@pytest.mark.parametrize("path", ["/metrics", "/%6detrics", "//metrics"])
def test_figures_are_not_for_users(lab: Inventory, path: str) -> None:
    with httpx.Client(verify=trust(lab, identity=False), timeout=10) as client:
        assert client.get(f"https://{lab.rooms[ROOMS[0]].address}{path}").status_code == 404


@pytest.mark.parametrize("host", APPLICATIONS)
def test_other_hosts_come_in_with_a_certificate_only(on: Reach, host: str) -> None:
    for asker in APPLICATIONS:
        if asker == host:
            continue
        pki = "/etc/sias/pki"
        url = f"https://{host}:{FACTS.ports['web_internal']}/metrics"
        curl = f"curl --silent --max-time 10 --output /dev/null --write-out '%{{http_code}}' --cacert {pki}/ca.crt"
        assert on(asker).run(f"{curl} {url}").stdout == "000"
        assert on(asker).check_output(f"{curl} --cert {pki}/host.crt --key {pki}/host.key {url}") == "200"


@pytest.mark.parametrize("host", APPLICATIONS)
def test_haproxy_knows_one_primary_and_every_neighbour(on: Reach, host: str) -> None:
    known = statistics(on, host)
    up = {key for key, row in known.items() if row["status"] == "UP" and key[1] not in {"BACKEND", "FRONTEND"}}
    primaries = [server for proxy, server in up if proxy == "pg_primary"]
    assert len(primaries) == 1
    replicas = {server for proxy, server in up if proxy == "pg_replicas"}
    assert replicas == {h.name for h in FACTS.group("databases")} - set(primaries)
    assert {server for proxy, server in up if proxy == "web_ready"} == set(APPLICATIONS)
    assert {server for proxy, server in up if proxy == "etcd_quorum"} == {h.name for h in FACTS.group("etcd")}


@pytest.mark.parametrize("host", APPLICATIONS)
def test_writes_reach_the_primary_and_reads_the_nearest_replica(on: Reach, host: str) -> None:
    asked = "SELECT host(inet_server_addr()), pg_is_in_recovery(), (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())"
    by_address = {h.address: h for h in FACTS.group("databases")}
    code, written = sql(on, host, "sias", "sias_app", asked)
    assert code == 0, written
    primary, recovering, encrypted = written.split("|")
    assert (recovering, encrypted) == ("f", "t")
    # After a failover, connections that had to go to the primary come home when their lifetime ends.
    deadline = time.monotonic() + READS_ARE_HOME_S
    while True:
        code, read = sql(on, host, "sias_ro", "sias_app", asked)
        assert code == 0, read
        server, recovering, encrypted = read.split("|")
        if recovering == "t" or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert (recovering, encrypted) == ("t", "t")
    own_room_has_one = any(h.room == FACTS.hosts[host].room for address, h in by_address.items() if address != primary)
    assert (by_address[server].room == FACTS.hosts[host].room) == own_room_has_one


@pytest.mark.parametrize("host", APPLICATIONS)
def test_the_application_s_role_cannot_change_the_schema(on: Reach, host: str) -> None:
    code, said = sql(on, host, "sias", "sias_app", "CREATE TABLE public.intrus (id int)")
    assert code != 0
    assert "permission denied" in said


@pytest.mark.parametrize("user", ["sias_app", "sias_owner"])
@pytest.mark.parametrize("host", APPLICATIONS)
def test_the_drills_door_is_for_drills_alone(on: Reach, host: str, user: str) -> None:
    code, said = sql(on, host, "sias", user, "SELECT 1", door=FACTS.hosts[host].address)
    assert code != 0
    # As PgBouncer 1.18 and 1.24 say it, with and without TLS.
    refusals = ("login rejected", "no pg_hba.conf entry", "no authentication method is found")
    assert any(refusal in said for refusal in refusals), said


@pytest.mark.parametrize("host", APPLICATIONS)
def test_secrets_are_readable_by_root_and_their_service_only(on: Reach, host: str) -> None:
    machine = on(host)
    modes = machine.check_output(
        "stat -c '%n %U %a' /etc/sias/credentials /etc/sias/credentials/* /etc/pgbouncer/userlist.txt"
    )
    for line in modes.splitlines():
        path, owner, mode = line.split()
        assert owner == "root", line
        assert int(mode, 8) & 0o007 == 0, line
        if path.startswith("/etc/sias/credentials"):
            assert int(mode, 8) & 0o077 == 0, line
    environment = machine.check_output("cat /proc/$(systemctl show -P MainPID sias-web)/environ | tr '\\0' '\\n'")
    for secret in FACTS.secrets().values():
        assert secret not in environment


@pytest.mark.parametrize("unit", ["sias-web", "sias-worker"])
@pytest.mark.parametrize("host", APPLICATIONS)
def test_the_application_is_confined(on: Reach, host: str, unit: str) -> None:
    """Systemd's own exposure level, 0 (confined) to 10 (open)."""
    report = on(host).check_output(f"systemd-analyze security --no-pager {unit}.service")
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert level, report[-400:]
    assert float(level[1]) <= 1.5


@pytest.mark.parametrize("host", APPLICATIONS)
def test_documents_are_mounted_and_belong_to_the_application(on: Reach, host: str) -> None:
    folder = on(host).file(FACTS.facts["sias_documents_mount"])
    assert on(host).mount_point(folder.path).filesystem == "fuse.glusterfs"
    assert (folder.user, folder.group, folder.mode) == ("sias", "sias", 0o2770)
    assert folder.uid == FACTS.facts["sias_user_id"]


def test_documents_are_whole_in_both_rooms_and_arbitrated_by_the_witness(on: Reach) -> None:
    bricks = {host.name: host.room for host in FACTS.group("bricks")}
    asked = on(next(name for name, room in bricks.items() if room != "w"))
    volume = ET.fromstring(asked.check_output(f"gluster --mode=script --xml volume info {FACTS.cluster}"))  # noqa: S314 - our own daemon
    found = {b.findtext("name", "").split(":")[0]: b.findtext("isArbiter") for b in volume.iter("brick")}
    assert found == {name: "1" if room == "w" else "0" for name, room in bricks.items()}
    options = {o.findtext("name"): o.findtext("value") for o in volume.iter("option")}
    assert (options["client.ssl"], options["server.ssl"]) == ("on", "on")
    assert set(str(options["auth.ssl-allow"]).split(",")) == set(bricks) | set(APPLICATIONS)
    status = ET.fromstring(asked.check_output(f"gluster --mode=script --xml volume status {FACTS.cluster}"))  # noqa: S314 - as above
    serving = {
        n.findtext("hostname")
        for n in status.iter("node")
        if str(n.findtext("path")).startswith("/") and n.findtext("status") == "1"
    }
    assert serving == set(bricks)


@pytest.mark.parametrize("host", [h.name for h in FACTS.group("bricks")])
def test_a_brick_soon_gives_up_whoever_fell_silent_and_what_they_had_locked(on: Reach, host: str) -> None:
    """Every other link of a brick: its kernel asks each second whether the client is there."""
    links = on(host).check_output("ss -Htnpo state established '( sport >= :49152 )' | grep glusterfsd").splitlines()
    assert links
    # A link on which an answer is under way has another timer; it is given up by tcp-user-timeout.
    assert all(re.search(r"timer:\((?:on,|keepalive,(?:\d+ms|1sec)?,)", link) for link in links), links


@pytest.mark.parametrize("host", [h.name for h in FACTS.group("bricks")])
def test_glusterd_answers_soon_after_its_start(on: Reach, host: str) -> None:
    """Whoever stores a document waits for it; asking geo-replication took it 6 s and, on a busy host, 20 s."""
    shown = on(host).check_output(
        "systemctl show glusterd -P InactiveExitTimestampMonotonic -P ActiveEnterTimestampMonotonic"
    )
    began, answered = (int(word) / 1e6 for word in shown.split())
    assert 0 < answered - began < 4


@pytest.mark.parametrize("host", [h.name for h in FACTS.group("bricks") if h.room != "w"])
def test_copies_of_documents_are_read_again_by_a_unit_that_may_do_nothing_else(on: Reach, host: str) -> None:
    assert on(host).service("sias-scrub.timer").is_enabled
    on(host).check_output("systemctl start sias-scrub.service")
    told = on(host).check_output("cat /var/lib/prometheus/node-exporter/sias-scrub.prom")
    assert "\nsias_scrub_mismatches 0" in told


def test_every_host_runs_the_same_release(on: Reach) -> None:
    noted = {host: json.loads(on(host).file("/var/lib/sias/running").content_string) for host in APPLICATIONS}
    assert len({note["release"] for note in noted.values()}) == 1
    for host, note in noted.items():
        assert on(host).check_output("readlink -f /opt/sias/current") == note["release"]


def test_a_primary_is_left_for_its_successor_at_once_and_without_one_only_for_a_reason_that_lasts(on: Reach) -> None:
    answer = on(APPLICATIONS[0]).run("python3 -c %s", TWO_PRIMARIES)
    assert answer.rc == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["kept through silence"] is True
    assert found["kept while Patroni was started again"] is True
    assert found["ended for its successor"] < 1
    assert found["taken by the successor"] == ["two"], "the former primary still said that it leads"
    assert found["with the former one back"] == ["two"], "it says so for as long as its lease would have lasted"
    assert found["kept when the former one came back"] is True
    assert found["taken again when the successor says no"] < 2
    assert found["and left again"] < 1
    assert 2 < found["left without a successor"] < 10
    assert found["left when it says no"] < 3
    assert 3 < found["left when it goes on refusing"] < 10
