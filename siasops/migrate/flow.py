"""From blue to green without a gap: the log's position where the copy stands, and everything after it, row by row.

    ready(blue)                      # publication, marks, and a slot for green and one for the proof
    at = restore_point(blue)         # green, a physical standby, stops exactly here and becomes a cluster of its own
    follow(green, blue, where, at)   # after pg_upgrade: what committed after `at` is applied, what came before is there

A transaction is in the copy when its commit record lies before `at`, and is sent when it lies after: neither twice nor never.
Everything here may be run again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from siasops.errors import UserError
from siasops.migrate import decision
from siasops.migrate.database import Database, literal
from siasops.migrate.gates import SCHEMA

PUBLICATION = "sias_migration"
FORWARD, PROOF, BACK = "sias_forward", "sias_proof", "sias_back"
"""Logical slots (and subscriptions): blue to green, the proof's own, green to blue. With more than one database of a cluster,
each has its own of them: a slot's name is followed by its database's."""
LOOK_EVERY = 0.02
ERRORS_EVERY = 5.0
"""Seconds between two looks at whether a subscriber refuses what comes; it tries again every five."""


@dataclass(frozen=True)
class Names:
    """Names of one database's slots, which a cluster has only once."""

    database: str

    @property
    def forward(self) -> str:
        """Blue to green."""
        return f"{FORWARD}_{self.database}"

    @property
    def proof(self) -> str:
        """What was touched on the side that serves."""
        return f"{PROOF}_{self.database}"

    @property
    def back(self) -> str:
        """Green to blue."""
        return f"{BACK}_{self.database}"


def ready(source: Database) -> None:
    """Publish every table, and make the tables of marks and decisions.

    Updates of a table without a key fail from now on: the gates come first.
    """
    source.do(
        f"BEGIN; SET LOCAL sias.migration = 'on'; CREATE SCHEMA IF NOT EXISTS {SCHEMA};"
        f" CREATE TABLE IF NOT EXISTS {SCHEMA}.mark (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text NOT NULL,"
        f" at timestamptz NOT NULL DEFAULT clock_timestamp()); {decision.MADE} COMMIT;"
    )
    if not source.ask(f"SELECT pubname FROM pg_publication WHERE pubname = '{PUBLICATION}'"):
        source.do(f"CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES;")


def slot(source: Database, name: str) -> str:
    """Make a logical slot where it is missing; its confirmed position."""
    row = _slot(source, name)
    if row is None:
        source.ask(f"SELECT lsn::text AS at FROM pg_create_logical_replication_slot({literal(name)}, 'pgoutput')")
        row = _slot(source, name)
    if row is None:
        raise UserError(f"{source.name}: slot {name} was made and is gone; see that Patroni's `slots` name it.")
    return row


def drop_slot(source: Database, name: str, *, deadline: float = 10.0) -> None:
    """Remove a slot once nobody reads it; harmless when it is not there.

    Raises:
        UserError: it is read still.
    """
    end = time.monotonic() + deadline
    while source.ask(f"SELECT slot_name FROM pg_replication_slots WHERE slot_name = {literal(name)} AND active"):
        if time.monotonic() > end:
            raise UserError(
                f"{source.name}: slot {name} is still read after {deadline:.0f} s; disable its subscription."
            )
        time.sleep(0.1)
    source.ask(
        f"SELECT pg_drop_replication_slot(slot_name)::text AS gone FROM pg_replication_slots WHERE slot_name = {literal(name)}"
    )


def restore_point(source: Database, name: str) -> str:
    """Mark a position of the log, durable; the copy stops there (`recovery_target_name`) and the flow begins there."""
    (row,) = source.ask(f"SELECT pg_create_restore_point({literal(name)})::text AS at")
    # The next record carries it to the copy at once, instead of with the next write.
    source.ask("SELECT pg_switch_wal()::text AS at")
    return str(row["at"])


def follow(target: Database, where: str, slot_name: str, at: str | None) -> None:
    """Subscribe to everything that committed after a position.

    Args:
        target: who follows. Nothing is copied: its rows are there.
        where: libpq's description of the source, without a secret (a certificate or a password file has it).
        slot_name: on the source; the subscription has the same name.
        at: the position; None goes on from the slot's own.
    """
    if not target.ask(f"SELECT subname FROM pg_subscription WHERE subname = {literal(slot_name)}"):
        (version,) = target.ask("SELECT current_setting('server_version_num')::int AS number")
        # From 16 on rows are applied as each table's owner unless said, whom row-level security refuses.
        as_owner = ", run_as_owner = true" if version["number"] >= 160000 else ""  # noqa: PLR2004 - PostgreSQL 16
        target.do(
            f"CREATE SUBSCRIPTION {slot_name} CONNECTION {literal(where)} PUBLICATION {PUBLICATION}"
            f" WITH (create_slot = false, enabled = false, slot_name = {slot_name}, copy_data = false{as_owner});"
        )
        if at is not None:
            target.ask(
                f"SELECT pg_replication_origin_advance('pg_' || oid, {literal(at)})::text AS done"
                f" FROM pg_subscription WHERE subname = {literal(slot_name)}"
            )
    target.do(f"ALTER SUBSCRIPTION {slot_name} ENABLE;")


