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


READER = """import socket, sys, time
link = socket.create_connection(("10.9.9.1", 5432), 1); link.settimeout(1)
link.sendall(b"x"); print("open", link.recv(1), flush=True)
sys.stdin.readline()
try:
    link.sendall(b"y"); print("answer", link.recv(1), flush=True)
except OSError as error:
    print("closed", type(error).__name__, flush=True)
end = time.monotonic() + 6
while True:
    try:
        socket.create_connection(("10.9.9.1", 5432), 0.5).close(); print("open again"); break
    except OSError:
        assert time.monotonic() < end
        time.sleep(0.1)
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
        fence = Fence(postgres=5432, patroni=8008, seconds=2)
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
        fence = Fence(postgres=5432, patroni=8008, seconds=30)
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
        Fence(postgres=5432, patroni=8008, seconds=1).raise_against("10.9.9.0/24")


@needs_root
def test_a_fence_that_nft_refuses_is_an_error() -> None:
    with pytest.raises(FenceError, match="nft"):
        Fence(postgres=99999, patroni=8008, seconds=1).raise_against("10.9.9.2")


@needs_root
def test_a_door_that_is_closed_opens_by_itself(namespace: None) -> None:
    """A reader on the other end of the wire has a session; the door closes before it, and opens again."""
    program = """
        import subprocess, sys, threading
        server = socket.create_server(("10.9.9.1", 5432))
        def serve():
            while True:
                peer, _ = server.accept()
                def echo(peer=peer):
                    try:
                        while (data := peer.recv(100)):
                            peer.sendall(data)
                    except OSError:
                        pass
                threading.Thread(target=echo, daemon=True).start()
        threading.Thread(target=serve, daemon=True).start()
        other = subprocess.Popen(["ip", "netns", "exec", "sias-fence-there", sys.executable, "-c", reader],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        print(other.stdout.readline())
        fence = Fence(postgres=5432, patroni=8008, seconds=2)
        fence.close_door("10.9.9.1", 2)
        assert fence.standing("closed") == ["10.9.9.1"] and fence.standing() == []
        print(other.communicate("go\\n")[0])
    """
    said = inside(f"reader = {READER!r}\n" + textwrap.dedent(program))
    assert "open b'x'" in said
    assert "closed Connection" in said
    assert "open again" in said


def test_silence_is_read_per_socket_from_the_kernels_own_clock() -> None:
    one = "0 0 10.0.0.1:4 10.0.0.2:5432\n\t cubic rto:204 rtt:0.1/0.05 lastsnd:12 lastrcv:1536 lastack:12\n"
    assert parse_heard(one) == 1.536
    assert parse_heard(one + one.replace("1536", "40")) == 0.04
    assert parse_heard(one.replace("lastrcv:1536 ", "")) == 0.0
    assert parse_heard("") is None
