"""PostgreSQL to its next major version: the phases, and the way back from each of them.

The new cluster is made in the free place of the database hosts (`siasops/cluster/instance.py`) beside the one that serves, which
nothing is taken from but one copy and a stream of its log. Up to the cutover the old cluster is the only truth, and everything
may be thrown away; a failover of it meanwhile ends the way forward (see `sides.py`), and nothing else. In the cutover clients
wait, for a second and within a limit, and one row of the old cluster decides who serves (`decision.py`). From then on the old
cluster follows the new one, closed to everybody, until the way back is settled; it leads back by the same proof and the
same cutover.

The schema stays frozen while there is a way back: logical replication does not carry its changes. Only the database `sias`
moves. Of `postgres` the ledger of the restore proofs is carried over: its writer is stopped for the moment of the cutover,
because it is a superuser, whom the fence lets pass.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from siasops.backup.catalogue import as_postgres, repository_hosts
from siasops.change import state as states
from siasops.change.procedure import Act, GoBack, Phase, Plan, Procedure
from siasops.change.state import State
from siasops.cluster import instance
from siasops.cluster.check import Line
from siasops.cluster.check import check as judge
from siasops.cluster.instance import Instance, Serving
from siasops.cluster.view import look
from siasops.drill.faults import Stage
from siasops.errors import USAGE, UserError
from siasops.lab import deploy
from siasops.migrate import check, copy, cutover, doors, endpoints, fence, flow, gates, plans, proof, schema, sequences
from siasops.migrate.changes import Touched
from siasops.migrate.copy import Green
from siasops.migrate.cutover import Move
from siasops.migrate.database import Database, Psql, identifier, literal, session
from siasops.migrate.flow import Names
from siasops.migrate.sides import Side
from siasops.migrate.tables import tables

WORKLOAD = Path(__file__).with_name("workload.yml")
LIMIT = 5.0
"""Seconds that clients may be held; past it everything goes back by itself. The promise is 1 s (objectives.yml)."""
QUICK = 10.0
"""Seconds that one question of a cutover may take before it counts as failed."""
RESOLVE_LIMIT = 180.0
"""Seconds for a side that lost its primary in a cutover to have another one."""
CATCH_UP = 4 * 3600.0
BACKUP_LIMIT = 6 * 3600.0
COPY_LIMIT = 6 * 3600
STATEMENTS, PLANNED = 5000, 200
"""Statements of pg_stat_statements that are counted as calls, and how many of the costliest are planned."""
FINDINGS = "findings.json"
"""In the change's folder: what the plan gate found, for `sias migrate postgres accept`."""
BESIDE = "firewall,backup,patroni,haproxy"
"""Roles that a second cluster concerns before it serves."""
EVERYTHING = f"base,etcd,{BESIDE},room_guard,exporters,monitoring"
"""Roles that follow the cluster that serves."""
SETTINGS: Mapping[str, str] = {}
"""Settings that may differ, and why."""
FOLLOWER = "replicator"
"""Role that a cluster follows the other as. While there is a migration it may connect to the database; the fence shuts it out
with everybody, and opens for it too."""


