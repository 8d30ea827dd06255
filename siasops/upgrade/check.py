"""Go or no-go for a Debian upgrade: a line for each thing that was looked at, what was found, and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from siasops.backup import archive
from siasops.backup import check as backups
from siasops.backup.catalogue import read
from siasops.calendar.due import due
from siasops.change import state as changes
from siasops.cluster import absence, instance
from siasops.cluster.check import Line, check, together
from siasops.cluster.client import Asker
from siasops.cluster.view import View, look
from siasops.drill.faults import Stage
from siasops.inventory import ROOT, Inventory
from siasops.release.host import version_of
from siasops.remote import Fleet
from siasops.upgrade import documents, hosts
from siasops.upgrade.hosts import BOOT_NEED, NEEDED, SPARE, Found, Offer, Road

KIND = "debian_upgrade"
"""As in the release calendar."""
OURS = re.compile(r"sias|patroni|etcd|haproxy|keepalived|pgbouncer|pgbackrest|gluster|prometheus|nftables|ssh")
"""Units that the platform stands on; what else a machine's own Debian fails to start is not this upgrade's."""


def lines(stage: Stage, facts: Mapping[str, Any]) -> list[Line]:
    """Everything that must hold before the first host is touched."""
    inventory, fleet = stage.inventory, stage.fleet
    road, chosen = Road.of(inventory, facts), [*facts["early"], *facts["late"], *facts["last"]]
    view = look(inventory, fleet)
    cluster, states = check(view), hosts.states(fleet, chosen)
    return [
        together(
            "The platform could lose a host now", cluster, "Mend that first: one host after the other will be away."
        ),
        nobody_away(fleet),
        *one_version(inventory, view),
        _release(inventory, fleet),
        *backed_up(inventory, fleet),
        *restores(inventory, fleet),
        _documents(inventory, fleet),
        *packages(road, states),
        *room(road, states, hosts.offers(fleet, chosen, road.old_name, road.new_name, stage.say)),
        due(inventory, KIND, cluster),
    ]


def verified(stage: Stage, facts: Mapping[str, Any]) -> list[Line]:
    """Everything that must hold at the end."""
    inventory, fleet = stage.inventory, stage.fleet
    road = Road.of(inventory, facts)
    states = hosts.states(fleet, inventory.hosts)
    wrong = [
        f"{name}: "
        + ("does not answer" if found is None else f"Debian {found.debian}{'' if found.whole else ', not whole'}")
        for name, found in states.items()
        if found is None or found.debian != road.new or not found.whole
    ]
    view = look(inventory, fleet)
    majors = sorted({member.version.split(".")[0] for member in view.members if member.answers})
    listed = fleet.run_all("systemctl list-units --failed --plain --no-legend | cut -d ' ' -f 1", timeout=30.0)
    failed = {
        name: units
        for name, answer in listed.items()
        if (units := [unit for unit in answer.stdout.split() if OURS.match(unit)])
    }
    return [
        Line(not wrong, f"Every host runs Debian {road.new}", "; ".join(wrong) or f"{len(states)} hosts, every package whole"),
        _major(inventory, facts, majors),
        *one_version(inventory, view),
        Line(not failed, "No service has failed", "; ".join(f"{n}: {', '.join(u)}" for n, u in failed.items()) or "none",
             "See `systemctl status` of each there." if failed else ""),
        nobody_away(fleet),
        *check(view),
        *backed_up(inventory, fleet),
    ]  # fmt: skip


def _major(inventory: Inventory, facts: Mapping[str, Any], found: list[str]) -> Line:
    """Whether the upgrade left PostgreSQL's major version alone; a migration that came to its end after it is no doing of its."""
    past = changes.every(inventory)
    mine = max((state.id for state in past if state.kind == "debian" and state.facts == facts), default="")
    since = [
        state for state in past if state.kind == "postgres" and state.status == "done" and mine and state.id > mine
    ]
    wanted = since[0].facts["to"] if since else facts["postgresql"]
    told = f", {wanted} by {since[0].id} since" if since else ""
    return Line(
        found == [wanted],
        "PostgreSQL's major version is what it was",
        f"{', '.join(found) or 'unknown'}, {facts['postgresql']} before{told}",
    )


