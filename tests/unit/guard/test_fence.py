"""The fence against the real nftables and the real kernel, in a network namespace of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from siasops.guard.fence import Fence, FenceError, parse_heard

needs_root = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nftables")
HERE, THERE = "sias-fence-here", "sias-fence-there"

PRIMARY = """
import socket, threading
server = socket.create_server(("10.9.9.2", 5432))
print("listening", flush=True)
def echo(peer):
    while (data := peer.recv(100)):
        peer.sendall(data)
while True:
    threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()
"""
PRELUDE = """
import socket, time
from siasops.guard.fence import Fence, heard_ago
def reach():
    with socket.create_connection(("10.9.9.2", 5432), 0.5) as link:
        link.sendall(b"x")
        return link.recv(1)
"""


def remove() -> None:
    for name in (HERE, THERE):
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.fixture
def namespace() -> Iterator[None]:
    """Two hosts on a wire: this one at 10.9.9.1, and a primary at 10.9.9.2 that echoes on PostgreSQL's port."""
    remove()
    for name in (HERE, THERE):
        subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(
        ["ip", "-n", HERE, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", THERE], check=True
    )
    for name, address in ((HERE, "10.9.9.1/24"), (THERE, "10.9.9.2/24")):
        for words in ("link set lo up", f"address add {address} dev wire", "link set wire up"):
            subprocess.run(["ip", "-n", name, *words.split()], check=True)
    with subprocess.Popen(
        ["ip", "netns", "exec", THERE, sys.executable, "-c", PRIMARY], stdout=subprocess.PIPE, text=True
    ) as primary:
        assert primary.stdout is not None
        assert primary.stdout.readline() == "listening\n"
        yield
        primary.kill()
    remove()


def inside(program: str) -> str:
    """Run Python on this host of the wire."""
    done = subprocess.run(
        ["ip", "netns", "exec", HERE, sys.executable, "-c", PRELUDE + textwrap.dedent(program)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_root
def test_a_fence_ends_the_link_that_stands_and_refuses_new_ones_until_the_kernel_lifts_it(namespace: None) -> None:
    said = inside("""
        fence = Fence([5432, 8008], 2)
        standing = socket.create_connection(("10.9.9.2", 5432), 0.5)
        standing.sendall(b"x"); standing.recv(1)
        assert heard_ago("10.9.9.2", 5432) < 1
        fence.raise_against("10.9.9.2")
        assert fence.standing() == ["10.9.9.2"]
        try:
            standing.settimeout(1); standing.sendall(b"y"); print("answer", standing.recv(1))
        except OSError as error:
            print("cut", type(error).__name__)
        try:
            reach()
        except OSError as error:
            print("refused", type(error).__name__)
        end = time.monotonic() + 6
        while fence.standing() and time.monotonic() < end:
            time.sleep(0.1)
        print("open", reach())
    """)
    assert "cut Connection" in said
    assert "refused ConnectionRefusedError" in said
    assert "open b'x'" in said


@needs_root
def test_a_fence_can_be_raised_again_and_lifted_at_once(namespace: None) -> None:
    said = inside("""
        fence = Fence([5432, 8008], 30)
        fence.raise_against("10.9.9.2"); fence.raise_against("10.9.9.2")
        assert fence.standing() == ["10.9.9.2"]
        fence.lift(); fence.lift()
        assert fence.standing() == []
        print(reach())
    """)
    assert "b'x'" in said


@needs_root
def test_a_configuration_that_is_no_address_never_becomes_a_rule(namespace: None) -> None:
    with pytest.raises(ValueError, match="0/24"):
        Fence([5432], 1).raise_against("10.9.9.0/24")


@needs_root
def test_a_fence_that_nft_refuses_is_an_error() -> None:
    with pytest.raises(FenceError, match="nft"):
        Fence([99999], 1).raise_against("10.9.9.2")


def test_silence_is_read_per_socket_from_the_kernels_own_clock() -> None:
    one = "0 0 10.0.0.1:4 10.0.0.2:5432\n\t cubic rto:204 rtt:0.1/0.05 lastsnd:12 lastrcv:1536 lastack:12\n"
    assert parse_heard(one) == 1.536
    assert parse_heard(one + one.replace("1536", "40")) == 0.04
    assert parse_heard(one.replace("lastrcv:1536 ", "")) == 0.0
    assert parse_heard("") is None