class Postgres(Procedure):
    """A migration to another major version."""

    kind: ClassVar[str] = "postgres"
    command: ClassVar[str] = "sias migrate postgres"

    def plan(self, stage: Stage, wanted: Mapping[str, Any]) -> Plan:
        """See `Procedure.plan`. `wanted["to"]`: the version; by default the latest that the platform knows."""
        inventory, fleet = stage.inventory, stage.fleet
        known = sorted({found["postgresql"] for found in inventory.facts["sias_debian"].values()}, key=int)
        new = str(wanted.get("to") or known[-1])
        if new not in known:
            raise UserError(f"The platform knows no PostgreSQL “{new}”; it knows {', '.join(known)}.", USAGE)
        now, view = instance.learn(inventory, fleet), look(inventory, fleet)
        leader = check.led(view)
        (version,) = {member.version for member in view.members if member.host == leader}
        old = version.split(".")[0]
        if old == new:
            more = f" {now.beside.major} stands beside it for the way back." if now.beside else ""
            return Plan(f"PostgreSQL {new}", nothing=f"PostgreSQL {new} serves already; nothing to do.{more}")
        if int(new) < int(old):
            raise UserError(f"{leader} runs PostgreSQL {old}: there is no road to {new}.", USAGE)
        if now.beside is not None:
            raise UserError(f"PostgreSQL {now.beside.major} still stands beside: `sias migrate postgres settle` first.")
        standbys = (
            {s.host for s in view.leader.standbys if s.sync_state in {"sync", "quorum"}} if view.leader else set()
        )
        chosen = sorted(member.host for member in view.members if member.host in standbys)
        if not chosen:
            raise UserError("No standby is synchronous: see `sias cluster check`.")
        free = instance.SECOND if now.serving.slot == instance.FIRST else instance.FIRST
        return Plan(
            f"PostgreSQL {old} to {new}",
            {"from": old, "to": new, "old": now.serving.slot, "new": free, "old_stanza": now.serving.stanza,
             # Never the name of a stanza that there was: a migration may be taken back and begun again.
             "stanza": f"{inventory.cluster}-{new}-{datetime.now(UTC):%Y%m%d%H%M}", "host": chosen[0]},
        )  # fmt: skip

    def check(self, stage: Stage, plan: Plan) -> Sequence[Line]:
        """See `Procedure.check`."""
        return check.lines(stage, plan.facts, plans.load(WORKLOAD))

    def phases(self, plan: Plan) -> Sequence[Phase]:
        """See `Procedure.phases`."""
        old, new, host = plan.facts["from"], plan.facts["to"], plan.facts["host"]
        return [
            Phase("freeze", "Publish every table, and hold the schema still", 5, _freeze),
            Phase("beside", f"Packages, doors and a place for PostgreSQL {new} on every host", 120, _beside),
            Phase("copy", f"Copy PostgreSQL {old} on {host}, up to a named point of its log", 60, _copy),
            Phase("upgrade", f"Raise the copy to {new}, and give it statistics", 60, _upgrade),
            Phase("adopt", f"Patroni takes PostgreSQL {new} over, and copies it to every database host", 90, _adopt),
            Phase("follow", f"PostgreSQL {new} follows, from that point on", 30, _follow),
            Phase("backup", f"A full backup of PostgreSQL {new} in each room, before it serves", 60, _backup),
            Phase("prove", "Compare every row on both sides, while they flow", 60, _prove),
            Phase("inspect", "Every page and index, the schema, the roles, the settings", 60, _inspect),
            Phase("plans", "No query gets slower", 120, _plans),
            Phase("ready", "The way back is ready before anybody goes", 30, _ready),
            Phase("cutover", f"PostgreSQL {new} serves", 30, _cutover),
            Phase("follow_back", f"PostgreSQL {old} follows from now on", 15, _follow_back),
            Phase("roles", "Guard, backups, figures and doors follow", 180, _roles),
            Phase("after", "A backup in each room", 60, _after),
        ]

    def back(self, plan: Plan) -> Sequence[Phase]:
        """See `Procedure.back`."""
        old, new = plan.facts["from"], plan.facts["to"]
        return [
            Phase("back:resolve", "Who serves", 5, _resolve),
            Phase("back:prove", f"Compare every row of {new} and {old}, while they flow", 60, _prove_back),
            Phase("back:cutover", f"PostgreSQL {old} serves again", 30, _cutover_back),
            Phase("back:flows", "End the flows, and let the schema go", 15, _end_flows),
            Phase("back:remove", f"Remove PostgreSQL {new}", 30, _remove_new),
            Phase("back:roles", "Guard, backups, figures and doors follow", 180, _roles),
            Phase("back:after", "A backup in each room", 60, _after),
        ]

    def verify(self, stage: Stage, plan: Plan) -> Sequence[Line]:
        """See `Procedure.verify`."""
        return check.verified(stage, plan.facts, self._notes(stage, plan))

    @staticmethod
    def _notes(stage: Stage, plan: Plan) -> Mapping[str, Any]:
        mine = [s for s in states.every(stage.inventory) if s.kind == Postgres.kind and s.facts == plan.facts]
        return mine[0].notes if mine else {}

    def plan_back(self, stage: Stage, last: State | None, wanted: Mapping[str, Any]) -> Plan:
        """See `Procedure.plan_back`.

        Raises:
            UserError: it was settled, or there was none.
        """
        found = super().plan_back(stage, last, wanted)
        now, old = instance.learn(stage.inventory, stage.fleet), found.facts["old"]
        if now.serving.slot == old and now.beside is None:
            return Plan(found.story, nothing=f"PostgreSQL {found.facts['from']} serves alone; nothing to go back from.")
        return found


