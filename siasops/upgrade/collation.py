"""Whether text still sorts as before, on the real values; and whether every index is whole.

An index over text is right only for the rules that it was built by, and those come with Debian's C library. Before a
host's upgrade a sample of the values of every text index is put in order and the order is hashed, for each collation;
afterwards the same values again. The values stay on the host, readable by PostgreSQL alone: they are people's names.
"""

from __future__ import annotations

from dataclasses import dataclass

from siasops.errors import UserError
from siasops.migrate.database import AS_POSTGRES, Psql, identifier, literal
from siasops.remote import Fleet

FOLDER = "/var/lib/postgresql/sias-collation"
SAMPLE = 5000
"""Values of each column."""
LIMIT = 4 * 3600.0
PASSING = ("conflict with recovery", "could not open relation")
"""What ends a check and says nothing against an index: a standby's replay needed its lock, or it was dropped meanwhile."""
CONFLICTS = 5
"""Times that a check is begun anew then."""
_DATABASES = "SELECT datname AS name FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"
_COLUMNS = """
SELECT DISTINCT quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS tab, quote_ident(a.attname) AS col,
       quote_ident(cn.nspname) || '.' || quote_ident(co.collname) AS coll, greatest(t.reltuples, 0)::bigint AS rows
FROM pg_index i
JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam AND am.amname = 'btree'
JOIN pg_class t ON t.oid = i.indrelid AND t.relkind IN ('r', 'm') AND t.relpersistence = 'p'
JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema'
CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indcollation::oid[]) AS k (attnum, coll)
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum
JOIN pg_collation co ON co.oid = k.coll JOIN pg_namespace cn ON cn.oid = co.collnamespace
ORDER BY 1, 2, 3"""
# Each index in a statement of its own: nothing is locked for longer than its check takes.
_WHOLE = """
SELECT format('SELECT pg_catalog.bt_index_check(%s::oid::regclass, true)', c.oid)
FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am am ON am.oid = c.relam
WHERE am.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisvalid AND i.indisready ORDER BY c.oid
\\gexec"""
_REFRESH = """
DO $refresh$
DECLARE one record;
BEGIN
  FOR one IN SELECT collnamespace::regnamespace::text AS place, collname FROM pg_collation
             WHERE collversion IS NOT NULL AND collversion IS DISTINCT FROM pg_collation_actual_version(oid)
               AND pg_collation_actual_version(oid) IS NOT NULL
  LOOP
    EXECUTE format('ALTER COLLATION %s.%I REFRESH VERSION', one.place, one.collname);
  END LOOP;
END $refresh$"""
_DATABASE_VERSIONS = """
SELECT datname AS name FROM pg_database
WHERE datcollversion IS NOT NULL AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)"""


@dataclass(frozen=True)
class Place:
    """A PostgreSQL of the platform."""

    fleet: Fleet
    host: str
    port: int

    def database(self, name: str) -> Psql:
        """One of its databases."""
        return Psql(self.fleet, self.host, self.port, name, LIMIT)

    def names(self) -> list[str]:
        """Databases that hold data."""
        return [row["name"] for row in self.database("postgres").ask(_DATABASES)]


def note(place: Place) -> dict[str, str]:
    """Keep a sample of each database's text on the host, and hash its order.

    Returns:
        A hash by `database collation`.

    Raises:
        UserError: a database cannot be read.
    """
    place.fleet.run(place.host, ["install", "-d", "-o", "postgres", "-m", "0700", FOLDER], check=True)
    for name in place.names():
        database = place.database(name)
        query = sample(database.ask(_COLUMNS))
        command = [*AS_POSTGRES, "sh", "-c", 'umask 077; cd / && out=$1; shift; exec "$@" -o "$out"', "sh", _file(name),
                   "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "/var/run/postgresql", "-p",
                   str(place.port), "-d", name, "-f", "-"]  # fmt: skip
        place.fleet.run(place.host, command, stdin=query, timeout=LIMIT, check=True)
    return hashes(place)


def hashes(place: Place) -> dict[str, str]:
    """Hash the order of the values that `note` kept on this host, as this host sorts now.

    Raises:
        UserError: they are not there, or hold a collation that is not.
    """
    found: dict[str, str] = {}
    for name in place.names():
        database = place.database(name)
        kept = f"pg_read_file({literal(_file(name))})::jsonb"
        for row in database.ask(f"SELECT k AS coll FROM jsonb_object_keys({kept}) k ORDER BY 1"):
            (answer,) = database.ask(
                "SELECT count(*) || ' ' || coalesce(md5(string_agg(md5(v), ''"
                f" ORDER BY v COLLATE {row['coll']}, v COLLATE pg_catalog.\"C\")), '') AS hash"
                f" FROM jsonb_array_elements_text({kept} -> {literal(row['coll'])}) v"
            )
            found[f"{name} {row['coll']}"] = answer["hash"]
    return found