def one_version(inventory: Inventory, view: View) -> Iterator[Line]:
    """Whether every member runs the same PostgreSQL's major version, and the same Patroni."""
    majors = {member.version.split(".")[0] for member in view.members}
    yield Line(
        len(majors) == 1,
        "One major version of PostgreSQL",
        ", ".join(f"{member.host} {member.version or 'unknown'}" for member in view.members),
        "" if len(majors) == 1 else "Finish that migration first.",
    )
    with Asker(inventory) as asker:
        answers = {
            host.name: asker.json(host.address, instance.of(inventory).serving.patroni, "/patroni")
            for host in inventory.group("databases")
        }
    patroni = {name: (answer or {}).get("patroni", {}).get("version", "unknown") for name, answer in answers.items()}
    same = len(set(patroni.values())) == 1 and "unknown" not in patroni.values()
    yield Line(
        same,
        "One version of Patroni",
        ", ".join(f"{name} {version}" for name, version in patroni.items()),
        "" if same else "`ansible-playbook playbooks/site.yml --tags patroni`, then restart the one that lags behind.",
    )


def packages(road: Road, states: Mapping[str, Found | None]) -> Iterator[Line]:
    """Whether apt and dpkg of every host are in order, and know only what the upgrade can follow."""
    silent = [name for name, found in states.items() if found is None]
    yield Line(not silent, "Every host says how it stands", ", ".join(silent) or f"{len(states)} hosts")
    answering = {name: found for name, found in states.items() if found is not None}
    broken = [f"{name}: {found.audit}" for name, found in answering.items() if found.audit]
    yield Line(
        not broken, "Every package is whole", "; ".join(broken) or "dpkg --audit says nothing",
        "There: `dpkg --configure -a`, `apt-get --fix-broken install`." if broken else "",
    )  # fmt: skip
    held = [f"{name}: {', '.join(found.held)}" for name, found in answering.items() if found.held]
    yield Line(
        not held, "No package is held", "; ".join(held) or "none",
        "There: `apt-mark unhold`; a held package keeps its libraries, and others, on the former release." if held else "",
    )  # fmt: skip
    odd = [
        f"{name}: {suite} of {origin or 'an unknown origin'}"
        for name, found in answering.items()
        for suite, origin in found.sources
        if origin != "Debian" or not suite.startswith(road.old_name)
    ]
    none = [name for name, found in answering.items() if not found.sources]
    yield Line(
        not odd and not none,
        f"Packages come from Debian, and sources name {road.old_name}",
        "; ".join([*odd, *(f"{name}: apt has read no archive" for name in none)]) or f"on {len(answering)} hosts",
        f"Write {road.old_name} instead of stable or oldstable; take other archives out, and see what came from them."
        if odd or none
        else "",
    )


def room(road: Road, states: Mapping[str, Found | None], offers: Mapping[str, Offer | str]) -> Iterator[Line]:
    """Whether every host can fetch the next release, has room for it, and loses nothing that it needs."""
    mute = [f"{name}: {offer}" for name, offer in offers.items() if isinstance(offer, str)]
    known = {name: offer for name, offer in offers.items() if isinstance(offer, Offer)}
    most = max((offer.fetch for offer in known.values()), default=0)
    yield Line(
        not mute, f"Every host's mirror has Debian {road.new}",
        "; ".join(mute) or f"{len(known)} hosts, at most {most >> 20} MiB to fetch",
        "Does the mirror carry it, and does the host trust its key (package debian-archive-keyring)?" if mute else "",
    )  # fmt: skip
    tight = []
    for name, offer in known.items():
        found = states.get(name)
        if found is None:
            continue
        need = offer.fetch + offer.take + SPARE
        if found.free < need:
            tight.append(f"{name}: {found.free >> 20} MiB free on /, {need >> 20} needed")
        if found.kernel and found.free_boot < BOOT_NEED:
            tight.append(f"{name}: {found.free_boot >> 20} MiB free on /boot, {BOOT_NEED >> 20} needed")
    yield Line(
        not tight, "Every disk has room", "; ".join(tight) or "what is fetched and unpacked fits, and some to spare",
        "`apt-get clean`, `apt-get autoremove` (old kernels), or a larger disk." if tight else "",
    )  # fmt: skip
    lost = [
        f"{name}: {', '.join(words)}"
        for name, offer in known.items()
        if (words := [package for package in offer.removed if NEEDED.fullmatch(package)])
    ]
    yield Line(
        not lost, "Nothing that is needed goes", "; ".join(lost) or "apt would remove only what it replaces",
        "A package of another origin stands in the way: find it by `apt-get -s full-upgrade` there." if lost else "",
    )  # fmt: skip