@dataclass(frozen=True)
class Road:
    """Both clusters of a plan."""

    act: Act

    @property
    def old(self) -> Side:
        """The cluster that is left."""
        return Side(self.act.inventory, self.act.fleet, check.origin(self.act.inventory, self.act.plan.facts))

    @property
    def new(self) -> Side:
        """The cluster that is made."""
        return Side(self.act.inventory, self.act.fleet, check.target(self.act.inventory, self.act.plan.facts))

    @property
    def name(self) -> str:
        """The database that moves."""
        return self.act.inventory.cluster

    @property
    def names(self) -> Names:
        """Its slots."""
        return Names(self.name)

    def green(self, host: str | None = None) -> Green:
        """The copy, on the host that makes it or on another."""
        where = self.old.where("postgres")
        return check.green_of(self.act.stage, self.act.plan.facts, host or self.act.plan.facts["host"], where)

    def serve(self, serving: Instance, beside: Instance | None) -> None:
        """Have every host know who serves."""
        instance.write(self.act.inventory, self.act.fleet, Serving(serving, beside))

    def deploy(self, tags: str) -> None:
        """Have the roles follow what hosts say now."""
        arguments = ("--tags", tags, "-e", f"patroni_cluster_deadline={COPY_LIMIT}")
        deploy.playbook(
            self.act.inventory, "site", say=self.act.progress.say, arguments=arguments, timeout=COPY_LIMIT + 3600
        )

    def touched(self, key: str) -> Path:
        """Where rows that were touched since a proof are kept."""
        return self.act.state.folder / f"{key}.json"


# --- Forward ------------------------------------------------------------------------------------------------------------


def _freeze(act: Act) -> None:
    road = Road(act)
    database = road.old.database(road.name)
    flow.ready(database)
    database.do(f"GRANT CONNECT ON DATABASE {identifier(road.name)} TO {FOLLOWER};")
    gates.freeze(database)
    # From the first slot on; those of another are none of ours, and a gate has seen that there are none.
    road.old.ignore_slots([road.names.forward, road.names.proof])


def _beside(act: Act) -> None:
    road = Road(act)
    road.serve(road.old.one, check.target(act.inventory, act.plan.facts, runs=False))
    road.deploy(BESIDE)
    postgres = road.old.database("postgres")
    offered = copy.offered(act.fleet, postgres.host, act.plan.facts["to"])
    found = gates.gates(road.old.database(road.name), offered, target=act.plan.facts["to"])
    found += check.strays(act.inventory, [row["name"] for row in postgres.ask(check.DATABASES)], postgres)
    found.append(gates.frozen(road.old.database(road.name)))
    check.ensure(found, "The gates do not hold any more")


def _copy(act: Act) -> None:
    road, green, notes = Road(act), Road(act).green(), act.state.notes
    if notes.get("at"):
        return
    if notes.get("pointing"):
        # Where the copy stands is not known: the position was not kept. The next one begins after that point.
        act.progress.say("the last try did not keep its position: the copy is made anew")
        copy.remove(green)
    flow.slot(road.old.database(road.name), road.names.forward)
    copy.make(green)
    act.remember(pointing=True)
    at = flow.restore_point(road.old.database("postgres"), copy.POINT)
    copy.stopped_at_point(green)
    act.remember(at=at, timeline=_timeline(road.old.database("postgres")))
    act.progress.say(f"the copy on {green.host} stands at {at}")