def forget(fleet: Fleet, hosts: list[str]) -> None:
    """Remove the values."""
    fleet.run_all(["rm", "-rf", FOLDER], hosts=hosts)


def sample(columns: list[dict[str, object]]) -> str:
    """Make the query that collects values, by collation, as one JSON object; from every part of large tables."""
    parts = []
    for column in columns:
        rows = int(str(column["rows"]))
        # A little more than wanted, because pages hold more and less; a table that was never analyzed says 0.
        share = (
            ""
            if rows <= SAMPLE * 2
            else f" TABLESAMPLE SYSTEM ({max(0.001, 110.0 * SAMPLE / rows):.4f}) REPEATABLE (57)"
        )
        parts.append(
            f"(SELECT {literal(str(column['coll']))} AS coll, {column['col']}::text AS v FROM {column['tab']}{share}"
            f" WHERE {column['col']} IS NOT NULL LIMIT {SAMPLE})"
        )
    if not parts:
        return "SELECT '{}';\n"
    union = "\nUNION ALL\n".join(parts)
    return (
        "SELECT coalesce(jsonb_object_agg(coll, vals), '{}') FROM (SELECT coll, jsonb_agg(DISTINCT v) AS vals FROM (\n"
        f"{union}\n) AS every GROUP BY coll) AS by_collation;\n"
    )


def differing(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Name what sorts otherwise than before, or can no longer be compared.

    Raises:
        UserError: nothing was compared.
    """
    if not before:
        raise UserError("Nothing of the order of text was noted before the upgrade, so nothing can be proven after it.")
    return sorted(key for key in before if before[key] != after.get(key))


def whole(place: Place) -> int:
    """Check every B-tree of every database, each row of its table looked up in it.

    Returns:
        How many there are.

    Raises:
        UserError: one is damaged, and its name; or none was checked.
    """
    total = 0
    for name in place.names():
        for attempt in range(1, CONFLICTS + 1):
            try:
                total += len(place.database(name).raw(_WHOLE))
                break
            except UserError as error:
                if not any(sign in str(error) for sign in PASSING) or attempt == CONFLICTS:
                    raise
    if not total:
        raise UserError(f"{place.host}: no index was checked.")
    return total


def refresh(place: Place) -> list[str]:
    """Tell the catalogues of the primary that the present collations are the ones that its indexes were proven with.

    Returns:
        Databases whose own version was refreshed.
    """
    for name in place.names():
        place.database(name).do(_REFRESH)
    postgres = place.database("postgres")
    behind = [row["name"] for row in postgres.ask(_DATABASE_VERSIONS)]
    for name in behind:
        postgres.do(f"ALTER DATABASE {identifier(name)} REFRESH COLLATION VERSION")
    return behind


def reindex(place: Place, keys: list[str]) -> list[str]:
    """Build anew, while users write, every index over text that sorts otherwise; on the primary.

    Args:
        place: the primary.
        keys: as `differing` names them.

    Returns:
        The indexes.
    """
    built = []
    for name in sorted({key.split(" ", 1)[0] for key in keys}):
        database = place.database(name)
        wanted = ", ".join(literal(key.split(" ", 1)[1]) for key in keys if key.startswith(f"{name} "))
        rows = database.ask(
            "SELECT DISTINCT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS index FROM pg_index i"
            " JOIN pg_class c ON c.oid = i.indexrelid AND c.relpersistence = 'p' JOIN pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_am am ON am.oid = c.relam AND am.amname = 'btree'"
            " CROSS JOIN LATERAL unnest(i.indcollation::oid[]) AS k (coll) JOIN pg_collation co ON co.oid = k.coll"
            " JOIN pg_namespace cn ON cn.oid = co.collnamespace"
            f" WHERE quote_ident(cn.nspname) || '.' || quote_ident(co.collname) IN ({wanted})"
            " AND n.nspname NOT IN ('pg_catalog', 'pg_toast') ORDER BY 1"
        )
        for row in rows:
            database.do(f"REINDEX INDEX CONCURRENTLY {row['index']}")
            built.append(f"{name}: {row['index']}")
    return built


def _file(database: str) -> str:
    return f"{FOLDER}/{database}.json"
