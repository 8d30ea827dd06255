"""Certificates are what the platform agreed on, and no service speaks without one."""

from __future__ import annotations

import datetime as dt
from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from siasops import inventory as facts
from siasops.cluster import instance
from siasops.flows import accepted
from siasops.inventory import Host, Inventory
from tests.infra.conftest import Attempt, Look, Prometheus, Reach
from tests.infra.test_firewall import covers

HOSTS = pytest.mark.parametrize("name", list(facts.load().hosts))
PKI = "/etc/sias/pki"

# What a port speaks, by its name in the inventory. A port that listens and is not here fails the test below.
MUTUAL = {"etcd_client", "etcd_peer", "patroni", "patroni_green", "pgbackrest", "web_internal", "haproxy_metrics"} | {
    "node_exporter",
    "postgres_exporter",
    "gluster",
    "guard",
    "guard_metrics",
    "alertmanager_peers",
}
WITH_PASSWORD = {"prometheus", "alertmanager", "ldaps"}
PUBLIC = {"https"}
POSTGRES = {"postgres", "pgbouncer"}
OTHERWISE = {"ssh", "http"}  # its own encryption; only redirects to https


def names_of(lab: Inventory, host: Host) -> tuple[set[str], set[str]]:
    """DNS names and addresses by which peers and users know a host."""
    names = {host.name, f"{host.name}.{lab.domain}", "localhost"}
    addresses = {host.address, "127.0.0.1"}
    if "databases" in host.groups:
        names.add(f"postgres.{lab.domain}")
    if "applications" in host.groups:
        names |= {lab.domain} | {f"salle-{letter}.{lab.domain}" for letter in lab.rooms}
        addresses |= {room.address for room in lab.rooms.values()}
    return names, addresses


@pytest.fixture(scope="module")
def authority(lab: Inventory) -> x509.Certificate:
    return x509.load_pem_x509_certificate((lab.pki / "ca.crt").read_bytes())


