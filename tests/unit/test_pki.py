"""The authority issues what peers check, renews in time, and never replaces itself by accident."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from siasops import inventory, pki
from siasops.errors import UserError
from siasops.inventory import ROOT

LAB = inventory.load(ROOT / "inventory" / "lab.yml")


def ensure(folder: Path, *, days: int = 30, dry_run: bool = False, passphrase: str = "correct") -> list[str]:
    return pki.ensure(LAB, pki.Authority(folder, passphrase), renew_before_days=days, dry_run=dry_run)


def certificate(folder: Path, host: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "hosts" / host / "host.crt").read_bytes())


def test_everybody_has_a_certificate_and_a_second_run_issues_none(tmp_path: Path) -> None:
    told = ensure(tmp_path)
    assert len(told) == 1 + len(LAB.hosts) + 1, told
    assert ensure(tmp_path) == []


def test_a_dry_run_says_what_it_would_issue_and_writes_nothing(tmp_path: Path) -> None:
    told = ensure(tmp_path / "authority", dry_run=True)
    assert all(line.startswith("would issue") for line in told)
    assert not (tmp_path / "authority").exists()


def test_a_chain_verifies_for_the_name_that_pgbouncer_asks_for(tmp_path: Path) -> None:
    ensure(tmp_path)
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes())
    builder = PolicyBuilder().store(Store([authority]))
    builder.build_server_verifier(x509.DNSName("postgres.sias.internal")).verify(certificate(tmp_path, "db-a1"), [])
    with pytest.raises(x509.verification.VerificationError):
        builder.build_server_verifier(x509.DNSName("postgres.sias.internal")).verify(
            certificate(tmp_path, "app-a1"), []
        )


def test_a_certificate_about_to_expire_is_renewed_and_the_authority_stays(tmp_path: Path) -> None:
    ensure(tmp_path)
    before, authority = certificate(tmp_path, "db-a1"), (tmp_path / "ca.crt").read_bytes()
    told = ensure(tmp_path, days=pki.HOST_DAYS + 1)
    assert [line for line in told if "db-a1" in line and "days are left" in line]
    assert certificate(tmp_path, "db-a1").serial_number != before.serial_number
    assert (tmp_path / "ca.crt").read_bytes() == authority


def test_a_host_with_another_address_gets_another_certificate(tmp_path: Path) -> None:
    ensure(tmp_path)
    authority = pki.Authority(tmp_path, "correct")
    moved = pki.Subject("db-a1", ("db-a1", "192.0.2.7"))
    assert authority.reason_to_issue(moved, dt.timedelta(days=30)) == "its names have changed"


def test_a_certificate_of_another_authority_is_replaced(tmp_path: Path) -> None:
    ensure(tmp_path / "one")
    ensure(tmp_path / "two")
    for name in ("ca.crt", "ca.key"):
        (tmp_path / "one" / name).write_bytes((tmp_path / "two" / name).read_bytes())
    assert len([line for line in ensure(tmp_path / "one") if "another authority" in line]) == len(LAB.hosts) + 1


def test_a_wrong_passphrase_is_refused_and_nothing_is_replaced(tmp_path: Path) -> None:
    ensure(tmp_path)
    (tmp_path / "hosts" / "db-a1" / "host.crt").unlink()
    authority = (tmp_path / "ca.key").read_bytes()
    with pytest.raises(UserError, match="does not open with pki_ca_passphrase"):
        ensure(tmp_path, passphrase="wrong")
    assert (tmp_path / "ca.key").read_bytes() == authority


def test_keys_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    ensure(tmp_path)
    for path in (tmp_path / "ca.key", tmp_path / "controller.key", tmp_path / "hosts" / "db-a1" / "host.key"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert b"ENCRYPTED" in (tmp_path / "ca.key").read_bytes()
