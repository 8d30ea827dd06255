"""Which cluster of PostgreSQL serves, and which stands beside it: a fact of the platform's hosts, not of a controller's disk.

A cluster lives in one of two places ("slots") on every database host, each with ports, a Patroni scope, a folder, a unit and
data of its own, so that the next major version can be reached beside the one that serves (`siasops/migrate`):

    blue     ports postgres and patroni, scope sias, /etc/patroni, patroni.service; what a new platform has
    green    the same names with “-green” (ports with “_green”)

Every host keeps `FACT`, which Ansible reads too (role preflight). Without it blue serves alone. A migration fills the free
slot, so that the next one goes the other way: nothing below knows that blue is the older of both.

Each cluster archives to a stanza of its own: the first one's is called like the cluster, later ones' end in their major
version. A stanza's name never comes back with another history, and both can be archived and restored at the same time,
which `stanza-upgrade` does not allow: it ends the former cluster's archive, and with it the way back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.remote import Fleet

FACT = "/etc/ansible/facts.d/sias_postgresql.fact"
FIRST, SECOND = "blue", "green"


@dataclass(frozen=True)
class Instance:
    """A cluster of PostgreSQL. `major` is empty where nobody has said it: the only one that a host has.

    `runs`: whether its Patroni may be started; not before the copy that it is to take over is there.
    """

    inventory: Inventory = field(repr=False, compare=False)
    slot: str
    major: str
    stanza: str
    runs: bool = True

    @property
    def suffix(self) -> str:
        """What its names end in."""
        return "" if self.slot == FIRST else f"-{self.slot}"

    @property
    def postgres(self) -> int:
        """Port of PostgreSQL."""
        return self.inventory.ports["postgres" + self.suffix.replace("-", "_")]

    @property
    def patroni(self) -> int:
        """Port of Patroni's REST interface."""
        return self.inventory.ports["patroni" + self.suffix.replace("-", "_")]

    @property
    def scope(self) -> str:
        """Patroni's name of the cluster; its keys in etcd stand under /service/<scope>/."""
        return self.inventory.cluster + self.suffix

    @property
    def unit(self) -> str:
        """Unit of Patroni."""
        return "patroni" + self.suffix

    @property
    def config(self) -> str:
        """Configuration of Patroni."""
        return f"/etc/patroni/{self.slot + '/' if self.suffix else ''}config.yml"

    @property
    def data(self) -> str:
        """Data folder; a pattern of the shell where its major version was not said."""
        return f"/var/lib/postgresql/{self.major or '*'}/{self.inventory.cluster}"

    def server(self, host: str) -> str:
        """Its name as a server of HAProxy's back ends."""
        return host + self.suffix

    def as_fact(self) -> dict[str, Any]:
        """Plain data, as hosts keep it."""
        return {"slot": self.slot, "major": self.major, "stanza": self.stanza, "runs": self.runs}


@dataclass(frozen=True)
class Serving:
    """The cluster that serves, and the other one."""

    serving: Instance
    beside: Instance | None = None

    @property
    def slots(self) -> tuple[Instance, ...]:
        """Both, the one that serves first."""
        return (self.serving,) if self.beside is None else (self.serving, self.beside)

    @property
    def successor(self) -> Instance | None:
        """The next major version, which follows the one that serves until its cutover; None when none stands beside it."""
        if self.beside is None or int(self.beside.major or 0) <= int(self.serving.major or 0):
            return None
        return self.beside

    def text(self) -> str:
        """What hosts keep."""
        beside = None if self.beside is None else self.beside.as_fact()
        return json.dumps({"serving": self.serving.as_fact(), "beside": beside}, sort_keys=True) + "\n"


_known: dict[str, Serving] = {}
"""By environment: what this process last read."""


def default(inventory: Inventory) -> Serving:
    """What holds where no host says anything."""
    return parse(inventory, inventory.facts["sias_postgresql"])


def parse(inventory: Inventory, fact: Any) -> Serving:
    """Read a host's fact.

    Raises:
        UserError: it is none.
    """
    try:
        serving, beside = (
            None if fact[key] is None else Instance(inventory, **fact[key]) for key in ("serving", "beside")
        )
        slots = [one.slot for one in (serving, beside) if one is not None]
    except (KeyError, TypeError) as error:
        raise UserError(f"{FACT} of a host says {fact!r}, which is no such fact ({error}).") from error
    if serving is None or not set(slots) <= {FIRST, SECOND} or len(set(slots)) < len(slots):
        raise UserError(f"{FACT} of a host says {fact!r}: nobody serves, or in no known slot, or two in one.")
    return Serving(serving, beside)


def agreed(inventory: Inventory, texts: Iterable[tuple[str, str]]) -> Serving:
    """Read what hosts say, by name; one that says nothing follows the others.

    Raises:
        UserError: they do not agree, or what one says is no fact.
    """
    said: dict[Serving, list[str]] = {}
    for host, text in texts:
        if text.strip():
            try:
                fact = json.loads(text)
            except ValueError as error:
                raise UserError(f"{host}: {FACT} cannot be read ({error}).") from error
            said.setdefault(parse(inventory, fact), []).append(host)
    if len(said) > 1:
        told = "; ".join(f"{', '.join(hosts)}: {one.text().strip()}" for one, hosts in said.items())
        raise UserError(
            f"Hosts do not agree on which PostgreSQL serves ({told}). A migration was interrupted at that moment: "
            "`sias migrate postgres run` goes on, `sias migrate postgres rollback` goes back."
        )
    return next(iter(said), None) or default(inventory)


def of(inventory: Inventory) -> Serving:
    """What this process last read or was told; until then, what holds without a fact. Asks nobody."""
    return _known.get(inventory.environment) or default(inventory)


def know(inventory: Inventory, now: Serving) -> bool:
    """Go by this from now on; whether it is something new."""
    new = now != of(inventory)
    _known[inventory.environment] = now
    return new


def learn(inventory: Inventory, fleet: Fleet) -> Serving:
    """Ask the database hosts that answer, and go by what they say.

    Raises:
        UserError: they do not agree.
    """
    hosts = [host.name for host in inventory.group("databases")]
    answers = fleet.run_all(f"cat {FACT} 2>/dev/null || :", hosts=hosts, timeout=15.0)
    know(inventory, agreed(inventory, ((name, answer.stdout) for name, answer in answers.items() if answer.ok)))
    return of(inventory)


def write(inventory: Inventory, fleet: Fleet, now: Serving) -> None:
    """Have every host keep this from now on.

    Raises:
        UserError: a host cannot be told; the others are.
    """
    line = f"mkdir -p {FACT.rsplit('/', 1)[0]} && cat >{FACT}.new && sync {FACT}.new && mv {FACT}.new {FACT}"
    answers = fleet.run_each(dict.fromkeys(inventory.hosts, line), stdin=now.text(), timeout=20.0)
    know(inventory, now)
    deaf = [name for name, answer in answers.items() if not answer.ok]
    if deaf:
        raise UserError(f"{', '.join(deaf)} could not be told which PostgreSQL serves; mend that and run it again.")
