"""An address is let go of when nobody is connected to it, and what was held back meanwhile is let through again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from siasops.cluster import let_go

ADDRESS = "192.0.2.21"


class Machine:
    """A host whose kernel, HAProxy and keepalived answer as told."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.log: list[str] = []
        self.connections = 2
        self.obeys = True

    def run(self, command: list[str] | tuple[str, ...], **options: Any) -> subprocess.CompletedProcess[str]:
        line = " ".join(command)
        self.log.append(f"{line} {options.get('input') or ''}".strip())
        answer = ""
        if line.startswith("ss "):
            self.connections -= 1
            answer = "one\n" * max(self.connections, 0)
        elif line.startswith("ip "):
            held = not (self.obeys and self.file.read_text().strip() == "1")
            answer = f'[{{"addr_info": [{{"local": "{ADDRESS if held else "192.0.2.13"}"}}]}}]'
        return subprocess.CompletedProcess(command, 0, answer, "")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    (tmp_path / "room_b").write_text("0\n")
    made = Machine(tmp_path / "room_b")
    monkeypatch.setattr(let_go.subprocess, "run", made.run)
    return made


def start(machine: Machine, monkeypatch: pytest.MonkeyPatch, then: str, *, move: str = "1") -> int:
    monkeypatch.setattr(sys, "argv", ["-", ADDRESS, str(machine.file), "5", move, then])
    return let_go.main()


@pytest.mark.parametrize(("then", "left"), [("stay", "1"), ("back", "0")])
def test_it_waits_until_nobody_is_connected(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], then: str, left: str
) -> None:
    assert start(machine, monkeypatch, then) == 0
    assert capsys.readouterr().out.split("\n") == ["quiet 0", "gone", ""]
    assert machine.file.read_text().strip() == left
    words = [line.split()[0] for line in machine.log]
    assert words[:3] == ["ip", "nft", "systemctl"]
    assert f"{ADDRESS} timeout 16s" in machine.log[1]
    assert machine.log[-1] == "nft delete table inet sias_away"


def test_an_address_that_is_not_given_up_is_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.obeys = False
    assert start(machine, monkeypatch, "stay", move="0.1") == 1
    assert machine.file.read_text().strip() == "0"
    assert machine.log[-1] == "nft delete table inet sias_away"


def test_a_haproxy_that_cannot_reload_cuts_nobody_off(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: tuple[str, ...], **options: Any) -> subprocess.CompletedProcess[str]:
        if command[0] == "systemctl":
            raise subprocess.CalledProcessError(1, command)
        return machine.run(command, **options)

    monkeypatch.setattr(let_go.subprocess, "run", run)
    with pytest.raises(subprocess.CalledProcessError):
        start(machine, monkeypatch, "stay")
    assert machine.file.read_text().strip() == "0"
    assert machine.log[-1] == "nft delete table inet sias_away"


def test_a_host_without_the_address_disturbs_nobody(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.file.write_text("1\n")
    assert start(machine, monkeypatch, "stay") == 0
    assert not any(line.startswith(("systemctl", "nft -f")) for line in machine.log)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a network of its own")
def test_the_kernel_holds_new_connections_back_and_lets_them_through_by_its_own_clock() -> None:
    trial = f"""
import socket, subprocess, sys, time
sys.path.insert(0, {str(Path(let_go.__file__).parent)!r})
import let_go
subprocess.run("ip link set lo up && ip address add {ADDRESS}/32 dev lo", shell=True, check=True)
assert let_go.held("{ADDRESS}") and not let_go.held("192.0.2.2")
server = socket.create_server(("{ADDRESS}", 8443))
old = socket.create_connection(("{ADDRESS}", 8443)); accepted, _ = server.accept()
assert let_go.unfinished("{ADDRESS}") == 2  # both ends are here
let_go.run("nft", "-f", "-", text=let_go.RULES.format(table=let_go.TABLE, address="{ADDRESS}", seconds=2))
begin = time.monotonic()
old.sendall(b"x"); assert accepted.recv(1) == b"x" and time.monotonic() - begin < 1
socket.create_connection(("{ADDRESS}", 8443), timeout=20)
assert 1.5 < time.monotonic() - begin < 20
"""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", trial], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
