"""The tables that faults load: accepted by nftables itself, and never about the controllers."""

from __future__ import annotations

import shutil
import struct
import subprocess

import pytest

from siasops.drill import registry
from siasops.drill.means import hold_packets
from siasops.drill.means.network import NetworkFault, table

FAULTS = {name: fault for name, fault in registry.DRILLS.items() if issubclass(fault, NetworkFault)}


@pytest.mark.parametrize("name", FAULTS)
def test_nftables_accepts_the_table(name: str) -> None:
    nft = shutil.which("nft") or "/usr/sbin/nft"
    fault = FAULTS[name]
    text = table(fault.action, ["192.0.2.1", "192.0.2.2"], fault.ways)
    checked = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", nft, "--check", text],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "syntax error" not in checked.stderr, checked.stderr
    # Not every kernel has a packet queue: that drill is then skipped by name.
    assert checked.returncode == 0 or "queue" in fault.action, checked.stderr


@pytest.mark.parametrize(("ways", "hooks"), [("both", {"input", "output"}), ("in", {"input"}), ("out", {"output"})])
def test_a_way_is_a_chain(ways: str, hooks: set[str]) -> None:
    text = table("drop", ["192.0.2.1"], ways)
    assert {hook for hook in ("input", "output") if f"hook {hook} " in text} == hooks


def told(kind: int, *attributes: tuple[int, bytes]) -> bytes:
    """A message of the kernel about a packet."""
    body = b"".join(hold_packets.attribute(name, value) for name, value in attributes)
    return hold_packets.message(kind, 57, body)


def test_the_numbers_of_held_packets_are_read_from_what_the_kernel_tells() -> None:
    first = told(hold_packets.PACKET, (10, b"payload"), (1, struct.pack(">IHB", 41, 0x0800, 3)))
    second = told(hold_packets.PACKET, (1, struct.pack(">IHB", 42, 0x0800, 3)))
    other = told(hold_packets.CONFIG, (1, struct.pack(">IHB", 43, 0x0800, 3)))
    assert hold_packets.packets(first + other + second) == [41, 42]


def test_a_torn_message_is_no_packet() -> None:
    assert hold_packets.packets(told(hold_packets.PACKET, (1, struct.pack(">IHB", 41, 0, 3)))[:10]) == []
