"""Go or no-go for a migration to PostgreSQL's next major version, and the proof of one that has come to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from siasops.calendar.due import due
from siasops.cluster import instance
from siasops.cluster.check import Line, check, healthy, together
from siasops.cluster.instance import Instance
from siasops.cluster.view import View, look
from siasops.drill.faults import Stage
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.migrate import copy, endpoints, fence, gates, plans, sequences
from siasops.migrate.copy import Green
from siasops.migrate.database import Database, Psql
from siasops.migrate.flow import Names
from siasops.migrate.sides import Side
from siasops.migrate.tables import SYSTEM
from siasops.remote import Fleet
from siasops.upgrade.check import backed_up, nobody_away, restores

KIND = "postgres_upgrade"
"""As in the release calendar."""
DATABASES = "SELECT datname AS name FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"
LEDGER = "sias_restore"
"""Schema of the database postgres in which the proofs that backups restore keep their known writes (role backup)."""
GONE = frozenset({"adminpack", "old_snapshot"})
"""Extensions of 15 that 17's packages no longer have (release notes of 17)."""
_STRAY = f"""SELECT n.nspname || '.' || c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'm') AND {SYSTEM} AND n.nspname <> '{LEDGER}' ORDER BY 1"""
_SIZE = """SELECT ((SELECT sum(pg_database_size(oid)) FROM pg_database)
 + (SELECT coalesce(sum(size), 0) FROM pg_ls_waldir()))::bigint AS bytes,
 (SELECT setting::bigint * 8192 FROM pg_settings WHERE name = 'shared_buffers') AS buffers"""


def lines(stage: Stage, facts: Mapping[str, Any], workload: list[plans.Query]) -> list[Line]:
    """Everything that must hold before anything is touched."""
    inventory, fleet = stage.inventory, stage.fleet
    view = look(inventory, fleet)
    cluster, serving = check(view), instance.of(inventory).serving
    found = [
        together(
            "The platform could lose a host now", cluster, "Mend that first: a migration never starts from a wound."
        ),
        nobody_away(fleet),
        *_debian(inventory, fleet, facts["to"]),
        *_places(inventory, fleet, facts),
        Line(
            bool(workload),
            "The application's own queries are known",
            f"{len(workload)} queries",
        ),
        endpoints.known(fleet, [host.name for host in inventory.group("applications")]),
        *backed_up(inventory, fleet),
        *restores(inventory, fleet),
        due(inventory, KIND, cluster),
    ]
    if view.leader is not None:
        host = view.leader.host

        def database(name: str) -> Psql:
            return Psql(fleet, host, serving.postgres, name)

        names = [row["name"] for row in database("postgres").ask(DATABASES)]
        found += strays(inventory, names, database("postgres"))
        offered = copy.offered(fleet, host, facts["to"]) or _expected(fleet, host, facts["from"])
        found += gates.gates(database(inventory.cluster), offered, target=facts["to"])
        found += _room(stage, facts, database("postgres"))
    return found


def strays(inventory: Inventory, names: list[str], postgres: Database) -> Iterator[Line]:
    """Whether there is anything that a migration would leave behind: it carries one database, and the ledger of restores."""
    others = [name for name in names if name not in {inventory.cluster, "postgres"}]
    tables = [f"postgres: {row['name']}" for row in postgres.ask(_STRAY)]
    yield Line(
        not others and not tables,
        f"Everything is in the database {inventory.cluster}",
        ", ".join([*(f"database {name}" for name in others), *tables][: gates.SHOWN]) or "nothing stands elsewhere",
        "Drop it, or move it there: it would stay as it was when the copy was made." if others or tables else "",
    )


def verified(stage: Stage, facts: Mapping[str, Any], notes: Mapping[str, Any]) -> list[Line]:
    """Everything that must hold at the end."""
    inventory, fleet = stage.inventory, stage.fleet
    now, view = instance.learn(inventory, fleet), look(inventory, fleet)
    versions = ", ".join(f"{member.host} {member.version or 'unknown'}" for member in view.members)
    majors = {member.version.split(".")[0] for member in view.members if member.answers}
    found = [
        Line(now.serving.slot == facts["new"] and majors == {facts["to"]}, f"PostgreSQL {facts['to']} serves", versions,
             "" if majors == {facts["to"]} else "`sias migrate postgres run --yes` goes on where it stands half-way."),
        *check(view),
        *backed_up(inventory, fleet),
    ]  # fmt: skip
    proven = notes.get("proven")
    found.append(Line(bool(proven), "Every row was proven at the cutover", str(proven or "no proof is on record")))
    if now.serving.slot == facts["new"]:
        new = Side(inventory, fleet, now.serving)
        found.append(sequences.unused(new.database(inventory.cluster)))
        found += way_back(new, None if now.beside is None else Side(inventory, fleet, now.beside))
    return found


