"""The way back of one host: Debian has no road from 13 to 12, so that the host is made anew and deployed.

Its data come from the others: PostgreSQL copies the primary, the brick is healed, etcd takes it in as a new voter. What has
no copy elsewhere goes: the room's backup repository begins anew with a full backup (the other room's has the past), and the
witness forgets its figures.
"""

from __future__ import annotations

from siasops.console import Progress
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.lab import machines
from siasops.remote import Fleet
from siasops.upgrade import hosts

PLATFORM_FILES = "/etc/sias"
"""A host that has this was deployed already."""


def make_anew(inventory: Inventory, fleet: Fleet, host: str, release: str, progress: Progress) -> None:
    """Have a bare host of a release under this name; harmless when it is there.

    In a lab its machine is made by Vagrant. Elsewhere people make it: this says so, and goes on when it is there.

    Raises:
        UserError: it is not there yet; says what to do.
    """
    if _is_bare(fleet, host, release):
        return
    if not inventory.is_lab:
        address = inventory.hosts[host].address
        raise UserError(
            f"{host} must be made anew: a bare Debian {release} with this name, the address {address}, ssh, and sudo for "
            f"{inventory.facts.get('ansible_user')}; then its new host key into your known_hosts. It is away, so its disks may "
            "be erased now. `sias upgrade debian rollback` goes on when it is there."
        )
    with machines.lock(inventory, f"sias upgrade debian rollback, {host}", progress.say):
        machines.rebuild(inventory, host, release, progress.say)
    fleet.rebuilt([host])
    if not _is_bare(fleet, host, release):
        raise UserError(f"{host} was made anew and is still no bare Debian {release}: see `sias lab status`.")


def _is_bare(fleet: Fleet, host: str, release: str) -> bool:
    found = hosts.states(fleet, [host])[host]
    return (
        found is not None
        and found.debian == release
        and fleet.run(host, ["test", "!", "-e", PLATFORM_FILES], timeout=15.0).ok
    )
