"""Rooms' addresses that leave an application host and come home to it, while nobody is cut off.

keepalived looks at a file per room on each application host (`/var/lib/sias-away/room_a`): 1 means that this host does
not hold that room's address. It stays so over a reboot. Who lets go of an address that users are connected to does it by
`let_go.py`, which ends their connections first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from siasops.inventory import Inventory
from siasops.remote import Fleet, RemoteError, Result, wait_until

FOLDER = "/var/lib/sias-away"
QUIET_LIMIT = 10.0
"""Seconds for requests in progress to end; those that last longer are cut off, and new users wait no longer than this."""
MOVE_LIMIT = 5.0
"""Seconds for keepalived to move an address."""
SETTLED = 5
"""Seconds after keepalived's start from which its own questions have been asked twice."""
QUESTIONS = ("alive", "connected", "reached", "served")
"""What keepalived asks before a host may hold an address (role keepalived)."""


def file(room: str) -> str:
    """The file that keepalived looks at for a room's address."""
    return f"{FOLDER}/room_{room}"


def preference(inventory: Inventory, room: str) -> list[str]:
    """Application hosts in the order in which they come to hold a room's address, as the role keepalived ranks them."""
    hosts = inventory.group("applications")
    rank = {host.name: [h.name for h in hosts if h.room == host.room].index(host.name) for host in hosts}
    return [host.name for host in sorted(hosts, key=lambda h: (h.room != room, rank[h.name]))]


def holders(inventory: Inventory, fleet: Fleet) -> dict[str, str | None]:
    """Who holds each room's address; None when nobody does that answers."""
    names = [host.name for host in inventory.group("applications")]
    answers = fleet.run_all("ip -4 -brief address show", hosts=names, timeout=15.0)
    return {
        letter: next((name for name in names if f" {room.address}/" in f" {answers[name].stdout}"), None)
        for letter, room in inventory.rooms.items()
    }


def away(fleet: Fleet, inventory: Inventory, host: str) -> set[str]:
    """Rooms whose address a host does not hold, by its files."""
    said = fleet.run(host, f"grep -lxs 1 {FOLDER}/room_* || :", check=True, timeout=15.0).stdout.split()
    return {letter for letter in inventory.rooms if file(letter) in said}


def leave(inventory: Inventory, fleet: Fleet, host: str, say: Callable[[str], None]) -> None:
    """Let go of every room's address on a host, and see that another one has it. Harmless when it has left.

    Raises:
        RemoteError: it cannot, or nobody else takes an address; then the host may hold it again.
    """
    there = fleet.run(host, f"grep -qs {FOLDER}/ /etc/keepalived/keepalived.conf", timeout=15.0)
    if not there.ok:
        raise RemoteError(f"keepalived on {host} looks at no {FOLDER}: `ansible-playbook playbooks/site.yml` first.")
    for letter, room in inventory.rooms.items():
        _say(_let_go(inventory, fleet, host, letter, then="stay"), letter, say)
        try:
            wait_until(
                lambda letter=letter: holders(inventory, fleet)[letter] not in {None, host},  # type: ignore[misc]
                f"another host holds {room.address} (room {letter})",
                deadline=2 * MOVE_LIMIT,
            )
        except RemoteError:
            allow(fleet, host, letter)
            raise


def come_home(inventory: Inventory, fleet: Fleet, host: str, say: Callable[[str], None]) -> None:
    """Let a host hold addresses again; where it comes before the present holder, that one ends its connections first.

    Raises:
        RemoteError: keepalived would not hold them here, or an address does not come; it then stays where it is.
    """
    left = away(fleet, inventory, host)
    if not left:
        return
    _wait_for_keepalived(fleet, host)
    for letter in sorted(left):
        room, holder = inventory.rooms[letter], holders(inventory, fleet)[letter]
        order = preference(inventory, letter)
        if holder is None or holder == host or order.index(holder) < order.index(host):
            allow(fleet, host, letter)
            continue
        # At the moment when the holder has nothing left to say, and before it lets go.
        here = lambda letter=letter: allow(fleet, host, letter)  # noqa: E731 - of this turn of the loop
        _say(_let_go(inventory, fleet, holder, letter, then="back", quiet=here), letter, say)
        allow(fleet, host, letter)
        wait_until(
            lambda letter=letter: holders(inventory, fleet)[letter] == host,  # type: ignore[misc]
            f"{host} holds {room.address} (room {letter})",
            deadline=2 * MOVE_LIMIT,
        )


def allow(fleet: Fleet, host: str, room: str) -> None:
    """Let a host hold a room's address."""
    fleet.run(host, f"mkdir -p {FOLDER} && echo 0 >{file(room)}", check=True, timeout=15.0)


def _wait_for_keepalived(fleet: Fleet, host: str) -> None:
    """Wait until keepalived has asked its questions, and each would be answered by yes."""
    asked = " && ".join(f"/usr/local/lib/sias/room-address {question}" for question in QUESTIONS)
    since = "$(systemctl show -P ActiveEnterTimestampMonotonic keepalived)"
    line = (
        f"systemctl is-active --quiet keepalived && {asked} && awk -v since={since} -v settled={SETTLED}"
        " '{exit !($1 - since / 1000000 > settled)}' /proc/uptime"
    )
    wait_until(
        lambda: fleet.run(host, line, timeout=15.0).ok,
        f"keepalived on {host} may hold an address (`journalctl -u keepalived` there)",
        deadline=60.0,
        every=1.0,
    )


def _let_go(
    inventory: Inventory, fleet: Fleet, host: str, room: str, *, then: str, quiet: Callable[[], None] | None = None
) -> Result:
    """Run `let_go.py` on a host; `quiet` is called as soon as nothing is left to say on the address.

    Raises:
        RemoteError: keepalived did not give the address up, or the host does not answer.
    """
    script = (Path(__file__).parent / "let_go.py").read_text(encoding="utf-8")
    command = ["python3", "-", inventory.rooms[room].address, file(room), str(QUIET_LIMIT), str(MOVE_LIMIT), then]
    told: list[threading.Thread] = []

    def hear(_: str, word: str) -> None:
        if quiet is not None and word.startswith("quiet"):
            told.append(threading.Thread(target=quiet, daemon=True))
            told[-1].start()

    limit = QUIET_LIMIT + MOVE_LIMIT + 30
    (result,) = fleet.run_each({host: command}, stdin=script, timeout=limit, tell=hear).values()
    for thread in told:
        thread.join(limit)
    if not result.ok:
        said = (result.stderr or result.stdout).strip()[-300:]
        raise RemoteError(f"{host} does not let go of {inventory.rooms[room].address} (room {room}): {said}")
    return result


def _say(result: Result, room: str, say: Callable[[str], None]) -> None:
    quiet = next((word for word in result.stdout.splitlines() if word.startswith("quiet")), "")
    if quiet:
        cut = int(quiet.split()[1])
        how = f"{cut} connections lasted longer than {QUIET_LIMIT:.0f} s and were cut" if cut else "nobody was cut off"
        say(f"{result.host} let go of room {room}'s address, {how}")
