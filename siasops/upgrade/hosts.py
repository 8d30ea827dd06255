"""One host's upgrade, as the controller sees it: begun by `on_host.sh`, followed over links that may be lost, rebooted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siasops.inventory import Inventory
from siasops.remote import Fleet, RemoteError, Result, wait_until

HOME = "/var/lib/sias-debian"
SCRIPT = Path(__file__).parent / "on_host.sh"
LOOK_LIMIT = 180.0
"""Seconds for a host to read the other release's lists."""
DOWNLOAD_LIMIT = 3600.0
WORK_LIMIT = 3600.0
"""Seconds for a host to upgrade its packages; they were fetched before."""
REBOOT_LIMIT = 900.0
"""Seconds for a host to come back; a server's firmware needs minutes."""
STOPPED_LOOKS = 5
"""Looks at which the unit must not run before it counts as ended: systemd is replaced meanwhile, and forgets for a moment."""
LOOK_EVERY = 2.0
SAY_EVERY = 15.0
RUNNING = ("active", "activating", "deactivating", "reloading")
SPARE = 512 << 20
"""Bytes that stay free on a disk when everything is fetched and unpacked."""
BOOT_NEED = 150 << 20
"""Bytes that a kernel and its initial file system take in /boot."""
NEEDED = re.compile(
    r"(haproxy|keepalived|pgbouncer|pgbackrest|glusterfs-(server|client)|etcd-(server|client)|postgresql-(client-)?\d+"
    r"|python3(\.\d+)?|python3-(apt|venv|prometheus-client)|prometheus.*|openssh-server|sudo|systemd|nftables)"
)
"""Packages that the upgrade may replace and must not take away."""


@dataclass(frozen=True)
class Road:
    """What an upgrade goes from and to: releases, and their codenames."""

    old: str
    new: str
    old_name: str
    new_name: str

    @classmethod
    def of(cls, inventory: Inventory, facts: Mapping[str, Any]) -> Road:
        """Make it from a plan's facts."""
        known = inventory.facts["sias_debian"]
        old, new = facts["from"], facts["to"]
        return cls(old, new, known[old]["codename"], known[new]["codename"])


@dataclass(frozen=True)
class Found:
    """What runs on a host."""

    host: str
    debian: str
    boot: str
    """Another one after each start of the machine."""
    audit: str
    """What dpkg complains of; empty when every package is whole."""
    held: tuple[str, ...]
    free: int
    """Bytes, on the disk of packages."""
    free_boot: int
    kernel: bool
    """Whether it has a kernel of its own; a container has none."""
    sources: tuple[tuple[str, str], ...]
    """Suite and origin of every archive that apt reads."""
    unit: str
    result: str
    said: str

    @property
    def whole(self) -> bool:
        """Whether its packages are in order, and no upgrade stands half-way."""
        return not self.audit and self.result not in {"begun", "failed"} and self.unit not in RUNNING


@dataclass(frozen=True)
class Offer:
    """What an upgrade would do to a host: bytes to fetch, bytes more on its disk, packages that go."""

    fetch: int
    take: int
    removed: tuple[str, ...]
    packages: int


def parse_state(host: str, text: str) -> Found:
    """Read what `on_host.sh state` says.

    Raises:
        RemoteError: a line is missing.
    """
    pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line]
    single = {key: value.strip() for key, value in pairs if key != "source"}
    sources = {
        (suite, origin) for key, value in pairs if key == "source" for suite, _, origin in [value.partition("|")]
    }
    try:
        return Found(
            host=host,
            debian=single["debian"],
            boot=single["boot"],
            audit=single["audit"],
            held=tuple(single["held"].split()),
            free=int(single["free"]) << 10,
            free_boot=int(single["free_boot"]) << 10,
            kernel=single["kernel"] not in {"", "0"},
            sources=tuple(sorted(sources)),
            unit=single["unit"],
            result=single["result"],
            said=single["said"],
        )
    except (KeyError, ValueError) as error:
        raise RemoteError(f"{host} did not say how it stands ({error}): {text[-300:]}") from error


_UNITS = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3}


def parse_offer(text: str) -> Offer:
    """Read what apt says of a full-upgrade that it does not carry out."""

    def size(pattern: str) -> int:
        match = re.search(pattern, text)
        return round(float(match[1].replace(",", "")) * _UNITS[match[2]]) if match else 0

    number = r"([\d.,]+) (B|kB|MB|GB)"
    block = re.search(r"^The following packages will be REMOVED:\n((?:  .*\n)+)", text, re.MULTILINE)
    counts = re.search(r"^(\d+) upgraded, (\d+) newly installed", text, re.MULTILINE)
    return Offer(
        # “Need to get 0 B/312 MB”: what is there already is counted behind the stroke.
        fetch=size(rf"Need to get {number}[/ ]"),
        take=size(rf"After this operation, {number} of additional disk space will be used"),
        removed=tuple(word.rstrip("*") for word in block[1].split()) if block else (),
        packages=sum(int(n) for n in counts.groups()) if counts else 0,
    )


def state(fleet: Fleet, host: str) -> Found:
    """Ask a host how it stands.

    Raises:
        RemoteError: it does not answer.
    """
    return parse_state(host, _run(fleet, host, "state", limit=30.0, check=True).stdout)


def states(fleet: Fleet, hosts: Iterable[str]) -> dict[str, Found | None]:
    """Ask hosts at once; None for one that does not answer."""
    answers = fleet.run_each({host: _command("state") for host in hosts}, stdin=_script(), timeout=60.0)
    return {host: parse_state(host, answer.stdout) if answer.ok else None for host, answer in answers.items()}


