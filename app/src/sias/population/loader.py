"""Load a population: one transaction, so that an interrupted load leaves what was there.

Secondary indexes and constraints are dropped, the rows arrive through COPY FREEZE, then everything is built again from
the definitions that PostgreSQL itself gave: no list to keep in step with the migrations. Only the owner of the tables
may do that.
"""

import hashlib
import multiprocessing
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

from django.db import connection, transaction

from sias.history.models import Change
from sias.population import generator
from sias.population.models import Load
from sias.repertoire.models import NameForm

TABLES = ("repertoire_person", "repertoire_household", "repertoire_membership", "repertoire_nameform")
# They speak of what is going away without a foreign key: keys of forms, history, duplicates.
TELL_OF_THEM = ("platform_idempotencykey", "history_change", "duplicates_candidate", "duplicates_merge")
# Tables that point at what is going away, however far.
POINTING = """
WITH RECURSIVE pointing(oid) AS (
  SELECT unnest(%s::regclass[])::oid
  UNION SELECT conrelid FROM pg_constraint JOIN pointing ON confrelid = pointing.oid WHERE contype = 'f')
SELECT oid::regclass::text FROM pointing ORDER BY 1
"""
DEFINITIONS = """
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), contype = 'f'
  FROM pg_constraint
 WHERE conrelid = ANY(%(tables)s::regclass[]) AND contype IN ('f', 'u', 'x')
UNION ALL
SELECT 'index', i.indrelid::regclass::text, c.relname, pg_get_indexdef(i.indexrelid), FALSE
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = ANY(%(tables)s::regclass[]) AND NOT i.indisprimary
   AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid AND contype IN ('u', 'x', 'p'))
"""

MOST = 5_000_000
FEW = 5_000  # persons: below, starting processes costs more than it saves
Progress = Callable[..., None]


class RefusedError(Exception):
    """The load must not or cannot be done; the message says what to do."""


@dataclass
class Result:
    """What a load did."""

    persons: int
    households: int
    names: int
    seconds: float
    digest: str


def check(persons: int, *, replace: bool, seed: int) -> bool:
    """Tell whether a load is needed; raise RefusedError when it must not be done."""
    if not 1 <= persons <= MOST:
        raise RefusedError(f"--persons : entre 1 et {MOST}.")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'repertoire_person'::regclass"
        )
        user, owner = cursor.fetchone()
        if user != owner:
            raise RefusedError(
                f"Le chargement reconstruit les index : il faut le rôle {owner}, pas {user} "
                f"(SIAS_DATABASE_USER={owner})."
            )
        cursor.execute("SELECT EXISTS (SELECT FROM repertoire_person)")
        occupied = cursor.fetchone()[0]
    if not occupied or replace:
        return True
    last = Load.objects.using("default").order_by("-id").first()
    if last is not None and (last.persons, last.seed) == (persons, seed):
        return False
    there = f"la population {last}" if last else "des personnes qu'aucun chargement n'a faites"
    raise RefusedError(f"La base contient déjà {there}. --replace l'efface, avec les documents qui y sont attachés.")


