"""The two clusters of a migration as they stand on the platform: who leads each, how each reaches the other, Patroni's part.

A slot that Patroni does not know is dropped by it. Those of the way forward and of the proof are left alone
(`ignore_slots`) and not carried to a standby: copying one restarts the standby, and commits would wait for it or stand in
one room meanwhile. And a subscriber that outlives a failover of its publisher may hold what the new primary never got, because
15 sends a row to a subscriber before the other room has it. So a failover of the cluster that is left ends the way forward:
it goes on serving, and the copy is made anew. The slot of the way back is declared (`slots`), while nobody waits for the new
cluster yet: it survives that cluster's failovers, and the whole proof is made again before anybody goes back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from siasops.cluster import instance
from siasops.cluster.client import Asker
from siasops.cluster.instance import Instance
from siasops.cluster.view import Member, ask_patroni, members_of
from siasops.errors import UserError
from siasops.guard.etcd import Etcd, encode
from siasops.guard.wire import Identity
from siasops.inventory import Inventory
from siasops.migrate.database import Psql, literal
from siasops.remote import Fleet, RemoteError, wait_until

PKI = "/etc/sias/pki"
PASSWORDS = "/var/lib/postgresql/.pgpass_flow"
"""On every database host; see role patroni."""
LEADER_LIMIT = 60.0
WHOLE_LIMIT = 300.0
SLOT_LIMIT = 120.0


@dataclass(frozen=True)
class Side:
    """One cluster."""

    inventory: Inventory
    fleet: Fleet
    one: Instance

    def members(self) -> tuple[Member, ...]:
        """What its Patronis say."""
        with Asker(self.inventory) as asker:
            return members_of(self.inventory, ask_patroni(self.inventory, asker, self.one.patroni))

    def leader(self) -> str:
        """Host of its primary.

        Raises:
            RemoteError: nobody leads, or more than one says so.
        """
        found: list[str] = []

        def led() -> bool:
            found[:] = [member.host for member in self.members() if member.leads]
            return len(found) == 1

        wait_until(led, f"the cluster {self.one.scope} has a primary", deadline=LEADER_LIMIT, every=1.0)
        return found[0]

    def answers(self) -> list[str]:
        """Hosts whose Patroni of this cluster answers."""
        return [member.host for member in self.members() if member.answers]

    def whole(self, *, deadline: float = WHOLE_LIMIT) -> None:
        """Wait until everybody streams and the other room's is synchronous.

        Raises:
            RemoteError: not in time.
        """

        def holds() -> bool:
            members = self.members()
            leader = next((member for member in members if member.leads), None)
            if leader is None:
                return False
            streams = {s.host: s.sync_state for s in leader.standbys if s.state == "streaming"}
            rooms = {member.host: member.room for member in members}
            sync = [host for host, state in streams.items() if state in {"sync", "quorum"}]
            others = [member.host for member in members if member is not leader]
            return set(others) <= set(streams) and any(rooms[host] != leader.room for host in sync)

        wait_until(holds, f"every member of {self.one.scope} streams, and commits wait for the other room",
                   deadline=deadline, every=1.0)  # fmt: skip

    def database(self, name: str) -> Psql:
        """One of its databases, on its primary."""
        return Psql(self.fleet, self.leader(), self.one.postgres, name)

    def where(self, database: str) -> str:
        """Describe its primary to libpq, wherever it is, for database hosts; without a secret."""
        hosts = self.inventory.group("databases")
        return (
            f"host={','.join(host.address for host in hosts)} port={','.join([str(self.one.postgres)] * len(hosts))}"
            f" dbname={database} user=replicator passfile={PASSWORDS} sslmode=verify-full sslrootcert={PKI}/ca.crt"
            f" sslcert={PKI}/host.crt sslkey={PKI}/host.key target_session_attrs=read-write connect_timeout=5"
        )

    def configure(self, patch: dict[str, Any]) -> None:
        """Change its shared configuration; what is None goes.

        Raises:
            RemoteError: Patroni refuses.
        """
        command = [
            "patronictl",
            "-c",
            self.one.config,
            "edit-config",
            self.one.scope,
            "--force",
            "--quiet",
            "--apply",
            "-",
        ]
        self.fleet.run(self.leader(), command, stdin=json.dumps(patch), timeout=60.0, check=True)

    def ignore_slots(self, names: Sequence[str]) -> None:
        """Have Patroni leave these logical slots alone; none: as before."""
        self.configure({"ignore_slots": [{"name": name, "type": "logical"} for name in names] or None})

    def keep_slot(self, name: str, database: str | None) -> None:
        """Have Patroni make a logical slot and carry it through failovers; database None: no more, and drop it."""
        slot = None if database is None else {"type": "logical", "database": database, "plugin": "pgoutput"}
        self.configure({"slots": {name: slot} if slot else None})
        query = f"SELECT slot_name FROM pg_replication_slots WHERE slot_name = {literal(name)}"
        for host in self.answers() if slot else ():
            place = Psql(self.fleet, host, self.one.postgres, "postgres")

            def there(place: Psql = place) -> bool:
                with suppress(UserError):  # a standby is restarted for it
                    return bool(place.ask(query))
                return False

            wait_until(there, f"{self.one.scope} has the slot {name} on {host}", deadline=SLOT_LIMIT, every=1.0)

    def start(self, hosts: Sequence[str]) -> None:
        """Start its Patroni, now and at boot."""
        command = ["systemctl", "enable", "--now", f"{self.one.unit}.service"]
        wrong = [answer for answer in self.fleet.run_all(command, hosts=hosts, timeout=180.0).values() if not answer.ok]
        if wrong:
            raise RemoteError(f"{wrong[0].host}: {self.one.unit} does not start: {wrong[0].stderr.strip()[-300:]}")

    def stop(self) -> None:
        """Stop its Patroni everywhere, standbys first, and PostgreSQL with it; harmless when it never was there."""
        hosts = [host.name for host in self.inventory.group("databases")]
        leading = {member.host for member in self.members() if member.leads}
        unit = f"{self.one.unit}.service"
        line = f"systemctl disable --now {unit} 2>/dev/null || ! systemctl is-active --quiet {unit}"
        for host in sorted(hosts, key=lambda name: name in leading):
            self.fleet.run(host, line, timeout=180.0, check=True)

    def remove(self) -> dict[str, int]:
        """Stop it, and remove what it has on every host: data, configuration, unit, keys in etcd.

        Returns:
            Bytes of data that went, by host.

        Raises:
            UserError: it serves, by what hosts say.
        """
        serving = instance.learn(self.inventory, self.fleet).serving
        if serving.slot == self.one.slot:
            raise UserError(f"{self.one.scope} serves: nothing of it is removed.")
        self.stop()
        data, folder = self.one.data, self.one.config.rsplit("/", 1)[0]
        if "*" in data or not self.one.major:
            raise UserError(f"It is not known which version {self.one.scope} has: nothing was removed.")
        # Patroni's folder of blue holds green's: only what is blue's own goes.
        files = " ".join(f"{folder}/{name}" for name in ("config.yml", "base.conf", "cluster.json"))
        unit = f"{self.one.unit}.service"
        line = (
            f"du -sb {data} 2>/dev/null | cut -f 1; rm -rf {data} {data}-copy; rm -f {files} /etc/systemd/system/{unit}"
            f" {PKI}/reload.d/{unit} /var/lib/postgresql/.pgpass_patroni{self.one.suffix}; systemctl daemon-reload"
        )
        hosts = [host.name for host in self.inventory.group("databases")]
        answers = self.fleet.run_all(line, hosts=hosts, timeout=600.0)
        wrong = [answer.host for answer in answers.values() if not answer.ok]
        if wrong:
            raise RemoteError(f"{self.one.scope} could not be removed from {', '.join(wrong)}; run it again.")
        self.forget()
        return {host: int(answer.stdout.strip() or 0) for host, answer in answers.items()}

    def forget(self) -> None:
        """Delete its keys in etcd, so that another cluster may have its name.

        Raises:
            RemoteError: no voter answers, or somebody leads it still.
        """
        prefix = f"/service/{self.one.scope}/"
        paths = {name: str(self.inventory.pki / name) for name in ("controller.crt", "controller.key", "ca.crt")}
        identity = Identity(paths["controller.crt"], paths["controller.key"], paths["ca.crt"])
        failure = ""
        with Etcd(identity) as etcd:
            for host in self.inventory.group("etcd"):
                endpoint = f"{host.address}:{self.inventory.ports['etcd_client']}"
                try:
                    absent = {"key": encode(f"{prefix}leader"), "target": "VERSION", "result": "EQUAL", "version": "0"}
                    everything = {"key": encode(prefix), "range_end": encode(prefix[:-1] + chr(ord("/") + 1))}
                    if etcd.transaction(endpoint, [absent], [{"request_delete_range": everything}]):
                        return
                    raise RemoteError(
                        f"{self.one.scope} still has a leader by etcd: stop its Patroni, then run it again."
                    )
                except OSError as error:
                    failure = str(error)
        raise RemoteError(f"No voter of etcd answers ({failure}).")