def restores(inventory: Inventory, fleet: Fleet, *, now: float | None = None) -> Iterator[Line]:
    """Whether each room's repository was proven to restore lately, by the record of the host that proves it."""
    moment = datetime.now(UTC).timestamp() if now is None else now
    names = [host.name for host in inventory.group("databases")]
    answers = fleet.run_all(["cat", "/var/lib/sias-restore/record.json"], hosts=names, timeout=15.0)
    records = [json.loads(answer.stdout) for answer in answers.values() if answer.ok]
    limit = float(inventory.objectives["restore_proven_age"])
    for letter in inventory.rooms:
        # A host of its own room keeps the record of its repository; one that others prove elsewhere is not noted.
        here = inventory.group("databases", room=letter)[0].name
        mine = [record for record in records if record.get("repository") == letter]
        proven = max((float(record.get("proven", 0)) for record in mine), default=0.0)
        good = moment - proven <= limit
        yield Line(
            good,
            f"Room {letter}'s repository was proven to restore",
            f"{backups.hours(moment - proven)} ago (at most {backups.hours(limit)})" if proven else "never",
            "" if good else f"`sias backup restore --room {letter} --to-latest --on {here}`.",
        )


def nobody_away(fleet: Fleet) -> Line:
    """Whether no host is away."""
    absent = absence.away(fleet)
    action = f"`sias host return {absent[0]} --yes`." if absent else ""
    return Line(not absent, "No host is away", ", ".join(absent) or "none", action)


def _release(inventory: Inventory, fleet: Fleet) -> Line:
    """Whether this checkout's release is the one that runs: each host is deployed from here after its upgrade."""
    wanted = version_of(ROOT / "app")
    names = [host.name for host in inventory.group("applications")]
    answers = fleet.run_all("readlink /opt/sias/current", hosts=names, timeout=15.0)
    runs = {name: answer.stdout.strip().rsplit("/", 1)[-1] for name, answer in answers.items()}
    other = {name: version for name, version in runs.items() if version != wanted}
    return Line(
        not other,
        "This checkout is the release that runs",
        "; ".join(f"{name} runs {version or 'none'}, here is {wanted}" for name, version in other.items()) or wanted,
        "Check out what runs, or release first: an upgraded host is deployed from here." if other else "",
    )


def backed_up(inventory: Inventory, fleet: Fleet) -> Iterator[Line]:
    """What `sias backup check` finds."""
    found = backups.check(
        read(inventory, fleet),
        archive.look(inventory, fleet),
        archive.gaps(inventory, fleet),
        inventory.objectives,
        datetime.now(UTC),
    )
    for line in found:
        yield Line(line.ok, f"Backups: {line.what}", line.found, line.advice)


def _documents(inventory: Inventory, fleet: Fleet) -> Line:
    names = documents.bricks(inventory)
    answers = fleet.run_all("gluster --mode=script peer status", hosts=names, timeout=30.0)
    states = {name: documents.peers(answer.stdout) for name, answer in answers.items()}
    wrong = [
        f"{name} sees {peer}: {state}"
        for name, seen in states.items()
        for peer, state in seen.items()
        if state != "Peer in Cluster (Connected)"
    ] + [
        f"{name} sees {len(seen)} of {len(names) - 1} peers"
        for name, seen in states.items()
        if len(seen) < len(names) - 1
    ]
    return Line(
        not wrong,
        "Every brick's daemon is with its peers",
        "; ".join(wrong) or f"{len(names)} bricks",
        "See /var/log/glusterfs/glusterd.log there; a restart of glusterd cures most." if wrong else "",
    )