def rest(target: Database, slot_name: str) -> None:
    """Stop following, for now; harmless when it does not follow."""
    if target.ask(f"SELECT subname FROM pg_subscription WHERE subname = {literal(slot_name)}"):
        target.do(f"ALTER SUBSCRIPTION {slot_name} DISABLE;")


def leave(target: Database, slot_name: str) -> None:
    """Stop following for good; the source's slot stays, and is dropped there. Harmless when it does not follow."""
    if target.ask(f"SELECT subname FROM pg_subscription WHERE subname = {literal(slot_name)}"):
        target.do(f"ALTER SUBSCRIPTION {slot_name} DISABLE; ALTER SUBSCRIPTION {slot_name} SET (slot_name = NONE);")
        target.do(f"DROP SUBSCRIPTION {slot_name};")


def mark(source: Database, what: str) -> tuple[int, str]:
    """Write a row that tells, once it has arrived, that everything before it has; its number and the log's position after it."""
    source.do(f"INSERT INTO {SCHEMA}.mark (what) VALUES ({literal(what)});")
    (row,) = source.ask(f"SELECT max(id) AS id, pg_current_wal_flush_lsn()::text AS at FROM {SCHEMA}.mark")
    return int(row["id"]), str(row["at"])


def drain(source: Database, target: Database, slot_name: str, what: str, *, deadline: float) -> float:
    """Wait until the target holds, durably, everything that committed on the source before now.

    Transactions are applied in the order of their commits, so that the mark comes last. What is applied is flushed by the next
    commit that waits for it, at once: the position that the slot confirms follows up to 0.2 s later (`wal_writer_delay`), because
    a subscription's own commits do not wait, and clients would.

    Args:
        source: who was written.
        target: who follows.
        slot_name: by which slot.
        what: written into the mark.
        deadline: seconds.

    Returns:
        Seconds that it took.

    Raises:
        UserError: it has not in time, with where it stands; or it refuses what comes.
    """
    begin = time.monotonic()
    errors, looked = _errors(target, slot_name), begin
    number, at = mark(source, what)
    while not target.ask(f"SELECT id FROM {SCHEMA}.mark WHERE id = {number}"):
        if time.monotonic() - looked > ERRORS_EVERY:
            looked = time.monotonic()
            if _errors(target, slot_name) > errors + 1:  # one may be of a link that was cut
                raise UserError(f"{target.name} refuses what comes by {slot_name} from {source.name}: see its log.")
        if time.monotonic() - begin > deadline:
            rows = source.ask(
                f"SELECT active, ({literal(at)}::pg_lsn - confirmed_flush_lsn)::bigint AS behind"
                f" FROM pg_replication_slots WHERE slot_name = {literal(slot_name)}"
            )
            if not rows:
                raise UserError(f"{source.name} has no slot {slot_name} any more: see whether it has failed over.")
            state = "is read" if rows[0]["active"] else "is not read: see the log of the subscriber"
            raise UserError(
                f"{target.name} is {rows[0]['behind']} bytes behind {source.name} after {deadline:g} s; slot {slot_name} {state}."
            )
        time.sleep(LOOK_EVERY)
    target.do(
        f"BEGIN; SET LOCAL synchronous_commit = on; SELECT pg_logical_emit_message(true, 'sias', {literal(what)}); COMMIT;"
    )
    return time.monotonic() - begin


def forget(source: Database, slot_name: str) -> None:
    """Let a slot skip everything that is in the log so far: what came from the other side is not sent back to it."""
    source.ask(
        f"SELECT end_lsn::text AS at FROM pg_replication_slot_advance({literal(slot_name)}, pg_current_wal_flush_lsn())"
    )


def clear(source: Database, names: Names) -> None:
    """Take everything away that a migration has made in a database, when nobody follows any more; harmless when it is gone."""
    for name in (names.forward, names.proof, names.back):
        drop_slot(source, name)
    source.do(
        f"BEGIN; SET LOCAL sias.migration = 'on'; DROP PUBLICATION IF EXISTS {PUBLICATION};"
        f" DROP EVENT TRIGGER IF EXISTS {SCHEMA}_freeze; DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; COMMIT;"
    )


def _errors(target: Database, slot_name: str) -> int:
    """How often a subscriber has refused what came."""
    rows = target.ask(
        f"SELECT apply_error_count AS errors FROM pg_stat_subscription_stats WHERE subname = {literal(slot_name)}"
    )
    return int(rows[0]["errors"]) if rows else 0


def _slot(source: Database, name: str) -> str | None:
    rows = source.ask(
        f"SELECT confirmed_flush_lsn::text AS at FROM pg_replication_slots WHERE slot_name = {literal(name)}"
    )
    return str(rows[0]["at"]) if rows else None