def _upgrade(act: Act) -> None:
    green = Road(act).green()
    copy.raise_version(green)
    copy.start(green)


def _adopt(act: Act) -> None:
    road, host = Road(act), act.plan.facts["host"]
    if not road.new.answers():
        # What an older cluster of this name left would be taken for this one's.
        road.new.forget()
    copy.hand_over(road.green())
    road.new.start([host])
    act.progress.say(f"{road.new.leader()} leads {road.new.one.scope}")
    road.serve(road.old.one, road.new.one)
    road.deploy("patroni")
    road.new.whole()


def _follow(act: Act) -> None:
    road = Road(act)
    old, new = road.old.database(road.name), road.new.database(road.name)
    _slot_is_there(old, road.names.forward, act.state.notes.get("timeline"))
    if not fence.closed(new):
        fence.close(new, fence.access(new))
    flow.follow(new, road.old.where(road.name), road.names.forward, act.state.notes["at"])
    took = flow.drain(old, new, road.names.forward, "caught up", deadline=CATCH_UP)
    act.progress.say(f"everything has arrived, after {took:.1f} s")


def _backup(act: Act) -> None:
    stanza = act.plan.facts["stanza"]
    hosts = [host.name for host in repository_hosts(act.inventory)]
    # Every repository has its stanza before any is checked: a segment counts as archived when all of them hold it.
    for host in hosts:
        act.fleet.run(
            host, as_postgres(f"/usr/local/sbin/sias-backup stanza --stanza {stanza}"), timeout=300.0, check=True
        )
    for host in hosts:
        state = as_postgres(f"/usr/local/sbin/sias-backup stanza --stanza {stanza} --check")
        if json.loads(act.fleet.run(host, state, timeout=300.0, check=True).stdout)["backups"]:
            continue
        line = as_postgres(f"/usr/local/sbin/sias-backup first --stanza {stanza}")
        taken = json.loads(act.fleet.run(host, line, timeout=BACKUP_LIMIT, check=True).stdout)
        act.progress.say(f"{host}: full backup {taken['label']} of {stanza} in {taken['seconds']} s")


def _prove(act: Act) -> None:
    road = Road(act)
    line = _whole(act, road.old.database(road.name), road.new.database(road.name), road.names.forward, "touched")
    if not line.ok:
        raise GoBack(f"{line.what}: {line.found}")
    act.remember(proven=line.found)


def _inspect(act: Act) -> None:
    road = Road(act)
    old, new = road.old.database(road.name), road.new.database(road.name)
    green = replace(road.green(), host=new.host)
    found = [schema.same(old, new, expected=frozenset({f"database {road.name}"})), schema.valid(new),
             schema.settings(old, new, SETTINGS), _checksums(new)]  # fmt: skip
    for name in (road.name, "postgres"):
        sound, said = copy.sound(green, name)
        found.append(Line(sound, f"Every page and index of {name} is whole", said))
    for line in found:
        act.progress.say(f"{line.what}: {line.found}")
    check.ensure(found, f"PostgreSQL {act.plan.facts['to']} is not as it should be")


def _plans(act: Act) -> None:
    road, applications = Road(act), [host.name for host in act.inventory.group("applications")]
    # Sessions that stay: hundreds of queries are run several times each.
    with session(road.old.database(road.name)) as old, session(road.new.database(road.name)) as new:
        counted = plans.statements(old, STATEMENTS)
        asked = endpoints.ask(act.fleet, applications, counted, act.progress.say)
        workload = [*plans.load(WORKLOAD), *asked, *counted[:PLANNED]]
        verdict = plans.gate(old, new, workload, accepted(act.inventory.state))
    queries = {query.name: plans.masked(query.text) for query in workload}
    text = [
        {"query": f.query, "rule": f.rule, "text": f.text, "plan": f.after.plan if f.after else None}
        | {"sql": queries.get(f.query)}
        for f in verdict.findings
    ]
    (act.state.folder / FINDINGS).write_text(json.dumps(text, ensure_ascii=False, indent=1), encoding="utf-8")
    for pair in verdict.paired:
        act.progress.say(str(pair))
    line = verdict.line()
    act.progress.say(f"{line.what}: {line.found}")
    if not line.ok:
        shown = "\n\n".join(f"{f}\n{queries.get(f.query, '')}\n{f.plans()}" for f in verdict.refused)
        raise UserError(
            f"{line.what}: {line.found}. {line.action}\n{shown}\nA difference is borne by `sias migrate postgres accept`."
        )


