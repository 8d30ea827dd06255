"""Is this description of two rooms safe to deploy? Pure rules on facts; the preflight role refuses what they find.

Each finding is one sentence that names the host and says what to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network

from siasops.inventory import WITNESS_ROOM, Inventory

MINIMUM_MB = {"databases": 1024, "applications": 1024, "monitoring": 768, "etcd": 512, "bricks": 512}
"""MiB below which a group's services were seen to be killed in the lab."""

CONTROLLER_RESERVE_MB = 4096
"""MiB that the controller of a lab keeps for itself: drills, load, Chromium."""


def findings(
    inventory: Inventory, *, secrets: Mapping[str, str] | None = None, wanted_secrets: tuple[str, ...] = ()
) -> list[str]:
    """Everything that makes the description unsafe.

    Args:
        inventory: the environment.
        secrets: what the secrets file holds; None when it is not there.
        wanted_secrets: keys that must be in it.

    Returns:
        Sentences; empty when the description may be deployed.
    """
    rules: tuple[Callable[[Inventory], list[str]], ...] = (
        _rooms,
        _witness,
        _voters,
        _copies,
        _watchers,
        _addresses,
        _synchronous,
        _memory,
    )
    found = [sentence for rule in rules for sentence in rule(inventory)]
    return found + _secrets(inventory, secrets, wanted_secrets)


def _names(inventory: Inventory, group: str, room: str) -> list[str]:
    return [h.name for h in inventory.group(group, room=room)]


def _rooms(inventory: Inventory) -> list[str]:
    found = []
    if len(inventory.rooms) != 2:  # noqa: PLR2004 - the platform's shape
        found.append(
            f"{inventory.path.name} describes {len(inventory.rooms)} rooms; the platform runs from exactly two, "
            "so write a and b under rooms."
        )
    known = set(inventory.rooms) | {WITNESS_ROOM}
    found += [
        f"{host.name} is in room “{host.room}”, which does not exist; put it in {', '.join(sorted(known))}."
        for host in inventory.hosts.values()
        if host.room not in known
    ]
    for letter in inventory.rooms:
        for group, what in (
            ("databases", "database host"),
            ("applications", "application host"),
            ("repositories", "backup repository"),
            ("directories", "directory server"),
        ):
            if not _names(inventory, group, letter):
                found.append(f"Room {letter} has no {what}, so it could not go on alone; add one to the group {group}.")
        for group, what in (("repositories", "repository"), ("directories", "directory server")):
            extra = _names(inventory, group, letter)[1:]
            if extra:
                found.append(f"Room {letter} has more than one {what}; take {', '.join(extra)} out of {group}.")
    return found


def _witness(inventory: Inventory) -> list[str]:
    witnesses = inventory.group("witnesses")
    if not witnesses:
        return [
            "There is no witness: when the rooms lose sight of each other nobody could decide; add a host in room w to "
            "the group witnesses, outside both rooms."
        ]
    return [
        f"{h.name} is the witness but stands in room {h.room}: it would be lost with that room; give it room w, outside "
        "both rooms."
        for h in witnesses
        if h.room != WITNESS_ROOM
    ]


def _voters(inventory: Inventory) -> list[str]:
    voters = inventory.group("etcd")
    found = []
    if len(voters) % 2 == 0:
        found.append(
            f"etcd has {len(voters)} voters ({', '.join(h.name for h in voters)}); an even number survives no more "
            "than one less: use one per room and one on the witness."
        )
    for letter, count in Counter(h.room for h in voters).items():
        if count > len(voters) // 2:
            names = ", ".join(h.name for h in voters if h.room == letter)
            found.append(
                f"Room {letter} holds {count} of {len(voters)} etcd voters ({names}): losing it would stop the whole "
                "platform; use one voter per room and one on the witness."
            )
    return found