def _shards(persons: int, seed: int, processes: int) -> Iterator[generator.Shard]:
    work = generator.tasks(persons, seed)
    if processes <= 1 or persons < FEW:
        yield from map(generator.make_shard, work)
        return
    # spawn: a fork would share the database connection. An executor, not a Pool: it notices a child that dies.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as executor:
        waiting: deque[Future] = deque()
        for task in work:
            waiting.append(executor.submit(generator.make_shard, task))
            if len(waiting) > processes:  # few shards wait in memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def load(persons: int, seed: int, progress: Progress, processes: int | None = None) -> Result:
    """Replace the population. `progress(phase, done, total)` is called as it goes."""
    start = time.monotonic()
    processes = processes or len(os.sched_getaffinity(0))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute("SET LOCAL lock_timeout = '60s'")
        cursor.execute("SET LOCAL maintenance_work_mem = '256MB'")
        cursor.execute("SET LOCAL synchronous_commit = on")
        progress("vide les tables", 0, persons)
        cursor.execute(POINTING, [list(TABLES)])
        emptied = [*(row[0] for row in cursor.fetchall()), *TELL_OF_THEM]
        cursor.execute("TRUNCATE " + ", ".join(emptied))
        definitions = _drop(cursor)
        digest, last, first, households, memberships = _copy_persons(cursor, persons, seed, processes, progress)
        progress("foyers", 0, persons)
        _copy(cursor, "repertoire_household", generator.HOUSEHOLD_COLUMNS, households)
        _copy(cursor, "repertoire_membership", generator.MEMBERSHIP_COLUMNS, memberships)
        progress("dictionnaire des noms", 0, len(last) + len(first))
        _copy(cursor, "repertoire_nameform", ("kind", "norm", "phonetic", "variants", "uses"), _dictionary(last, first))
        _restore(cursor, definitions, progress)
        for table in TABLES:
            cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), coalesce(max(id), 1)) FROM {table}")  # noqa: S608
        progress("vérifie les foyers", persons, persons)
        cursor.execute(
            "SELECT count(*) FROM repertoire_person p WHERE NOT EXISTS (SELECT FROM repertoire_membership m "
            "WHERE m.person_id = p.id AND m.until IS NULL)"
        )
        if homeless := cursor.fetchone()[0]:
            raise RefusedError(f"{homeless} personnes sans foyer : le générateur est fautif, rien n'est chargé.")
        progress("statistiques", persons, persons)
        for table in emptied:
            cursor.execute(f"ANALYZE {table}")
        seconds = time.monotonic() - start
        Load.objects.create(persons=persons, seed=seed, digest=digest, seconds=seconds)
        # The triggers slept: a million rows of history would say nothing that this one does not.
        Change.objects.create(
            operation=Change.Operation.LOAD,
            table_name="repertoire_person",
            reason="import",
            after={"personnes": persons, "graine": seed, "empreinte": digest},
        )
        cursor.execute("SELECT count(*) FROM repertoire_household")
        result = Result(persons, cursor.fetchone()[0], len(last) + len(first), 0, digest)
        progress("enregistre dans les deux salles", persons, persons)
    result.seconds = time.monotonic() - start
    return result


def _drop(cursor) -> list[tuple]:
    cursor.execute(DEFINITIONS, {"tables": list(TABLES)})
    definitions = cursor.fetchall()
    for kind, table, name, _definition, _foreign in sorted(definitions, key=lambda row: not row[4]):
        cursor.execute(
            f'ALTER TABLE {table} DROP CONSTRAINT "{name}"' if kind == "constraint" else f'DROP INDEX "{name}"'
        )
    for table in TABLES:
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    return definitions


def _restore(cursor, definitions: list[tuple], progress: Progress) -> None:
    """Build indexes, then constraints, foreign keys last."""
    for table in TABLES:
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    ordered = sorted(definitions, key=lambda row: (row[4], row[0] == "constraint", row[1], row[2]))
    for done, (kind, table, name, definition, _foreign) in enumerate(ordered):
        progress(f"index {name}", done, len(ordered))
        cursor.execute(definition if kind == "index" else f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}')


def _copy(cursor, table: str, columns: Iterable[str], chunks: Iterable[bytes]) -> None:
    names = ", ".join(f'"{column}"' for column in columns)
    with cursor.copy(f"COPY {table} ({names}) FROM STDIN (FREEZE)") as copy:
        for chunk in chunks:
            copy.write(chunk)


def _copy_persons(cursor, persons: int, seed: int, processes: int, progress: Progress) -> tuple:
    digest = hashlib.sha256()
    last: Counter = Counter()
    first: Counter = Counter()
    households: list[bytes] = []
    memberships: list[bytes] = []
    done = 0
    names = ", ".join(f'"{column}"' for column in generator.PERSON_COLUMNS)
    with cursor.copy(f"COPY repertoire_person ({names}) FROM STDIN (FREEZE)") as copy:
        for shard in _shards(persons, seed, processes):
            copy.write(shard.persons)
            for part in (shard.persons, shard.households, shard.memberships):
                digest.update(part)
            households.append(shard.households)
            memberships.append(shard.memberships)
            last.update(shard.last_names)
            first.update(shard.first_names)
            done += shard.count
            progress("personnes", done, persons)
    return digest.hexdigest(), last, first, households, memberships


def _dictionary(last: Counter, first: Counter) -> Iterator[bytes]:
    for kind, counted in ((NameForm.LAST, last), (NameForm.FIRST, first)):
        for norm, uses in sorted(counted.items()):
            entry = NameForm.of(kind, norm)
            yield f"{kind}\t{norm}\t{entry.phonetic}\t{entry.variants}\t{uses}\n".encode()