def _ready(act: Act) -> None:
    road = Road(act)
    # Copying the slot restarts a standby, which nobody waits for yet.
    road.new.keep_slot(road.names.back, road.name)
    road.new.ignore_slots([road.names.proof])
    road.new.whole()
    check.ensure(list(_healthy(act)), "Clients are not made to wait on a wounded platform")


def _cutover(act: Act) -> None:
    road = Road(act)
    if act.state.notes.get("side") != "new":
        touched = Touched.load(road.touched("touched"))
        _move(act, _Way(road.old, road.new, road.names.forward, road.names.back), touched)
    _serves(act, road.new, road.old)


def _follow_back(act: Act) -> None:
    road = Road(act)
    old, new = road.old.database(road.name), road.new.database(road.name)
    cutover.follow_back(
        Move(road.name, old, new, Touched(), road.names.forward, road.names.back), road.new.where(road.name)
    )
    flow.drain(new, old, road.names.back, "way back", deadline=CATCH_UP)


def _roles(act: Act) -> None:
    Road(act).deploy(EVERYTHING)


def _after(act: Act) -> None:
    for host in repository_hosts(act.inventory):
        line = as_postgres("/usr/local/sbin/sias-backup take --type diff")
        taken = json.loads(act.fleet.run(host.name, line, timeout=BACKUP_LIMIT, check=True).stdout)
        act.progress.say(f"room {host.room}: {taken['type']} backup {taken['label']} in {taken['seconds']} s")


# --- Back ---------------------------------------------------------------------------------------------------------------


def _resolve(act: Act) -> None:
    """End a cutover that was interrupted: only then it is known who serves."""
    road, notes = Road(act), act.state.notes
    if notes.get("cutover") and not road.new.answers() and not fence.closed(road.old.database(road.name)):
        # The old cluster has opened by itself, and nothing of the new one is left to be closed.
        act.remember(side="old", cutover=None)
    if notes.get("cutover") and notes.get("side") != "new":
        way = _Way(road.old, road.new, road.names.forward, road.names.back)
        _move(act, way, Touched(), only_resolve=True)
    if notes.get("side") == "new":
        _serves(act, road.new, road.old)
    act.progress.say(f"PostgreSQL {act.plan.facts['to' if act.state.notes.get('side') == 'new' else 'from']} serves")


def _prove_back(act: Act) -> None:
    road = Road(act)
    if act.state.notes.get("side") != "new":
        return
    # Not begun yet where the run stopped right after its cutover.
    _follow_back(act)
    line = _whole(act, road.new.database(road.name), road.old.database(road.name), road.names.back, "touched-back")
    check.ensure([line], "Going back would lose rows")


def _cutover_back(act: Act) -> None:
    road = Road(act)
    if act.state.notes.get("side") == "new":
        touched = Touched.load(road.touched("touched-back"))
        _move(act, _Way(road.new, road.old, road.names.back, road.names.forward), touched)
    if act.state.notes.get("side") == "old":
        _serves(act, road.old, road.new)


def _end_flows(act: Act) -> None:
    road = Road(act)
    old = road.old.database(road.name)
    flow.leave(old, road.names.back)
    if road.new.answers():
        with suppress(UserError):  # it goes with everything that it has
            flow.leave(road.new.database(road.name), road.names.forward)
    road.old.ignore_slots([road.names.forward, road.names.proof])
    flow.clear(old, road.names)
    _dismiss(old, road.name)
    road.old.ignore_slots([])