@HOSTS
class TestHostCertificate:
    def certificate(self, on: Reach, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(on(name).check_output(f"cat {PKI}/host.crt").encode())

    def test_it_names_the_host_and_nothing_else(self, name: str, lab: Inventory, on: Reach) -> None:
        certificate = self.certificate(on, name)
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert [attribute.value for attribute in common] == [name]
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns, addresses = names_of(lab, lab.host(name))
        assert set(found.get_values_for_type(x509.DNSName)) == dns
        assert set(found.get_values_for_type(x509.IPAddress)) == {IPv4Address(address) for address in addresses}

    def test_it_is_signed_by_the_authority_for_both_sides_of_a_connection(
        self, name: str, on: Reach, authority: x509.Certificate
    ) -> None:
        certificate = self.certificate(on, name)
        certificate.verify_directly_issued_by(authority)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert not constraints.ca

    def test_it_is_valid_for_longer_than_the_objective(self, name: str, lab: Inventory, on: Reach) -> None:
        left = self.certificate(on, name).not_valid_after_utc - dt.datetime.now(dt.UTC)
        assert left.days > lab.objectives["certificate_days_left"]

    def test_its_key_belongs_to_it_and_is_for_root_and_its_group_alone(self, name: str, on: Reach) -> None:
        key = load_pem_private_key(on(name).check_output(f"cat {PKI}/host.key").encode(), None)
        public = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert key.public_key().public_bytes(*public) == self.certificate(on, name).public_key().public_bytes(*public)
        for file in ("host.key", "host.pem"):
            found = on(name).file(f"{PKI}/{file}")
            assert (found.user, found.group, found.mode) == ("root", "sias-pki", 0o640), file

    def test_the_host_trusts_the_authority_of_the_controller(
        self, name: str, on: Reach, authority: x509.Certificate
    ) -> None:
        trusted = x509.load_pem_x509_certificate(on(name).check_output(f"cat {PKI}/ca.crt").encode())
        assert trusted == authority

    def test_nobody_who_signs_in_may_read_the_key(self, name: str, on: Reach) -> None:
        machine = on(name)
        assert machine.run("setpriv --reuid vagrant --regid vagrant --init-groups cat %s/host.key", PKI).rc != 0


def test_what_services_serve_is_what_the_host_holds(prometheus: Prometheus) -> None:
    stale = prometheus.query(
        'abs(probe_ssl_earliest_cert_expiry{job="certificates"}'
        ' - on (host) group_left sias_certificate_not_after_seconds{file="host.crt"}) > 1'
    )
    assert [sample["metric"]["instance"] for sample in stale] == []
    assert prometheus.query('probe_ssl_earliest_cert_expiry{job="certificates"}')


def kinds(lab: Inventory, port: int) -> str | None:
    """What is spoken on a port: mutual, password, public, postgres, otherwise; None when nobody knows."""
    names = {name for name, number in lab.ports.items() if number == port}
    bricks = next(rule for row in lab.facts["flows"] if (rule := row)["name"] == "document bricks")
    first, _, last = str(bricks["port"]).partition("-")
    if names & MUTUAL or int(first) <= port <= int(last):
        return "mutual"
    for kind, known in (
        ("password", WITH_PASSWORD),
        ("public", PUBLIC),
        ("postgres", POSTGRES),
        ("otherwise", OTHERWISE),
    ):
        if names & known:
            return kind
    return None


def vantage(lab: Inventory, target: Host, port: int) -> str | None:
    """Where a port may be reached from: another machine, else the controller (None), else the machine itself."""
    sources = [ip_network(network) for rule in accepted(lab, target) if covers(rule, port) for network in rule.sources]
    for host in lab.hosts.values():
        if host is not target and any(ip_address(host.address) in source for source in sources):
            return host.name
    controller = ip_address(lab.facts["sias_controller_addresses"][0])
    return None if any(controller in source for source in sources) else target.name


@pytest.fixture(scope="module")
def spoken(lab: Inventory, listening: dict[str, set[int]], look_from: Look) -> dict[tuple[str, int, str], str]:
    """What each listening port answered, by host, port and how it was spoken to."""
    by_source: dict[str | None, list[tuple[str, Attempt]]] = {}
    for target in lab.hosts.values():
        for port in sorted(listening[target.name]):
            kind = kinds(lab, port)
            if kind in (None, "otherwise"):
                continue
            for how in ("postgres", "postgres-tls") if kind == "postgres" else ("plain", "tls"):
                attempts = by_source.setdefault(vantage(lab, target, port), [])
                attempts.append((target.name, (target.address, port, how)))
    return {
        (name, port, how): result
        for source, entries in by_source.items()
        for (name, (_, port, how)), result in zip(
            entries, look_from(source, [attempt for _, attempt in entries]), strict=True
        )
    }


def test_it_is_known_what_every_port_speaks(lab: Inventory, listening: dict[str, set[int]]) -> None:
    unknown = {f"{name}:{port}" for name, ports in listening.items() for port in ports if kinds(lab, port) is None}
    assert unknown == set()


def test_no_service_answers_without_tls(spoken: dict[tuple[str, int, str], str]) -> None:
    # A server written in Go says “400” in the clear to who forgets TLS, and nothing more.
    refusals = ("closed", "silent", "answered:HTTP/1.0 400", "answered:HTTP/1.1 400")
    plain = {(name, port): answer for (name, port, how), answer in spoken.items() if how == "plain"}
    served = {f"{name}:{port}": answer for (name, port), answer in plain.items() if not answer.startswith(refusals)}
    assert served == {}
    assert plain


def test_no_inner_service_answers_without_a_certificate(
    lab: Inventory, spoken: dict[tuple[str, int, str], str]
) -> None:
    mutual = {key: answer for key, answer in spoken.items() if key[2] == "tls" and kinds(lab, key[1]) == "mutual"}
    here = {one.patroni for one in instance.of(lab).slots}
    both = {lab.ports["patroni"], lab.ports["patroni_green"]}
    assert {port for _, port, _ in mutual} >= {lab.ports[name] for name in MUTUAL} - (both - here)
    # pgBackRest greets anybody with its version, and asks for the certificate at the first command: see the next test.
    greeting = {lab.ports["pgbackrest"]: 'answered:{"name":"pgBackRest"'}
    served = {
        f"{name}:{port}": answer
        for (name, port, _), answer in mutual.items()
        if not answer.startswith(("alert:", "closed", greeting.get(port, "alert:")))
    }
    assert served == {}


def test_a_repository_hands_nothing_to_a_stranger(lab: Inventory, on: Reach) -> None:
    database, repository = lab.group("databases")[0], lab.group("repositories")[0]
    machine = on(database.name)
    ask = (
        f"pgbackrest --no-config --stanza={lab.cluster} --log-level-file=off --repo1-host={repository.name}"
        f" --repo1-host-type=tls --repo1-host-port={lab.ports['pgbackrest']} --repo1-host-ca-file={PKI}/ca.crt"
        " --repo1-host-cert-file=%s --repo1-host-key-file=%s repo-ls"
    )
    folder = machine.check_output("mktemp -d")
    try:
        machine.check_output(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN={database.name}"
            f" -keyout {folder}/key -out {folder}/crt 2>/dev/null && chmod 600 {folder}/key"
        )
        stranger = machine.run(ask % (f"{folder}/crt", f"{folder}/key"))
    finally:
        machine.check_output(f"rm -r {folder}")
    assert stranger.rc != 0
    # pgBackRest 2.55 complains on standard output: what counts is that no name of the repository is there.
    assert not {"archive", "backup"} & set(stranger.stdout.split())
    # The same question with the host's own certificate reaches the repository.
    own = machine.check_output("sudo -u postgres " + ask % (f"{PKI}/host.crt", f"{PKI}/host.key"))
    assert "backup" in own.split()


@pytest.mark.parametrize("how", ["postgres", "postgres-tls"])
def test_the_database_refuses_who_has_no_tls_or_no_certificate(
    how: str, lab: Inventory, spoken: dict[tuple[str, int, str], str]
) -> None:
    answers = {(name, port): answer for (name, port, spoke), answer in spoken.items() if spoke == how}
    assert {port for _, port in answers} == {*(one.postgres for one in instance.of(lab).slots), lab.ports["pgbouncer"]}
    # R would be a request for the password: the connection itself would have been good enough.
    let_in = {f"{name}:{port}": a for (name, port), a in answers.items() if a.startswith("answered:R")}
    assert let_in == {}
    assert all(a.startswith(("answered:E", "alert:", "closed")) for a in answers.values()), answers
