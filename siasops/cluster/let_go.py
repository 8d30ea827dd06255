"""Let go of a room's address without cutting anybody off.

    python3 - ADDRESS FILE QUIET_SECONDS MOVE_SECONDS stay|back < let_go.py      (as root; standard library only)

Runs on the application host that holds the address. New connections to the address are dropped by the kernel, so that
browsers try again a second later; HAProxy's reload ends the idle ones; when none is left the file tells keepalived to give
the address up, and another host takes it. `stay`: the file goes on saying so, over a reboot. `back`: it does not, for an
address that goes home to a host that comes before this one.

Says `quiet N` (N connections were still there at the limit), then `gone` or `held`. What it dropped is let through again
whatever happens, and by the kernel's own clock when this process is killed. Exit 1 when keepalived does not give the
address up: the file says no more then that it should.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TABLE = "sias_away"
LOOK_EVERY = 0.05
SPARE = 10
"""Seconds that the kernel goes on dropping after both limits, should nobody be there to end it."""
UNFINISHED = ("established", "syn-recv", "fin-wait-1", "close-wait", "last-ack")
"""States of a connection in which something is still to be said."""
RULES = """
table inet {table} {{
  set held {{
    type ipv4_addr
    flags timeout
  }}
  chain input {{
    type filter hook input priority -10; policy accept;
    ip daddr @held tcp flags & (syn | ack) == syn drop
  }}
}}
add element inet {table} held {{ {address} timeout {seconds}s }}
"""


def run(*command: str, text: str | None = None, limit: float = 10.0) -> str:
    """Run a command; what it said."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=limit)
    return done.stdout


def unfinished(address: str) -> int:
    """Count the connections to the address."""
    states = [word for state in UNFINISHED for word in ("state", state)]
    return len(run("ss", "-Htn", *states, "src", address).splitlines())


def held(address: str) -> bool:
    """Whether this host has the address."""
    links = json.loads(run("ip", "-4", "-json", "address", "show"))
    return any(entry.get("local") == address for link in links for entry in link.get("addr_info", []))


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition held in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(LOOK_EVERY)
    return True


def say(word: str) -> None:
    """Tell whoever started this, at once; nobody may be there any more."""
    with contextlib.suppress(OSError):
        print(word, flush=True)


def main() -> int:
    """Command line: see above."""
    address, file, quiet, move, then = sys.argv[1:]
    marker = Path(file)
    gone = False
    try:
        if held(address):
            seconds = int(float(quiet) + float(move)) + SPARE
            run("nft", "-f", "-", text=RULES.format(table=TABLE, address=address, seconds=seconds))
            # Its former process ends the connections that say nothing, and those that speak once they have finished.
            run("systemctl", "reload", "haproxy.service", limit=30.0)
            until(lambda: unfinished(address) == 0, float(quiet))
            say(f"quiet {unfinished(address)}")
        marker.write_text("1\n", encoding="ascii")
        gone = until(lambda: not held(address), float(move))
        say("gone" if gone else "held")
    finally:
        if not gone or then == "back":
            marker.write_text("0\n", encoding="ascii")
        subprocess.run(["nft", "delete", "table", "inet", TABLE], capture_output=True, check=False, timeout=10)
    return 0 if gone else 1


if __name__ == "__main__":
    sys.exit(main())