def _remove_new(act: Act) -> None:
    road = Road(act)
    if instance.learn(act.inventory, act.fleet).beside is not None:
        road.new.stop()
        copy.remove(road.green())
        _delete_stanza(act)
        freed = road.new.remove()
        act.progress.say(
            f"PostgreSQL {act.plan.facts['to']} is gone: {sum(freed.values()) >> 20} MiB on {len(freed)} hosts"
        )
    road.serve(road.old.one, None)
    act.remember(at=None, timeline=None, pointing=False, cutover=None)


def _delete_stanza(act: Act) -> None:
    """Remove the backups of a cluster that is thrown away; a repository that cannot says so, and nothing depends on it."""
    stanza = act.plan.facts["stanza"]
    line = (
        as_postgres(f"pgbackrest --stanza={stanza} stop")
        + " && "
        + as_postgres(f"pgbackrest --stanza={stanza} --force --repo={{repository}} stanza-delete")
    )
    for number, host in enumerate(repository_hosts(act.inventory), start=1):
        done = act.fleet.run(host.name, line.format(repository=number), timeout=600.0)
        if not done.ok:
            act.progress.say(f"{host.name}: the stanza {stanza} stays: {(done.stderr or done.stdout).strip()[-200:]}")


# --- The end of the way back -----------------------------------------------------------------------------------------------


def settle(stage: Stage, last: State, say: Callable[[str], None], deployed: Callable[[str], None]) -> None:
    """End the way back: the former cluster goes, and the schema may be changed again. May be run again.

    Args:
        stage: the environment and its hosts.
        last: the migration.
        say: told what was done.
        deployed: runs the roles named.
    """
    inventory, fleet, facts = stage.inventory, stage.fleet, last.facts
    now = instance.learn(inventory, fleet)
    name, names = inventory.cluster, Names(inventory.cluster)
    new = Side(inventory, fleet, now.serving)
    if now.beside is not None:
        old = Side(inventory, fleet, now.beside)
        if old.answers():
            with suppress(UserError):  # it goes with everything that it has
                flow.leave(old.database(name), names.back)
        freed = old.remove()
        say(f"PostgreSQL {facts['from']} is gone: {sum(freed.values()) >> 20} MiB on {len(freed)} hosts")
    new.keep_slot(names.back, None)  # before it is dropped: Patroni would make it again
    flow.clear(new.database(name), names)
    _dismiss(new.database(name), name)
    new.ignore_slots([])
    say("the schema may be changed again")
    instance.write(inventory, fleet, Serving(now.serving))
    hosts = [host.name for host in inventory.group("databases")]
    # The archive of another Debian's packages, which nothing needs any more.
    suffix = "" if facts["old"] == instance.FIRST else f"-{facts['old']}"
    fleet.run_all(f"rm -f /etc/apt/sources.list.d/sias-postgresql{suffix}.list /etc/apt/preferences.d/sias-postgresql{suffix};"
                  " rm -f /var/lib/postgresql/.pgpass_flow", hosts=hosts)  # fmt: skip
    deployed(EVERYTHING)


# --- What both ways need ----------------------------------------------------------------------------------------------------


def _dismiss(database: Database, name: str) -> None:
    """Nobody follows any more."""
    database.do(f"REVOKE CONNECT ON DATABASE {identifier(name)} FROM {FOLLOWER};")


def accepted(folder: Path) -> plans.Accepted:
    """Differences of plans that somebody has accepted in an environment."""
    return plans.Accepted(folder / "accepted-plans.jsonl")


def _healthy(act: Act) -> Iterator[Line]:
    yield from judge(look(act.inventory, act.fleet))