def offers(
    fleet: Fleet, hosts: Iterable[str], old: str, new: str, say: Callable[[str], None]
) -> dict[str, Offer | str]:
    """Ask apt on each host what the upgrade would do; why not, in words, where it cannot say.

    Host after host: of two that have apt-cacher-ng refresh the same index in the same moment one gets no answer ("Failure to
    move file … File exists" in its log), and apt waits for it until its end.
    """
    found: dict[str, Offer | str] = {}
    for host in hosts:
        say(f"{host}: what apt would do")
        answer = fleet.run(host, _command("look", old, new), stdin=_script(), timeout=LOOK_LIMIT)
        offer = parse_offer(answer.stdout)
        said = (answer.stderr or answer.stdout).strip()[-300:]
        wrong = "" if answer.ok else said or f"apt did not end within {LOOK_LIMIT:.0f} s, and said nothing"
        found[host] = wrong or (offer if offer.packages else f"apt offers nothing: {answer.stdout.strip()[-300:]}")
    return found


def download(fleet: Fleet, hosts: Iterable[str], old: str, new: str, say: Callable[[str], None]) -> None:
    """Fetch every package, host after host, while all of them serve: at once they would take a shared network or disk.

    Raises:
        RemoteError: a host could not.
    """
    for host in hosts:
        answer = fleet.run(host, _command("download", old, new), stdin=_script(), timeout=DOWNLOAD_LIMIT)
        if not answer.ok:
            raise RemoteError(f"{host} could not fetch its packages: {(answer.stderr or answer.stdout).strip()[-400:]}")
        say(f"{host} has every package")


def upgrade(fleet: Fleet, host: str, road: Road, say: Callable[[str], None], *, shared_disk: bool = False) -> None:
    """Upgrade a host's packages, or go on with it, or follow what still runs. Harmless when it is done.

    Args:
        fleet: connections.
        host: the host, away from everything it serves.
        road: from where to where.
        say: told every few seconds how far it is.
        shared_disk: its disk is other hosts' too, as in a lab: they come before a power cut in the middle of it.

    Raises:
        RemoteError: it failed, or does not end; the host is away meanwhile, and `run` goes on.
    """
    found = state(fleet, host)
    if found.unit not in RUNNING:
        if found.debian == road.new and found.result == "done" and not found.audit:
            return
        fleet.run(host, f"mkdir -p {HOME} && cat >{HOME}/on_host.sh", stdin=_script(), check=True)
        how = "shared-disk" if shared_disk else "durable"
        command = ["sh", f"{HOME}/on_host.sh", "start", road.old_name, road.new_name, how]
        fleet.run(host, command, timeout=60.0, check=True)
    found = _follow(fleet, host, say)
    if found.result != "done" or found.debian != road.new:
        tail = fleet.run(host, ["tail", "-n", "12", f"{HOME}/log"], timeout=30.0).stdout.strip()
        raise RemoteError(
            f"{host}: the upgrade of its packages failed; the host is away and the others serve. Mend what its log says "
            f"({HOME}/log there):\n{tail}"
        )


def _follow(fleet: Fleet, host: str, say: Callable[[str], None]) -> Found:
    """Look until the unit has ended; a host whose link is lost is asked again."""
    end, spoken, idle, last = time.monotonic() + WORK_LIMIT, 0.0, 0, ""
    while True:
        answer = _run(fleet, host, "state", limit=30.0)
        if answer.ok:
            found = parse_state(host, answer.stdout)
            idle = 0 if found.unit in RUNNING else idle + 1
            if idle >= STOPPED_LOOKS:
                return found
            if found.said != last and time.monotonic() - spoken > SAY_EVERY:
                spoken, last = time.monotonic(), found.said
                say(f"{host}: {found.said}")
        else:
            idle = 0
            fleet.forget([host])
        if time.monotonic() > end:
            raise RemoteError(f"{host}: the upgrade still runs after {WORK_LIMIT:.0f} s; see {HOME}/log there.")
        time.sleep(LOOK_EVERY)


def reboot(fleet: Fleet, host: str, boot: str, *, limit: float = REBOOT_LIMIT) -> float:
    """Reboot a host that still runs the boot named, and wait until it is another one. Harmless when it has been.

    Args:
        fleet: connections.
        host: the host.
        boot: what `Found.boot` was before.
        limit: seconds for it to come back.

    Returns:
        Seconds that it took.

    Raises:
        RemoteError: it does not come back in time.
    """
    answer = _run(fleet, host, "state", limit=30.0)
    if answer.ok and parse_state(host, answer.stdout).boot == boot:
        _run(fleet, host, "reboot", limit=30.0, check=True)

    def back() -> bool:
        # A kept connection may be the dead machine's.
        fleet.forget([host])
        answer = _run(fleet, host, "state", limit=20.0)
        return (
            answer.ok
            and parse_state(host, answer.stdout).boot != boot
            and fleet.run(host, "systemctl is-system-running", timeout=20.0).stdout.strip() in {"running", "degraded"}
        )

    return wait_until(back, f"{host} is back from its reboot (see its console)", deadline=limit, every=LOOK_EVERY)


def tidy(fleet: Fleet, hosts: Iterable[str]) -> dict[str, Result]:
    """Remove what the former release left and nobody needs, on every host at once."""
    return fleet.run_each({host: _command("tidy") for host in hosts}, stdin=_script(), timeout=WORK_LIMIT)


def _script() -> str:
    return SCRIPT.read_text(encoding="utf-8")


def _command(*words: str) -> list[str]:
    return ["sh", "-s", "--", *words]


def _run(fleet: Fleet, host: str, *words: str, limit: float, check: bool = False) -> Result:
    return fleet.run(host, _command(*words), stdin=_script(), timeout=limit, check=check)