def way_back(new: Side, old: Side | None) -> Iterator[Line]:
    """Whether the former cluster still follows, and stays closed, so that nothing is lost by going back."""
    what, name = "The way back is open", new.inventory.cluster
    if old is None:
        yield Line(True, what, "it was settled: the former cluster is gone")
        return
    slot = Names(name).back
    rows = new.database(name).ask(
        "SELECT active, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), confirmed_flush_lsn)::bigint AS behind"
        f" FROM pg_replication_slots WHERE slot_name = '{slot}'"
    )
    follows = bool(rows and rows[0]["active"])
    closed = fence.closed(old.database(name))
    state = (
        f"PostgreSQL {old.one.major} follows, {rows[0]['behind']} bytes behind"
        if follows
        else "the former cluster does not follow"
    )
    yield Line(
        follows and closed,
        what,
        state + ("" if closed else "; and it lets clients in"),
        ""
        if follows and closed
        else "See the log of the former cluster; if it cannot follow, `sias migrate postgres settle`.",
    )
    yield gates.frozen(new.database(name))


def green_of(stage: Stage, facts: Mapping[str, Any], host: str, where: str) -> Green:
    """Describe the copy on a host."""
    new = target(stage.inventory, facts)
    settings = ("listen_addresses = ''", "shared_preload_libraries = 'pg_stat_statements'")
    return Green(stage.fleet, host, new.postgres, where, facts["from"], facts["to"], settings, stage.inventory.cluster)


def target(inventory: Inventory, facts: Mapping[str, Any], *, runs: bool = True) -> Instance:
    """The cluster that is made."""
    return Instance(inventory, facts["new"], facts["to"], facts["stanza"], runs)


def origin(inventory: Inventory, facts: Mapping[str, Any]) -> Instance:
    """The cluster that is left."""
    return Instance(inventory, facts["old"], facts["from"], facts["old_stanza"])


def _debian(inventory: Inventory, fleet: Fleet, major: str) -> Iterator[Line]:
    """Whether every database host's Debian carries the version."""
    carries = [debian for debian, known in inventory.facts["sias_debian"].items() if known["postgresql"] == major]
    names = [host.name for host in inventory.group("databases")]
    answers = fleet.run_all(". /etc/os-release; echo $VERSION_ID", hosts=names, timeout=15.0)
    runs = {name: answer.stdout.strip() or "unknown" for name, answer in answers.items()}
    good = bool(carries) and all(debian.isdigit() and int(debian) >= int(carries[0]) for debian in runs.values())
    yield Line(
        good, f"Debian carries PostgreSQL {major} on every database host",
        ", ".join(f"{name} Debian {debian}" for name, debian in runs.items()),
        "" if good else f"`sias upgrade debian` first: PostgreSQL {major} comes with Debian {', '.join(carries) or 'none'}.",
    )  # fmt: skip


def _places(inventory: Inventory, fleet: Fleet, facts: Mapping[str, Any]) -> Iterator[Line]:
    """Whether the other place is empty on every database host."""
    new = target(inventory, facts)
    names = [host.name for host in inventory.group("databases")]
    line = f"ls -d {new.data} {new.data}-copy 2>/dev/null; systemctl is-active --quiet {new.unit} && echo {new.unit} runs; :"
    answers = fleet.run_all(line, hosts=names, timeout=15.0)
    taken = [f"{name}: {', '.join(said)}" for name, answer in answers.items() if (said := answer.stdout.split())]
    yield Line(
        not taken, f"The place {new.slot} is free on every database host", "; ".join(taken) or f"{new.data} is nowhere",
        "See whose it is, and remove it: a copy is never made over something." if taken else "",
    )  # fmt: skip


def _room(stage: Stage, facts: Mapping[str, Any], postgres: Database) -> Iterator[Line]:
    """Whether every database host has room for a second cluster, the one that makes it and those that copy it."""
    (size,) = postgres.ask(_SIZE)
    answers = []
    for host in stage.inventory.group("databases"):
        green = green_of(stage, facts, host.name, "")
        answers.append(copy.room_for(green, size["bytes"], size["buffers"], host.memory_mb))
    good = all(ok for ok, _ in answers)
    action = "A larger disk, or more memory (memory_mb): both clusters run for the time of the way back."
    found = "; ".join(found for _, found in answers)
    yield Line(good, "There is room for a second cluster", found, "" if good else action)


def _expected(fleet: Fleet, host: str, major: str) -> dict[str, str] | None:
    """What the next version's packages will offer, before they are installed: what this one's do, without what has gone.

    Asked again, of what is really there, once they are (`procedure.py`).
    """
    offered = copy.offered(fleet, host, major)
    return None if offered is None else {name: version for name, version in offered.items() if name not in GONE}


def ensure(found: list[Line], what: str) -> None:
    """Refuse to go on.

    Raises:
        UserError: a line does not hold.
    """
    if not healthy(found):
        wrong = "; ".join(f"{line.what}: {line.found}. {line.action}" for line in found if not line.ok)
        raise UserError(f"{what}: {wrong or 'nothing was looked at'}")


def led(view: View) -> str:
    """Host of the primary.

    Raises:
        UserError: nobody leads.
    """
    if view.leader is None:
        raise UserError("Nobody leads: a migration never starts from a wounded platform. See `sias cluster check`.")
    return view.leader.host