def _copies(inventory: Inventory) -> list[str]:
    bricks = Counter(h.room for h in inventory.group("bricks"))
    wanted = {*inventory.rooms, WITNESS_ROOM}
    if set(bricks) == wanted and set(bricks.values()) == {1}:
        return []
    told = ", ".join(f"{n} in {r}" for r, n in sorted(bricks.items())) or "none"
    return [
        f"Documents need one brick in each room and the arbiter on the witness; found {told}: mend the group bricks."
    ]


def _watchers(inventory: Inventory) -> list[str]:
    return [
        f"Nobody watches from room {letter}: the loss of the others could go unseen; add a host there to the group monitoring."
        for letter in (*inventory.rooms, WITNESS_ROOM)
        if not _names(inventory, "monitoring", letter)
    ]


def _addresses(inventory: Inventory) -> list[str]:
    found = []
    network = ip_network(str(inventory.facts["sias_network"]))
    owners: dict[str, list[str]] = {}
    for name, address in [(h.name, h.address) for h in inventory.hosts.values()] + [
        (f"room {r.letter}", r.address) for r in inventory.rooms.values()
    ]:
        owners.setdefault(address, []).append(name)
        if ip_address(address) not in network:
            found.append(f"{name} has the address {address}, outside {network}; correct one of them.")
    for address, names in owners.items():
        if len(names) > 1:
            found.append(f"{' and '.join(names)} share the address {address}; give each its own.")
    routers = Counter(room.virtual_router_id for room in inventory.rooms.values())
    found += [f"Both rooms use virtual_router_id {n}; give each its own." for n, times in routers.items() if times > 1]
    macs = Counter(h.mac for h in inventory.hosts.values() if h.mac)
    for host in inventory.hosts.values():
        if host.mac and macs[host.mac] > 1:
            found.append(f"{host.name} shares its mac {host.mac} with another machine; give it its own.")
    return found


def _synchronous(inventory: Inventory) -> list[str]:
    """The rule behind “no commit is acknowledged before it is durable in both rooms”: k > neighbours in a room."""
    k = inventory.facts.get("patroni_synchronous_node_count", inventory.synchronous_count)
    found = []
    for letter in inventory.rooms:
        hosts = _names(inventory, "databases", letter)
        if hosts and int(k) <= len(hosts) - 1:
            found.append(
                f"With k = {k} synchronous standbys, a commit on {hosts[0]} could be confirmed inside room {letter} "
                f"alone ({', '.join(hosts[1:])}); leave patroni_synchronous_node_count out, or set it to at least {len(hosts)}."
            )
    total = len(inventory.group("databases"))
    if total and int(k) > total - 1:
        found.append(
            f"k = {k} synchronous standbys are more than the {total - 1} that exist; no commit would ever end."
        )
    return found


def _memory(inventory: Inventory) -> list[str]:
    found = []
    for host in inventory.hosts.values():
        needs = max((MINIMUM_MB.get(g, 0) for g in host.groups), default=0)
        if host.memory_mb < needs:
            found.append(f"{host.name} has {host.memory_mb} MiB, its role needs {needs}; raise memory_mb.")
    if inventory.is_lab:
        import psutil  # noqa: PLC0415 - only where the machines are this machine's

        total = psutil.virtual_memory().total // 2**20
        wanted = sum(h.memory_mb for h in inventory.hosts.values())
        if wanted > total - CONTROLLER_RESERVE_MB:
            found.append(
                f"The lab's machines want {wanted} MiB; this machine has {total} and keeps {CONTROLLER_RESERVE_MB} for "
                "itself. Lower memory_mb, or use inventory/lab.yml."
            )
    return found


def _secrets(inventory: Inventory, secrets: Mapping[str, str] | None, wanted: tuple[str, ...]) -> list[str]:
    if secrets is None:
        how = "`sias lab secrets` makes it" if inventory.is_lab else "make it with ansible-vault create"
        return (
            [f"The secrets of {inventory.environment} are missing ({inventory.secrets_file}): {how}."] if wanted else []
        )
    return [
        f"The secret {key} is missing or empty in {inventory.secrets_file}; "
        + ("`sias lab secrets` makes it." if inventory.is_lab else "add it with ansible-vault edit.")
        for key in wanted
        if not secrets.get(key)
    ]
