"""Cut one primary off on this host; or close the door of a primary that is alone.

Cut off: no WAL from it, no confirmation to it, no answer of its Patroni. Closed: nobody reads here what is old by now.
Both are sets of an nftables table that is the guard's own; what is in them ends by itself, in the kernel, whatever becomes
of the guard. The new primary's standbys are not touched: only the ports *of the former primary* are refused.
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
add set inet {table} closed {{ type ipv4_addr; flags timeout; }}
add chain inet {table} output {{ type filter hook output priority -10; policy accept; }}
add chain inet {table} input {{ type filter hook input priority -10; policy accept; }}
flush chain inet {table} output
flush chain inet {table} input
add rule inet {table} output ip daddr @cut tcp dport {{ {ports} }} counter reject with tcp reset
add rule inet {table} input iifname != lo ip saddr @cut tcp sport {{ {ports} }} counter drop
add rule inet {table} input iifname != lo ip daddr @closed tcp dport {postgres} counter reject with tcp reset
"""


class FenceError(Exception):
    """The fence does not stand; says what nft answered."""


class Fence:
    """The fence of this host: towards a primary's PostgreSQL and Patroni ports, and before its own PostgreSQL."""

    def __init__(self, *, postgres: int, patroni: int, seconds: int) -> None:
        """Prepare.

        Args:
            postgres: port of PostgreSQL, everywhere.
            patroni: port of Patroni's REST interface, everywhere.
            seconds: after which the kernel lifts the fence against a primary by itself.
        """
        self.seconds = seconds
        self._rules = RULES.format(table=TABLE, ports=f"{postgres}, {patroni}", postgres=postgres)

    def raise_against(self, address: str) -> None:
        """Cut `address` off, and look whether it is.

        Raises:
            FenceError: it is not.
        """
        self._set("cut", address, self.seconds)
        if address not in self.standing():
            raise FenceError(f"nft took the rules, and {address} is not cut off")

    def close_door(self, own: str, seconds: int) -> None:
        """Let nobody but this host itself reach the PostgreSQL on `own` for some seconds.

        Raises:
            FenceError: nft refused.
        """
        self._set("closed", own, seconds)

    def lift(self) -> None:
        """Let everything through again.

        Raises:
            FenceError: nft refused; the kernel lifts the fence at its time.
        """
        _nft(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")

    def standing(self, which: str = "cut") -> list[str]:
        """Addresses that are cut off now, or `closed`."""
        done = _run("nft", "--json", "list", "set", "inet", TABLE, which)
        if done.returncode != 0:
            return []
        elements = [
            element
            for item in json.loads(done.stdout).get("nftables", [])
            for element in item.get("set", {}).get("elem", [])
        ]
        return [element["elem"]["val"] if isinstance(element, dict) else element for element in elements]

    def _set(self, which: str, address: str, seconds: int) -> None:
        ipaddress.IPv4Address(address)  # a configuration's mistake must not become a rule
        element = f"element inet {TABLE} {which}"
        # Removed first where it is: an element that exists keeps its old time.
        _nft(
            f"{self._rules}add {element} {{ {address} timeout 1s }}\ndelete {element} {{ {address} }}\n"
            f"add {element} {{ {address} timeout {seconds}s }}\n"
        )


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
