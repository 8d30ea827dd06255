"""Packages of another Debian release: which, from where, and never anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from siasops.inventory import ROOT

DEBIAN = yaml.safe_load((ROOT / "inventory/group_vars/all/platform.yml").read_text(encoding="utf-8"))["sias_debian"]
TARGETS = [
    "Debian|http://mirror.example/debian/|bookworm", "Debian|http://mirror.example/debian/|bookworm-updates",
    "Debian-Security|http://mirror.example/security/|bookworm-security", "Debian|http://later.example/debian/|bookworm",
]  # fmt: skip


def template(text: str, debian: str, **variables: Any) -> str:
    """Evaluate as Ansible would on a host; a playbook for each case would take minutes."""
    loader = DataLoader()
    facts: dict[str, Any] = {
        "ansible_facts": {"distribution_major_version": debian},
        "ansible_managed": "managed",
        "__debian_origin_targets": {"stdout": "\n".join(TARGETS), "stdout_lines": TARGETS},
        **loader.load_from_file(str(ROOT / "inventory/group_vars/all/platform.yml")),
    }
    for role in ("etcd", "patroni", "debian_origin"):
        for kind in ("defaults", "vars"):
            facts |= loader.load_from_file(str(ROOT / f"roles/{role}/{kind}/main.yml"), trusted_as_template=True)
    return str(Templar(loader, variables=facts | variables).template(trust_as_template(text)))


def voters(*versions: str) -> dict[str, Any]:
    """What the voters answered; one of them does not."""
    answers = [{"status": 200, "json": {"etcdserver": v, "etcdcluster": v}} for v in versions]
    return {"results": [{"status": -1}, *answers]}


@pytest.mark.parametrize(
    ("debian", "agreed", "origin"),
    [
        ("12", [], "12"),
        ("12", ["3.4.0"], "12"),
        ("12", ["3.5.0", "3.5.0"], "13"),
        ("12", ["not_decided"], "12"),
        ("13", ["3.4.0"], "13"),
        ("13", [], "13"),
    ],
)
def test_a_voter_is_never_older_than_what_the_others_agreed_on(debian: str, agreed: list[str], origin: str) -> None:
    assert template("{{ _etcd_origin | trim }}", debian, __etcd_versions=voters(*agreed)) == origin


@pytest.mark.parametrize(
    ("debian", "paths", "forced", "major", "origin"),
    [
        ("12", [], "", "15", "12"),
        ("13", [], "", "17", "13"),
        ("13", ["/var/lib/postgresql/15/sias/PG_VERSION"], "", "15", "12"),
        ("13", ["/var/lib/postgresql/15/sias/PG_VERSION", "/var/lib/postgresql/17/sias-green/PG_VERSION"], "", "15", "12"),
        ("13", ["/var/lib/postgresql/15/sias/PG_VERSION", "/var/lib/postgresql/17/sias/PG_VERSION"], "", "17", "13"),
        ("13", [], "15", "15", "12"),
    ],
)  # fmt: skip
def test_postgresql_stays_at_the_version_of_its_data_whatever_the_debian(
    *, debian: str, paths: list[str], forced: str, major: str, origin: str
) -> None:
    # The data lie on another host: this one was built again.
    found = {"results": [{"unreachable": True}, {"files": []}, {"files": [{"path": path} for path in paths]}]}
    facts = {"__patroni_found": found, "__backup_found": found, "sias_postgresql_major": forced}
    assert template("{{ _patroni_major | trim }} {{ _patroni_origin | trim }}", debian, **facts) == f"{major} {origin}"
    backup = yaml.safe_load((ROOT / "roles/backup/vars/main.yml").read_text(encoding="utf-8"))["_backup_major"]
    patroni = yaml.safe_load((ROOT / "roles/patroni/vars/main.yml").read_text(encoding="utf-8"))["_patroni_major"]
    assert backup.replace("backup", "patroni") == patroni, "both roles must find the same"


def test_the_host_s_own_mirror_is_used_with_its_security_updates_and_nothing_else_comes_from_it() -> None:
    wanted = {"debian_origin_release": "12", "debian_origin_packages": ["postgresql-15"], "debian_origin_name": "x"}
    sources, preferences = (
        template((ROOT / f"roles/debian_origin/templates/{name}.j2").read_text(encoding="utf-8"), "13", **wanted)
        for name in ("sources.list", "preferences")
    )
    assert [line.split("] ")[1] for line in sources.splitlines() if line.startswith("deb ")] == [
        "http://mirror.example/debian/ bookworm main",
        "http://mirror.example/debian/ bookworm-updates main",
        "http://mirror.example/security/ bookworm-security main",
    ]
    everything, named = preferences.split("\n\n")
    assert "Package: *\n" in everything
    assert everything.endswith("Pin-Priority: 100")
    assert named.startswith("Package: postgresql-15\n")


@pytest.mark.parametrize(("targets", "read"), [(TARGETS, "False"), ([*TARGETS, "Debian|http://m/|trixie"], "True"),
                                               ([*TARGETS, "|http://m/|"], "False")])  # fmt: skip
def test_an_archive_that_was_named_and_not_yet_read_is_read(targets: list[str], read: str) -> None:
    said = {"stdout": "\n".join(targets), "stdout_lines": targets}
    facts = {"__debian_origin_targets": said, "debian_origin_release": "13", "debian_origin_packages": ["etcd-server"]}
    assert template("{{ _debian_origin_read }}", "12", **facts) == read


def test_every_debian_says_what_its_archive_carries() -> None:
    assert {frozenset(facts) for facts in DEBIAN.values()} == {
        frozenset({"codename", "postgresql", "python", "etcd"})
    }, json.dumps(DEBIAN)
