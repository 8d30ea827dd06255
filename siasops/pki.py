"""The platform's own certificate authority: issues and renews what `roles/pki` hands out.

The authority lives on the controller; its key is encrypted with a passphrase that comes on standard input. One
certificate per host (server and client use) and one for the controller.
"""

from __future__ import annotations

import argparse
import datetime as dt
import ipaddress
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from siasops import inventory as facts
from siasops.errors import UserError
from siasops.inventory import Inventory

AUTHORITY_DAYS = 3650
HOST_DAYS = 397
"""As long as the CA/Browser Forum's baseline requirements (6.3.2) allowed in 2020 to 2026: renewal stays a habit."""

_PRIVATE = 0o600


@dataclass(frozen=True)
class Subject:
    """Whom a certificate names: common name, and every name or address that peers may know it by."""

    name: str
    names: tuple[str, ...]


def subjects(inventory: Inventory) -> list[Subject]:
    """Everyone who has a certificate: each host, then the controller."""
    found = []
    for host in inventory.hosts.values():
        names = [host.name, f"{host.name}.{inventory.domain}", host.address, "localhost", "127.0.0.1"]
        if "databases" in host.groups:
            names.append(f"postgres.{inventory.domain}")
        if "applications" in host.groups:
            names.append(inventory.domain)
            names += [f"salle-{letter}.{inventory.domain}" for letter in inventory.rooms]
            names += [room.address for room in inventory.rooms.values()]
        found.append(Subject(host.name, tuple(names)))
    return [*found, Subject("controller", ("controller",))]


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file at once, never readable by others on the way."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as handle:
        handle.write(content)
    temporary.replace(path)


def _key_bytes(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SIAS"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


class Authority:
    """An authority in a folder.

    Args:
        folder: holds ca.crt, ca.key, hosts/<name>/{host.crt,host.key,host.pem,ca.crt}, controller.{crt,key}.
        passphrase: protects ca.key.
    """

    def __init__(self, folder: Path, passphrase: str) -> None:
        self.folder = folder
        self.passphrase = passphrase.encode()

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        try:
            key = serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), self.passphrase)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{self.folder / 'ca.key'} does not open with pki_ca_passphrase: {error}. Restore the passphrase; "
                "a new authority would cut every link of a running platform."
            ) from error
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - made here
        return x509.load_pem_x509_certificate((self.folder / "ca.crt").read_bytes()), key

    def create(self, environment: str) -> bool:
        """Make the authority unless it is there; True when made."""
        if (self.folder / "ca.crt").exists() and (self.folder / "ca.key").exists():
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        name = _name(f"SIAS {environment}")
        public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(public, critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(self.folder / "ca.key", _key_bytes(key, self.passphrase), _PRIVATE)
        _write(self.folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return True

    def reason_to_issue(self, subject: Subject, renew_before: dt.timedelta) -> str | None:
        """Why this subject needs a certificate now; None when its own will do."""
        path = self._paths(subject)[0]
        if not path.exists():
            return "it has none"
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
        if left < renew_before:
            return f"{left.days} days are left"
        if (
            self._alternatives(subject)
            != certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        ):
            return "its names have changed"
        try:
            certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((self.folder / "ca.crt").read_bytes()))
        except (ValueError, TypeError, InvalidSignature):
            return "another authority issued it"
        return None

    @staticmethod
    def _alternatives(subject: Subject) -> x509.SubjectAlternativeName:
        names: list[x509.GeneralName] = []
        for name in subject.names:
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                names.append(x509.DNSName(name))
        return x509.SubjectAlternativeName(names)

    def _paths(self, subject: Subject) -> tuple[Path, Path]:
        if subject.name == "controller":
            return self.folder / "controller.crt", self.folder / "controller.key"
        home = self.folder / "hosts" / subject.name
        return home / "host.crt", home / "host.key"

    def issue(self, subject: Subject) -> None:
        """Make a key and a certificate; the key first, so that an interrupted run never leaves a pair that differs."""
        authority, signer = self._load()
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        signing = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(subject.name))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=HOST_DAYS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(self._alternatives(subject), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signing), critical=False)
            .sign(signer, hashes.SHA256())
        )
        certificate_path, key_path = self._paths(subject)
        certificate_path.unlink(missing_ok=True)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        _write(key_path, _key_bytes(key), _PRIVATE)
        if subject.name != "controller":
            _write(key_path.with_name("host.pem"), pem + _key_bytes(key), _PRIVATE)
            _write(key_path.with_name("ca.crt"), (self.folder / "ca.crt").read_bytes(), 0o644)
        _write(certificate_path, pem, 0o644)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def ensure(inventory: Inventory, authority: Authority, *, renew_before_days: int, dry_run: bool) -> list[str]:
    """Issue what is missing or about to expire; returns one sentence per certificate made (or that would be)."""
    told = []
    if not dry_run and authority.create(inventory.environment):
        told.append(f"issued an authority for {inventory.environment}")
    for subject in subjects(inventory):
        if reason := authority.reason_to_issue(subject, dt.timedelta(days=renew_before_days)):
            if not dry_run:
                authority.issue(subject)
            told.append(f"{'would issue' if dry_run else 'issued'} a certificate for {subject.name}: {reason}")
    return told


def main() -> None:
    """Entry point of `python -m siasops.pki`, used by the pki role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inventory", type=Path, required=True)
    parser.add_argument("--authority", type=Path, required=True)
    parser.add_argument("--renew-before-days", type=int, required=True)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--issue", action="store_true")
    mode.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    try:
        passphrase = sys.stdin.readline().strip()
        for line in ensure(
            facts.load(options.inventory),
            Authority(options.authority, passphrase),
            renew_before_days=options.renew_before_days,
            dry_run=options.dry_run,
        ):
            sys.stdout.write(line + "\n")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
