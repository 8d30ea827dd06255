"""Hosts that do not answer are reported in words, and the others go on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from siasops import inventory as facts
from siasops import remote
from siasops.inventory import Inventory


@pytest.fixture
def nowhere(tmp_path: Path) -> Inventory:
    """A production whose hosts all refuse: addresses of the loopback network, where no ssh listens on port 22."""
    example = facts.load(facts.resolve("production.example"))
    hosts = {
        name: replace(host, address=f"127.57.0.{number}")
        for number, (name, host) in enumerate(list(example.hosts.items())[:3], 1)
    }
    return replace(example, hosts=hosts)


def test_a_host_that_refuses_is_a_result_and_not_an_exception(nowhere: Inventory) -> None:
    with remote.connect(nowhere) as fleet:
        results = fleet.run_all("true")
    assert set(results) == set(nowhere.hosts)
    for result in results.values():
        assert result.returncode == remote.UNREACHABLE
        assert not result.reached
        assert "127.57.0." in result.stderr


def test_checking_names_the_host_what_was_found_and_what_to_do(nowhere: Inventory) -> None:
    host = next(iter(nowhere.hosts))
    with (
        remote.connect(nowhere) as fleet,
        pytest.raises(remote.RemoteError, match=f"{host} does not answer.*powered on"),
    ):
        fleet.run(host, "true", check=True)


def test_an_unknown_host_is_refused_with_the_names_that_exist(nowhere: Inventory) -> None:
    with pytest.raises(remote.RemoteError, match="db-a1"):
        remote.Fleet(nowhere, ["db-z9"])


def test_a_lab_that_is_not_up_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "ROOT", tmp_path)
    lab = facts.load(Path(__file__).parents[2] / "inventory" / "lab.yml")
    lab = replace(lab, facts={"sias_environment": "lab", "lab_bridge": "br"})
    with pytest.raises(remote.RemoteError, match="make lab"):
        remote.Fleet(lab)


def test_waiting_ends_with_its_condition_or_its_deadline() -> None:
    answers = iter([False, False, True])
    assert remote.wait_until(lambda: next(answers), "three", deadline=5, every=0.01) < 1
    begin = time.monotonic()
    with pytest.raises(remote.RemoteError, match=r"never: not so within 0\.1 s"):
        remote.wait_until(lambda: False, "never", deadline=0.1, every=0.01)
    assert time.monotonic() - begin < 2


def test_the_keys_of_a_machine_that_was_made_anew_are_read_again(nowhere: Inventory, tmp_path: Path) -> None:
    from pyinfra.connectors.sshuserclient import client  # noqa: PLC0415

    known = tmp_path / "known_hosts"
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    known.write_text(f"db-a1 {key}\n")
    assert "db-a1" in client.get_host_keys((str(known),))
    known.write_text("")
    assert "db-a1" in client.get_host_keys((str(known),)), "pyinfra no longer keeps keys: Fleet.rebuilt needs less"
    with remote.connect(nowhere) as fleet:
        fleet.rebuilt(["db-a1"])
    assert "db-a1" not in client.get_host_keys((str(known),))