def _slot_is_there(source: Database, name: str, timeline: str | None = None) -> None:
    """See that nobody has failed over since.

    Args:
        source: who is followed.
        name: by which slot.
        timeline: on which it was when the copy was made. A primary that has come back keeps its slot, but lacks what it had
            sent and the other one never got.

    Raises:
        GoBack: the slot is gone, and with it what was written since; or the timeline is another one.
    """
    if not source.ask(
        f"SELECT slot_name FROM pg_replication_slots WHERE slot_name = {literal(name)} AND wal_status <> 'lost'"
    ):
        raise GoBack(
            f"{source.name} has no slot {name} any more: its cluster has failed over, or its log grew past the slot's limit"
        )
    now = _timeline(source)
    if timeline not in {None, now}:
        raise GoBack(f"{source.name} is on timeline {now} instead of {timeline}: its cluster has failed over")


def _timeline(database: Database) -> str:
    (row,) = database.ask("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline")
    return str(row["timeline"])


def _whole(act: Act, source: Psql, target: Psql, slot: str, key: str) -> Line:
    """Compare everything while it flows; what was touched meanwhile is kept for the cutover."""
    road = Road(act)
    if slot == road.names.forward:
        _slot_is_there(source, slot, act.state.notes.get("timeline"))
    flow.drop_slot(source, road.names.proof)
    path = road.touched(key)
    path.unlink(missing_ok=True)
    flow.slot(source, road.names.proof)
    flow.drain(source, target, slot, "proof", deadline=CATCH_UP)
    touched, known = Touched(path=path), {table.title: table for table in tables(source)}

    def read() -> Touched:
        touched.read(source, road.names.proof, flow.PUBLICATION, known)
        return touched

    found = proof.whole(source, target, read)
    what = "Every row is the same on both sides"
    on_its_way = len(found.pending)
    found.pending = Touched()  # touched since: the next delta and the cutover read them again
    read()
    line = found.line(what)
    act.progress.say(f"{line.what}: {line.found}; {on_its_way} rows were on their way")
    return line


def _checksums(database: Database) -> Line:
    (row,) = database.ask("SELECT current_setting('data_checksums') AS state, (SELECT coalesce(sum(checksum_failures), 0)"
                          " FROM pg_stat_database)::bigint AS wrong")  # fmt: skip
    good = row["state"] == "on" and row["wrong"] == 0
    return Line(good, "Pages carry checksums, and none is wrong", f"checksums {row['state']}, {row['wrong']} wrong",
                "" if good else "See which file, in the log: the copy is made anew.")  # fmt: skip


@dataclass(frozen=True)
class _Way:
    """A cutover's: from a cluster to another, and the slots by which the one follows and the other will."""

    old: Side
    new: Side
    forward: str
    back: str


def _move(act: Act, way: _Way, touched: Touched, *, only_resolve: bool = False) -> None:
    """Cut over from a side to the other; first end what an interrupted try left.

    A host that is lost in the middle takes its sessions with it: then the cutover is ended from what was kept, by whoever leads
    each side by then, forward or back as it was decided.

    Raises:
        UserError: it went back, with what was found.
        GoBack: the old cluster has failed over, and the new one may hold what it does not.
    """
    with _ledger_rests(act):
        held, why = False, ""
        if act.state.notes.get("cutover") and act.state.notes.get("cutting") == way.old.one.slot:
            held = _resolved(act, way)
        if not held and not only_resolve:
            if way.forward == Road(act).names.forward:
                _slot_is_there(way.old.database(act.inventory.cluster), way.forward, act.state.notes.get("timeline"))
            try:
                held, why = _cut(act, way, touched)
            except UserError as error:
                if not act.state.notes.get("cutover"):
                    raise
                act.progress.say(f"the cutover was cut short: {error}")
                held, why = _resolved(act, way), str(error)
        # Before hosts are told: a run that is interrupted here goes on from the side that serves.
        served = way.new if held else way.old
        act.remember(side="new" if served.one.slot == act.plan.facts["new"] else "old", cutover=None)
        if not held and not only_resolve:
            raise UserError(why)


@contextmanager
def _opened(
    act: Act, way: _Way, touched: Touched, silent: Callable[[str], None] | None = None
) -> Iterator[tuple[list[Move], doors.Everywhere]]:
    """Sessions on the primaries of both sides, and every door."""
    name, old, new = act.inventory.cluster, way.old, way.new
    with (
        session(replace(old.database(name), limit=QUICK)) as here,
        session(replace(new.database(name), limit=QUICK)) as there,
        doors.everywhere(act.inventory, act.fleet, old.one, new.one, limit=LIMIT, silent=silent) as gate,
    ):
        yield [Move(name, here, there, touched, way.forward, way.back)], gate


