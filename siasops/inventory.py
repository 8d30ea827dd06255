"""The facts of an environment, read from the same plain YAML that Ansible and Vagrant read.

Nothing is computed by Jinja here: a fact that Python needs is written plainly in `inventory/`.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from siasops.errors import USAGE, UserError

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: inventory/, roles/ and var/ live under it."""

WITNESS_ROOM = "w"


@dataclass(frozen=True)
class Host:
    """A machine. `memory_mb` in MiB; `room` is a room's letter, or "w" on the witness site."""

    name: str
    address: str
    room: str
    memory_mb: int
    groups: frozenset[str]
    mac: str | None = None


@dataclass(frozen=True)
class Room:
    """A server room that serves users: its letter, its name, and the address users open."""

    letter: str
    name: str
    address: str
    virtual_router_id: int


@dataclass(frozen=True)
class Inventory:
    """One environment: hosts by name, rooms by letter, and every shared fact as `facts`."""

    path: Path
    hosts: dict[str, Host]
    rooms: dict[str, Room]
    facts: dict[str, Any] = field(repr=False)

    @cached_property
    def environment(self) -> str:
        """Name of the environment: lab, lab-full, production."""
        return cast("str", self.facts["sias_environment"])

    @property
    def is_lab(self) -> bool:
        """Whether the machines are made by this project's Vagrantfile."""
        return "lab_bridge" in self.facts

    @property
    def drills_allowed(self) -> bool:
        """Whether faults may be injected here."""
        return bool(self.facts.get("sias_drills_allowed", False))

    @property
    def ports(self) -> dict[str, int]:
        """Ports by name, as in `network.yml`."""
        return cast("dict[str, int]", self.facts["ports"])

    @property
    def objectives(self) -> dict[str, Any]:
        """Promises, in seconds unless said, as in `objectives.yml`."""
        return cast("dict[str, Any]", self.facts["objectives"])

    @property
    def cluster(self) -> str:
        """Patroni scope, pgBackRest stanza and document volume."""
        return cast("str", self.facts["sias_cluster"])

    @property
    def domain(self) -> str:
        """Private DNS domain of the platform."""
        return cast("str", self.facts["sias_domain"])

    @property
    def var(self) -> Path:
        """Where journals, secrets and reports go (git-ignored)."""
        return ROOT / "var"

    @property
    def state(self) -> Path:
        """Files of this environment alone: ssh configuration, markers, Vagrant's state."""
        return self.var / self.environment

    @property
    def secrets_file(self) -> Path:
        """The YAML file of secrets; absent until made."""
        return self.var / "secrets" / f"{self.environment}.yml"

    @property
    def pki(self) -> Path:
        """Authority and controller certificate of this environment."""
        return self.var / "pki" / self.environment

    @property
    def synchronous_count(self) -> int:
        """Standbys that must confirm a commit, k.

        The primary has n-1 neighbours in its own room; with k = n of the larger room, any k confirmations include the
        other room.
        """
        return max(len(self.group("databases", room=letter)) for letter in self.rooms)

    def group(self, name: str, *, room: str | None = None) -> list[Host]:
        """Hosts of an inventory group in the file's order, of one room when given."""
        return [h for h in self.hosts.values() if name in h.groups and (room is None or h.room == room)]

    def watchers(self) -> list[Host]:
        """Hosts of the group monitoring, those outside both rooms first: they see the loss of either."""
        return sorted(self.group("monitoring"), key=lambda host: host.room != WITNESS_ROOM)

    def host(self, name: str) -> Host:
        """The host of that name.

        Raises:
            UserError: when there is none; names those that exist.
        """
        try:
            return self.hosts[name]
        except KeyError:
            raise UserError(f"{self.path.name} has no host “{name}”. It has: {', '.join(self.hosts)}.", USAGE) from None

    def secrets(self) -> dict[str, str]:
        """Read the secrets of a lab.

        Raises:
            UserError: when the file is missing or encrypted (production's is read by Ansible alone).
        """
        if not self.secrets_file.exists():
            raise UserError(f"{self.secrets_file} is missing. For a lab, `sias lab secrets` makes it.")
        text = self.secrets_file.read_text(encoding="utf-8")
        if text.startswith("$ANSIBLE_VAULT"):
            raise UserError(f"{self.secrets_file} is encrypted with ansible-vault; this command needs a lab.")
        return cast("dict[str, str]", yaml.safe_load(text))


def default_path() -> Path:
    """The inventory to use: `SIAS_INVENTORY` (a path or a name such as lab-full), else the lab."""
    wanted = os.environ.get("SIAS_INVENTORY", "lab")
    return resolve(wanted)


def resolve(wanted: str) -> Path:
    """Turn a name (`lab`) or a path into the inventory's path.

    Raises:
        UserError: when no such file exists.
    """
    direct = Path(wanted)
    named = ROOT / "inventory" / f"{wanted}.yml"
    if direct.is_file():
        return direct.resolve()
    if named.is_file():
        return named
    known = ", ".join(sorted(p.stem for p in (ROOT / "inventory").glob("*.yml") if p.stem != "calendar"))
    raise UserError(f"There is no inventory “{wanted}”. Known here: {known}; or give a path.", USAGE)


def load(path: Path | None = None) -> Inventory:
    """Read an environment.

    Args:
        path: the inventory file; `default_path()` when not given.

    Raises:
        UserError: when the file is not a valid description; the sentence names the host and the key.
    """
    path = path or default_path()
    document = _read(path).get("all", {})
    facts: dict[str, Any] = {}
    for common in sorted((ROOT / "inventory" / "group_vars" / "all").glob("*.yml")):
        facts.update(_read(common))
    facts.update(document.get("vars", {}))

    raw: dict[str, dict[str, Any]] = {}
    groups: dict[str, set[str]] = {}
    for group, content in document.get("children", {}).items():
        for name, host_facts in (content.get("hosts") or {}).items():
            raw.setdefault(name, {}).update(host_facts or {})
            groups.setdefault(name, set()).add(group)
    hosts = {name: _host(path, name, raw[name], frozenset(groups[name])) for name in raw}
    rooms = {
        letter: Room(letter, room["name"], room["address"], room["virtual_router_id"])
        for letter, room in facts.get("rooms", {}).items()
    }
    return Inventory(path=path, hosts=hosts, rooms=rooms, facts=facts)


def _read(path: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as YAML: {error}") from error


def _host(path: Path, name: str, facts: dict[str, Any], groups: frozenset[str]) -> Host:
    for key in ("ansible_host", "room", "memory_mb"):
        if key not in facts:
            raise UserError(f"{path.name}: host {name} has no {key}; every host needs ansible_host, room, memory_mb.")
    try:
        address = str(ipaddress.ip_address(facts["ansible_host"]))
    except ValueError as error:
        raise UserError(f"{path.name}: host {name}: ansible_host is not an address: {error}.") from error
    return Host(name, address, str(facts["room"]), int(facts["memory_mb"]), groups, facts.get("mac"))


RoomLetter = Literal["a", "b"]
