"""A real slapd of the test's own: private folder and ports, TLS by an authority made for it, thrown away at the end."""

import contextlib
import ipaddress
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ldap3.core.exceptions import LDAPNoSuchObjectResult
from sias.directory.client import Tls, ldap3

BASE = "dc=sias,dc=internal"
ROOT = "cn=root,dc=sias,dc=internal"
CONFIGURATOR = "cn=root,cn=config"
READER = f"cn=reader,ou=accounts,{BASE}"
SECRET = "secret of the tests"
PASSWORD = "mot de passe d'annuaire"
SLAPD = "/usr/sbin/slapd"
CONFIGURATION = """\
dn: cn=config
objectClass: olcGlobal
cn: config
olcArgsFile: {folder}/args
olcPidFile: {folder}/pid
olcTLSCACertificateFile: {folder}/ca.crt
olcTLSCertificateFile: {folder}/host.crt
olcTLSCertificateKeyFile: {folder}/host.key
olcSecurity: tls=1
olcSizeLimit: 500

dn: cn=module,cn=config
objectClass: olcModuleList
cn: module
olcModulePath: /usr/lib/ldap
olcModuleLoad: back_mdb
olcModuleLoad: ppolicy

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file:///etc/ldap/schema/core.ldif
include: file:///etc/ldap/schema/cosine.ldif
include: file:///etc/ldap/schema/inetorgperson.ldif

dn: olcDatabase={{-1}}frontend,cn=config
objectClass: olcDatabaseConfig
objectClass: olcFrontendConfig
olcDatabase: {{-1}}frontend

dn: olcDatabase={{0}}config,cn=config
objectClass: olcDatabaseConfig
olcDatabase: {{0}}config
olcRootDN: cn=root,cn=config
olcRootPW: {secret}

dn: olcDatabase={{1}}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {{1}}mdb
olcDbDirectory: {folder}/data
olcDbMaxSize: 268435456
olcDbNoSync: TRUE
olcSuffix: {base}
olcRootDN: {root}
olcRootPW: {secret}
olcDbIndex: objectClass eq
olcDbIndex: uid,entryUUID eq
olcLimits: dn.exact="{reader}" size.soft=500 size.hard=500 size.prtotal=unlimited
olcAccess: to attrs=userPassword by anonymous auth by * none
olcAccess: to * by dn.exact="{reader}" read by * none

dn: olcOverlay=ppolicy,olcDatabase={{1}}mdb,cn=config
objectClass: olcOverlayConfig
objectClass: olcPPolicyConfig
olcOverlay: ppolicy
olcPPolicyDefault: cn=default,ou=policies,{base}
"""
TREE = """\
dn: {base}
objectClass: dcObject
objectClass: organization
o: Moselle
dc: sias

dn: ou=agents,{base}
objectClass: organizationalUnit
ou: agents

dn: ou=groups,{base}
objectClass: organizationalUnit
ou: groups

dn: ou=accounts,{base}
objectClass: organizationalUnit
ou: accounts

dn: ou=policies,{base}
objectClass: organizationalUnit
ou: policies

dn: {reader}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: {secret}

dn: cn=default,ou=policies,{base}
objectClass: device
objectClass: pwdPolicy
cn: default
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 5
pwdLockoutDuration: 900

"""


def authority(
    folder: Path, name: str = "authority of the tests"
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Make an authority, write its certificate, return it with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = _certificate(subject, key, subject, key, ca=True)
    (folder / "ca.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return made, key


def _certificate(subject, key, issuer, signer, *, ca: bool, names: tuple = ()) -> x509.Certificate:
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(signer, hashes.SHA256())


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Slapd:
    """One server, started empty but for its accounts."""

    def __init__(self) -> None:
        if not Path(SLAPD).exists():
            raise RuntimeError("slapd is missing: apt-get install slapd")
        self.folder = Path(tempfile.mkdtemp(prefix="sias-ldap-", dir="/tmp"))
        for name in ("slapd.d", "data"):
            (self.folder / name).mkdir()
        self.port, self.tls_port = free_port(), free_port()
        self.process: subprocess.Popen | None = None
        ca, signer = authority(self.folder)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        names = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        made = _certificate(subject, key, ca.subject, signer, ca=False, names=names)
        (self.folder / "host.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (self.folder / "host.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        words = {"folder": self.folder, "base": BASE, "root": ROOT, "reader": READER, "secret": SECRET}
        self.add(CONFIGURATION.format(**words), database=0)
        self.add(TREE.format(**words))

    @property
    def uri(self) -> str:
        return f"ldap://localhost:{self.port}"

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.crt")

    def add(self, ldif: str, database: int = 1) -> None:
        """Load entries while the server is down: fast, whatever their number."""
        done = subprocess.run(
            ["/usr/sbin/slapadd", "-q", "-n", str(database), "-F", str(self.folder / "slapd.d")],
            input=ldif,
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise RuntimeError(f"slapadd: {done.stderr}")

    def start(self) -> None:
        addresses = f"ldap://127.0.0.1:{self.port} ldap://127.0.0.2:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [SLAPD, "-F", str(self.folder / "slapd.d"), "-h", addresses, "-d", "0"], stderr=log
            )
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=20)
            self.process = None

    @contextlib.contextmanager
    def down(self):
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def administrator(self, name: str = ROOT):
        """A connection that may everything."""
        safe = Tls(ca_certs_file=self.ca, validate=ssl.CERT_REQUIRED)
        server = ldap3.Server("localhost", port=self.tls_port, use_ssl=True, tls=safe, get_info=ldap3.NONE)
        with ldap3.Connection(server, name, SECRET, raise_exceptions=True, check_names=False) as connection:
            yield connection

    def write(self, uid: str, **attributes: str | None) -> str:
        """Create an agent's entry, or correct attributes of one (None removes); return its name."""
        name = f"uid={uid},ou=agents,{BASE}"
        with self.administrator() as connection:
            connection.search(BASE, f"(uid={uid})", attributes=["uid"])
            if not connection.response:
                facts = {"uid": uid, "sn": "Essai", "cn": uid, "userPassword": PASSWORD} | attributes
                connection.add(name, "inetOrgPerson", {key: value for key, value in facts.items() if value})
            else:
                relax = [("1.3.6.1.4.1.4203.666.5.12", True, None)]  # operational attributes may be written
                changes = {key: [(ldap3.MODIFY_REPLACE, [value] if value else [])] for key, value in attributes.items()}
                connection.modify(name, changes, controls=relax)
        return name

    def remove_entry(self, uid: str) -> None:
        self._delete(f"uid={uid},ou=agents,{BASE}")

    def _delete(self, name: str) -> None:
        with self.administrator() as connection, contextlib.suppress(LDAPNoSuchObjectResult):
            connection.delete(name)

    def group(self, name: str, *members: str) -> None:
        """Make a group of exactly these members."""
        dn = f"cn={name},ou=groups,{BASE}"
        self._delete(dn)
        if members:
            with self.administrator() as connection:
                connection.add(dn, "groupOfNames", {"cn": name, "member": list(members)})

    def configure(self, **attributes: list[str]) -> list[list[str]]:
        """Replace attributes of the database's configuration while it runs; return what they were."""
        name = "olcDatabase={1}mdb,cn=config"
        with self.administrator(CONFIGURATOR) as connection:
            connection.search(name, "(objectClass=*)", ldap3.BASE, attributes=list(attributes))
            found = connection.response[0]["raw_attributes"]
            connection.modify(name, {key: [(ldap3.MODIFY_REPLACE, values)] for key, values in attributes.items()})
        return [[value.decode() for value in found[key]] for key in attributes]

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
