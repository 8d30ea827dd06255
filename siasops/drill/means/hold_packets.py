#!/usr/bin/env python3
"""Hold the packets of a netfilter queue for a while, then let them go: added latency where the kernel has no netem.

    hold_packets.py QUEUE MILLISECONDS JITTER_MS

Runs on a host, with its own Python and nothing else. See linux/netfilter/nfnetlink_queue.h.
"""

from __future__ import annotations

import heapq
import random
import select
import socket
import struct
import sys
import time

NETLINK_NETFILTER = 12
SUBSYSTEM = 3 << 8
PACKET, VERDICT, CONFIG = 0, 1, 2
COMMAND, PARAMETERS, LENGTH = 1, 2, 3
BIND = 1
COPY_META = 1
ACCEPT = 1
HEADER = 16
QUEUED = 20_000
"""Packets that the kernel keeps for us at most."""


def attribute(kind: int, body: bytes) -> bytes:
    """Make a netlink attribute, padded."""
    return struct.pack("=HH", 4 + len(body), kind) + body + bytes(-len(body) % 4)


def message(kind: int, queue: int, body: bytes) -> bytes:
    """Make a message to the queue."""
    payload = struct.pack("=BB", 0, 0) + struct.pack(">H", queue) + body
    return struct.pack("=IHHII", HEADER + len(payload), SUBSYSTEM | kind, 1, 0, 0) + payload


def packets(data: bytes) -> list[int]:
    """Read the numbers of the packets that the kernel tells of."""
    found = []
    at = 0
    while at + HEADER <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < HEADER:
            break
        here, end = at + HEADER + 4, at + length
        while kind == SUBSYSTEM | PACKET and here + 4 <= end:
            size, name = struct.unpack_from("=HH", data, here)
            if size < 4:  # noqa: PLR2004 - an attribute's own header
                break
            if name & 0x7FFF == 1:
                found.append(struct.unpack_from(">I", data, here + 4)[0])
                break
            here += (size + 3) & ~3
        at += (length + 3) & ~3
    return found


def main() -> None:
    """Hold packets until ended."""
    queue, delay, jitter = int(sys.argv[1]), float(sys.argv[2]) / 1000, float(sys.argv[3]) / 1000
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    link.bind((0, 0))
    link.setblocking(False)
    link.send(message(CONFIG, queue, attribute(COMMAND, struct.pack(">BBH", BIND, 0, socket.AF_INET))))
    link.send(message(CONFIG, queue, attribute(PARAMETERS, struct.pack(">IB", 0xFFFF, COPY_META))))
    link.send(message(CONFIG, queue, attribute(LENGTH, struct.pack(">I", QUEUED))))
    held: list[tuple[float, int]] = []
    while True:
        now = time.monotonic()
        while held and held[0][0] <= now:
            _, number = heapq.heappop(held)
            link.send(message(VERDICT, queue, attribute(2, struct.pack(">II", ACCEPT, number))))
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        if not select.select([link], [], [], wait)[0]:
            continue
        arrived = time.monotonic()
        for number in packets(link.recv(65536)):
            spread = random.uniform(-jitter, jitter)  # noqa: S311 - a delay, not a secret
            heapq.heappush(held, (arrived + max(0.0, delay + spread), number))


if __name__ == "__main__":
    main()
