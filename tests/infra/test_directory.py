"""The agents' directory on a deployed lab: two servers that copy each other, and the application's way to them."""

from __future__ import annotations

import json
import socket
import ssl
import time
import uuid

import pytest

from siasops import inventory as facts
from siasops.inventory import Inventory
from tests.infra.conftest import Prometheus, Reach

FACTS = facts.load()
SERVERS = [host.name for host in FACTS.group("directories")]
APPLICATIONS = [host.name for host in FACTS.group("applications")]
BASE = FACTS.facts["sias_directory_base"]
ROOT = "-H ldapi://%2Frun%2Fsias-directory-server%2Fldapi -Y EXTERNAL -Q"
WAIT_S = 15


def over_the_network(on: Reach, host: str, command: str) -> tuple[int, str]:
    """Ask a server from itself, over TLS as anybody in the room could."""
    answer = on(host).run(
        f"LDAPTLS_CACERT=/etc/sias/pki/ca.crt LDAPTLS_REQCERT=demand {command} -H ldaps://{host}.{FACTS.domain}"
    )
    return answer.rc, answer.stdout + answer.stderr


@pytest.mark.parametrize(("here", "there"), [(SERVERS[0], SERVERS[-1]), (SERVERS[-1], SERVERS[0])])
def test_what_is_written_in_one_room_is_read_in_the_other(on: Reach, here: str, there: str) -> None:
    name = f"ou=essai-{uuid.uuid4().hex[:8]},ou=groups,{BASE}"
    entry = f"dn: {name}\\nobjectClass: organizationalUnit"
    on(here).run_expect([0], f"printf '{entry}\\n' | ldapadd {ROOT}")
    try:
        deadline = time.monotonic() + WAIT_S
        while on(there).run(f"ldapsearch {ROOT} -LLL -s base -b {name} dn").rc != 0:
            assert time.monotonic() < deadline, f"{there} never heard of what {here} was told"
            time.sleep(0.2)  # between questions inside a deadline
    finally:
        on(here).run(f"ldapdelete {ROOT} {name}")


@pytest.mark.parametrize("host", SERVERS)
def test_strangers_are_refused(on: Reach, host: str) -> None:
    code, told = over_the_network(on, host, f"ldapsearch -x -LLL -b {BASE} dn")
    assert code != 0
    assert "dn:" not in told


@pytest.mark.parametrize("host", SERVERS)
def test_it_listens_over_tls_on_one_port_and_nothing_goes_in_clear(
    lab: Inventory, on: Reach, listening: dict[str, set[int]], host: str
) -> None:
    assert lab.ports["ldaps"] in listening[host]
    assert 389 not in listening[host]
    refused = on(host).run(f"ldapwhoami -x -H ldap://{host}.{FACTS.domain}:{lab.ports['ldaps']} -o nettimeout=5")
    assert refused.rc != 0


@pytest.mark.parametrize("host", SERVERS)
def test_the_reader_reads_agents_and_no_password(on: Reach, host: str) -> None:
    reader = f"-x -D cn=reader,ou=accounts,{BASE} -y /etc/sias/directory/reader.password"
    code, told = over_the_network(on, host, f"ldapsearch {reader} -LLL -z 5 -b ou=agents,{BASE} '*' +")
    assert code == 4, told  # more than five: the size limit that was asked for
    assert "entryUUID: " in told
    assert "userPassword" not in told
    code, told = over_the_network(on, host, f"ldapsearch {reader} -LLL -b ou=accounts,{BASE} dn")
    assert "cn=replicator" not in told


@pytest.mark.parametrize("host", APPLICATIONS)
def test_from_outside_the_rooms_nobody_reaches_it(lab: Inventory, host: str) -> None:
    with (
        pytest.raises(OSError, match=r"refused|reset|timed out"),
        socket.create_connection((lab.host(host).address, lab.ports["ldaps"]), timeout=5) as link,
    ):
        ssl.create_default_context(cafile=str(lab.pki / "ca.crt")).wrap_socket(link, server_hostname=host)


@pytest.mark.parametrize("host", APPLICATIONS)
def test_the_application_reads_everybody_without_a_network(on: Reach, host: str) -> None:
    told = json.loads(on(host).check_output("sias-manage sync_directory --dry-run --json").splitlines()[-1])
    assert told["state"] == "apercu"
    assert told["counts"]["lus"] >= 1000
    server = told["server"].removeprefix("ldaps://").removesuffix(f".{FACTS.domain}")
    assert FACTS.host(server).room == FACTS.host(host).room  # the own room's first


@pytest.mark.parametrize("host", SERVERS)
def test_dumps_are_for_root_alone(on: Reach, host: str) -> None:
    listed = on(host).check_output("stat -c '%a %U' /var/lib/sias-directory-dumps/directory-*.ldif.gz").splitlines()
    assert listed
    assert set(listed) == {"600 root"}


def test_prometheus_sees_both_servers_hold_the_same(prometheus: Prometheus) -> None:
    up = prometheus.query("sias_directory_up")
    assert {sample["metric"]["host"] for sample in up if sample["value"][1] == "1"} == set(SERVERS)
    deadline = time.monotonic() + 180  # figures are a minute old at most, at either host
    while prometheus.query(
        "max by (server) (sias_directory_change_seconds) - min by (server) (sias_directory_change_seconds) > 0"
    ):
        assert time.monotonic() < deadline
        time.sleep(5)  # between questions inside a deadline
