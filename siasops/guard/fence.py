"""Cut one primary off on this host: no WAL from it, no confirmation to it, no answer of its Patroni.

A table of nftables that is the guard's own. What is in its set ends by itself, in the kernel, whatever becomes of the
guard. Connections of the new primary's standbys are not touched: only the ports *of the former primary* are refused.
"""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess

TABLE = "sias_guard"
DEADLINE = 2.0
"""Seconds for one call of nft or ss."""

# The reset that the kernel answers with comes back over loopback in the primary's name, and must get through.
RULES = """
add table inet {table}
add set inet {table} cut {{ type ipv4_addr; flags timeout; }}
add chain inet {table} output {{ type filter hook output priority -10; policy accept; }}
add chain inet {table} input {{ type filter hook input priority -10; policy accept; }}
flush chain inet {table} output
flush chain inet {table} input
add rule inet {table} output ip daddr @cut tcp dport {{ {ports} }} counter reject with tcp reset
add rule inet {table} input iifname != lo ip saddr @cut tcp sport {{ {ports} }} counter drop
"""


class FenceError(Exception):
    """The fence does not stand; says what nft answered."""


class Fence:
    """The fence of this host towards a primary's PostgreSQL and Patroni ports."""

    def __init__(self, ports: list[int], seconds: int) -> None:
        """Prepare.

        Args:
            ports: of PostgreSQL and of Patroni's REST interface.
            seconds: after which the kernel lifts the fence by itself.
        """
        self.ports = ports
        self.seconds = seconds

    def raise_against(self, address: str) -> None:
        """Cut `address` off, and look whether it is.

        Raises:
            FenceError: it is not.
        """
        ipaddress.IPv4Address(address)  # a configuration's mistake must not become a rule
        rules = RULES.format(table=TABLE, ports=", ".join(str(port) for port in self.ports))
        # Removed first where it is: an element that exists keeps its old time.
        _nft(f"{rules}add element inet {TABLE} cut {{ {address} timeout 1s }}\n"
             f"delete element inet {TABLE} cut {{ {address} }}\n"
             f"add element inet {TABLE} cut {{ {address} timeout {self.seconds}s }}\n")  # fmt: skip
        if address not in self.standing():
            raise FenceError(f"nft took the rules, and {address} is not cut off")

    def lift(self) -> None:
        """Let everything through again.

        Raises:
            FenceError: nft refused; the kernel lifts the fence at its time.
        """
        _nft(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")

    def standing(self) -> list[str]:
        """Addresses that are cut off now."""
        done = _run("nft", "--json", "list", "set", "inet", TABLE, "cut")
        if done.returncode != 0:
            return []
        elements = [
            element
            for item in json.loads(done.stdout).get("nftables", [])
            for element in item.get("set", {}).get("elem", [])
        ]
        return [element["elem"]["val"] if isinstance(element, dict) else element for element in elements]


def heard_ago(address: str, port: int) -> float | None:
    """Seconds since anything came over this host's connections to `address`:`port`; None when there is no connection.

    The kernel's own clock per socket (tcp_info.tcpi_last_data_recv): asking PostgreSQL could hang with it.
    """
    done = _run("ss", "-tinH", "state", "established", f"dst {address}:{port}")
    return parse_heard(done.stdout)


def parse_heard(text: str) -> float | None:
    """Read the smallest `lastrcv` (milliseconds) of `ss -ti`; a socket without one received just now."""
    sockets = [line for line in text.splitlines() if "rto:" in line]
    if not sockets:
        return None
    found = [re.search(r"\blastrcv:(\d+)", line) for line in sockets]
    return min(int(match[1]) / 1000 if match else 0.0 for match in found)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)


def _nft(rules: str) -> None:
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=rules, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FenceError(f"nft did not end within {DEADLINE:.0f} s") from error
    if done.returncode != 0:
        raise FenceError(f"nft: {done.stderr.strip()[:300]}")