def _cut(act: Act, way: _Way, touched: Touched) -> tuple[bool, str]:
    """Cut over; whether it held, and what is said of it."""
    with _opened(act, way, touched) as (moves, gate):
        gate.ready()
        moved = cutover.cut_over(
            moves,
            gate,
            limit=LIMIT,
            keep=lambda found: act.remember(cutover=dict(found), cutting=way.old.one.slot),
            say=act.progress.say,
        )
    act.journal("cutover", held=moved.held, seconds=round(moved.seconds, 3), steps=moved.steps)
    act.progress.say(moved.sentence + "; " + ", ".join(f"{what} {took:.2f} s" for what, took in moved.steps))
    return moved.held, moved.sentence


def _resolved(act: Act, way: _Way) -> bool:
    """End a cutover that was interrupted; whether the new side serves.

    Raises:
        UserError: one of the sides has no primary, and gets none in time.
    """
    end, said = time.monotonic() + RESOLVE_LIMIT, set[str]()

    def once(what: str) -> None:
        if what not in said:
            act.progress.say(what)
        said.add(what)

    def silent(what: str) -> None:
        once(f"{what}; the cutover is ended without it")

    while True:
        try:
            with _opened(act, way, Touched(), silent) as (moves, gate):
                held = cutover.resolve(moves, gate, act.state.notes["cutover"])
        except UserError as error:
            if time.monotonic() > end:
                raise UserError(f"The interrupted cutover could not be ended: {error}") from error
            once(f"not yet: {error}")
            act.fleet.forget(act.inventory.hosts)  # links to a host that is lost
            time.sleep(1.0)
            continue
        act.progress.say(f"the interrupted cutover {'is ended' if held else 'was taken back'}")
        act.journal("cutover resolved", held=held)
        return held


def _serves(act: Act, new: Side, old: Side) -> None:
    """Have everybody go by the side that serves, and bring it the ledger of the restore proofs."""
    Road(act).serve(new.one, old.one)
    _carry_ledger(old.database("postgres"), new.database("postgres"))


@contextmanager
def _ledger_rests(act: Act) -> Iterator[None]:
    """Hold the writer of the restore proofs' ledger back on every database host."""
    hosts = [host.name for host in act.inventory.group("databases")]
    act.fleet.run_all("systemctl stop sias-restore-beat.timer sias-restore-beat.service", hosts=hosts, timeout=90.0)
    try:
        yield
    finally:
        act.fleet.run_all(["systemctl", "start", "sias-restore-beat.timer"], hosts=hosts, timeout=30.0)


def _carry_ledger(old: Database, new: Database) -> None:
    """Bring over the known writes that the copy does not have; those that both have are the same rows."""
    if not all(
        side.ask(f"SELECT to_regclass('{check.LEDGER}.ledger') IS NOT NULL AS there")[0]["there"] for side in (old, new)
    ):
        return
    (last,) = new.ask(f"SELECT coalesce(max(n), 0) AS n FROM {check.LEDGER}.ledger")
    rows = old.ask(f"SELECT * FROM {check.LEDGER}.ledger WHERE n > {int(last['n'])} ORDER BY n")
    if rows:
        new.do(
            f"INSERT INTO {check.LEDGER}.ledger OVERRIDING SYSTEM VALUE SELECT * FROM json_populate_recordset("
            f"NULL::{check.LEDGER}.ledger, {literal(json.dumps(rows))}) ON CONFLICT DO NOTHING;"
        )
    margin = sequences.MARGIN
    new.do(f"SELECT setval(pg_get_serial_sequence('{check.LEDGER}.ledger', 'n'), (SELECT coalesce(max(n), 0) + {margin} FROM"
           f" {check.LEDGER}.ledger));")  # fmt: skip
