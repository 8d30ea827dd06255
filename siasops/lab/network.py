"""The lab's own network on the controller: one bridge, no forwarding, no name service, and a cache of Debian packages.

A blackhole route for the lab's network keeps the traffic of drills and load on this machine when the bridge is down.
"""

from __future__ import annotations

import ipaddress
import shutil
import socket
import subprocess
import time
from pathlib import Path

from siasops.errors import UserError
from siasops.inventory import Inventory

CACHE = Path("/var/cache/sias-lab")
"""Boxes and Debian packages, shared by every checkout on this machine."""


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode != 0:
        raise UserError(f"“ip {' '.join(words)}” failed: {done.stderr.strip()}. The lab needs root and iproute2.")
    return done.stdout


def up(inventory: Inventory) -> None:
    """Make the bridge and the blackhole route; what exists is made right, not made again."""
    bridge, gateway = str(inventory.facts["lab_bridge"]), str(inventory.facts["lab_gateway"])
    network = ipaddress.ip_network(str(inventory.facts["sias_network"]))
    if not Path("/sys/class/net", bridge).exists():
        _ip("link", "add", bridge, "type", "bridge", "forward_delay", "0")
    _ip("address", "replace", f"{gateway}/{network.prefixlen}", "dev", bridge)
    _ip("link", "set", bridge, "up")
    _ip("route", "replace", "blackhole", str(network), "metric", "4242")


def down(inventory: Inventory) -> None:
    """Remove the bridge; the blackhole route stays."""
    bridge = str(inventory.facts["lab_bridge"])
    if Path("/sys/class/net", bridge).exists():
        _ip("link", "delete", bridge)


def cache_up(inventory: Inventory, *, deadline: float = 15.0) -> None:
    """Start the package cache on the bridge's address unless it answers already.

    Args:
        inventory: a lab.
        deadline: seconds to wait for it to answer.

    Raises:
        UserError: when it does not answer in time; names its log.
    """
    address = str(inventory.facts["lab_gateway"])
    if _answers(address):
        return
    binary = shutil.which("apt-cacher-ng") or "/usr/sbin/apt-cacher-ng"
    home = CACHE / "apt"
    configuration = home / "etc"
    for folder in (home / "cache", home / "log", configuration):
        folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"CacheDir: {home / 'cache'}",
        f"LogDir: {home / 'log'}",
        "SupportDir: /usr/lib/apt-cacher-ng",
        "Port: 3142",
        f"BindAddress: {address}",
        "ReportPage:",
        "ExThreshold: 30",
        "PassThroughPattern: .*:443$",
    ]
    upstream = subprocess.run(
        ["apt-config", "shell", "PROXY", "Acquire::http::Proxy"],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    ).stdout
    if "'" in upstream and upstream.split("'")[1] not in ("", "DIRECT"):
        lines.append(f"Proxy: {upstream.split(chr(39))[1]}")
    (configuration / "acng.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run([binary, "-c", str(configuration)], capture_output=True, timeout=deadline, check=False)
    end = time.monotonic() + deadline
    while not _answers(address):
        if time.monotonic() > end:
            raise UserError(
                f"The package cache does not answer on {address}:3142 after {deadline:.0f} s; see {home / 'log'}."
            )
        time.sleep(0.1)


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 3142), timeout=1):
            return True
    except OSError:
        return False
