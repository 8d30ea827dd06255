"""PostgreSQL 15 to 17 on a real host, under writes through a real PgBouncer: the engine of the road, there and back.

It makes a cluster of its own beside whatever the host runs (own folders, ports and PgBouncer), needs no deployed platform,
and is meant for a lab's machines on Debian 13, which carry 17; 15 comes from Debian 12's archive for this test alone.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from siasops import remote
from siasops.inventory import Inventory
from siasops.migrate import copy, cutover, fence, flow, gates, plans, proof, schema, sequences
from siasops.migrate.changes import Touched
from siasops.migrate.copy import Green
from siasops.migrate.cutover import Move, Side
from siasops.migrate.database import AS_POSTGRES, Psql, session
from siasops.migrate.flow import Names
from siasops.migrate.tables import tables
from siasops.remote import Fleet, Talk

pytestmark = [pytest.mark.changes, pytest.mark.timeout(3600)]
NAME, PERSONS = "sias", 1_023_447
BLUE, GREEN, POOL = 5440, 5441, 6440
SOCKET = "/var/run/postgresql"
HOME = "/var/lib/postgresql"
LIMIT = 10.0
"""Seconds that clients may be held: this lab shares two cores with others. What it took is printed."""
INSTALL = """
set -e
sed 's/trixie/bookworm/' /etc/apt/sources.list > /etc/apt/sources.list.d/test-bookworm.list
printf 'Package: *\\nPin: release n=bookworm*\\nPin-Priority: 100\\n' > /etc/apt/preferences.d/test-bookworm
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
ls /usr/lib/postgresql/15/bin/initdb /usr/lib/postgresql/17/bin/initdb /usr/sbin/pgbouncer >/dev/null 2>&1 || {
  apt-get $PROXY update -qq
  DEBIAN_FRONTEND=noninteractive apt-get $PROXY install -y -qq --no-install-recommends postgresql-15 postgresql-17 pgbouncer >&2
  systemctl disable --now pgbouncer >&2
}
rm /etc/apt/sources.list.d/test-bookworm.list /etc/apt/preferences.d/test-bookworm
"""
CONTENT = f"""
CREATE ROLE app LOGIN;
CREATE TABLE household (id int PRIMARY KEY, commune text NOT NULL);
CREATE TABLE person (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, household int REFERENCES household, name text NOT NULL,
  first_name text,
  born date, note bytea, score double precision, seen timestamptz, more jsonb);
CREATE TABLE ledger (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  client int NOT NULL, person bigint, at timestamptz DEFAULT now());
INSERT INTO household SELECT n, 'C' || n % 725 FROM generate_series(1, 400000) n;
INSERT INTO person (household, name, first_name, born, note, score, seen, more)
  SELECT n % 400000 + 1, 'N' || n % 40000, 'F' || n % 900, date '1930-01-01' + n % 33000, decode(md5(n::text), 'hex'), n / 7.0,
         timestamptz '2026-01-01 UTC' + n * interval '1 second', jsonb_build_object('n', n) FROM generate_series(1, {PERSONS}) n;
CREATE INDEX person_name ON person (name, first_name);
CREATE INDEX person_household ON person (household);
CREATE INDEX person_born ON person (born);
CREATE EXTENSION pg_trgm;
CREATE EXTENSION pg_stat_statements;
CREATE INDEX person_like ON person USING gin (name gin_trgm_ops);
GRANT USAGE ON SCHEMA public TO app; GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
REVOKE ALL ON DATABASE {NAME} FROM PUBLIC; GRANT CONNECT ON DATABASE {NAME} TO app;
VACUUM ANALYZE;
"""
WRITES = """\\set p random(1, 1000000)
BEGIN;
INSERT INTO ledger (client, person) VALUES (:client_id, :p);
UPDATE person SET score = score + 1, seen = now() WHERE id = :p;
COMMIT;
"""
LIVES = "FROM person p JOIN household h ON h.id = p.household"
WORKLOAD = [
    plans.Query("person", "SELECT * FROM person WHERE id = $1", (("7",), ("900001",)), 50),
    plans.Query("exact name", "SELECT id FROM person WHERE name = $1 AND first_name = $2", (("N7", "F7"), ("N39999", "F1")), 20),
    plans.Query("like", "SELECT id FROM person WHERE name LIKE $1 LIMIT 50", (("%3999%",), ("%12345%",)), 10),
    plans.Query("household", f"SELECT p.* {LIVES} WHERE h.id = $1", (("5",), ("399999",)), 20),
    plans.Query("commune", f"SELECT count(*) {LIVES} WHERE h.commune = $1", (("C7",),), 1),
]  # fmt: skip
SETTINGS = (
    "listen_addresses = ''", "wal_level = logical", "shared_buffers = 256MB", "max_wal_size = 2GB", "random_page_cost = 1.1",
    "shared_preload_libraries = pg_stat_statements", "wal_sender_timeout = 5s", "work_mem = 8MB", "effective_cache_size = 1GB",
)  # fmt: skip


class PgBouncer:
    """Doors of this test: one PgBouncer on the host, of its own, through one console that stays."""

    console = ("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "/tmp/sias-pool", "-p", str(POOL), "-U", "postgres",
               "-d", "pgbouncer")  # fmt: skip

    def __init__(self, talk: Talk, *, home: int = BLUE, away: int = GREEN) -> None:
        self._talk, self._ports = talk, {"from": home, "to": away}

    def hold(self) -> None:
        self._say(f"PAUSE {NAME};")

    def point(self, to: Side) -> None:
        self._say(f"\\! cp /tmp/sias-pool/{self._ports[to]} /tmp/sias-pool/ini\nRELOAD;")

    def release(self) -> None:
        self._say(f"\\set ON_ERROR_STOP off\nRESUME {NAME};\n\\set ON_ERROR_STOP on")

    def _say(self, command: str) -> None:
        self._talk.ask(f"{command}\n\\echo done\n", "done\n", timeout=LIMIT)


def pool(fleet: Fleet, host: str) -> None:
    """Write its two configurations, one for each side."""
    users = 'printf \'"app" ""\\n"postgres" ""\\n\' > users'
    for port in (GREEN, BLUE):
        text = (
            f"[databases]\n{NAME} = host={SOCKET} port={port} pool_size=8\n[pgbouncer]\nlisten_port={POOL}\n"
            "listen_addr=\nunix_socket_dir=/tmp/sias-pool\nauth_type=trust\nauth_file=/tmp/sias-pool/users\n"
            "admin_users=postgres\npool_mode=transaction\npidfile=/tmp/sias-pool/pid\nlogfile=/tmp/sias-pool/log\n"
            "server_login_retry=0.2\n"
        )
        line = f"mkdir -p sias-pool && cd sias-pool && {users} && cat > {port} && cp {port} ini"
        on(fleet, host, line, stdin=text)


def on(
    fleet: Fleet, host: str, line: str, *, check: bool = True, stdin: str | None = None, timeout: float = 600.0
) -> remote.Result:
    command = ["runuser", "-u", "postgres", "--", "sh", "-c", f"cd /tmp; {line}"]
    return fleet.run(host, command, stdin=stdin, check=check, timeout=timeout)


@pytest.fixture(scope="module")
def place(inventory: Inventory) -> Iterator[tuple[Fleet, str]]:
    """A database host with a blue cluster of 1 023 447 persons, its PgBouncer, and nothing of the platform's touched."""
    assert inventory.is_lab, "only in a lab"
    host = inventory.group("databases")[0].name
    with remote.connect(inventory, [host]) as fleet:
        if "trixie" not in fleet.run(host, "cat /etc/os-release", check=True).stdout:
            pytest.skip(f"{host} is no Debian 13, whose archive has PostgreSQL 17: make lab DEBIAN=13")
        proxy = f"PROXY='-o Acquire::http::Proxy={inventory.facts['base_apt_proxy']}'\n"
        fleet.run(host, ["sh", "-s"], stdin=proxy + INSTALL, timeout=900, check=True)
        _clean(fleet, host)
        data, binaries = f"{HOME}/15/test-blue", "/usr/lib/postgresql/15/bin"
        on(fleet, host, f"{binaries}/initdb -D {data} -U postgres -E UTF8 --locale=C.UTF-8 -k -A peer >/dev/null")
        # As a primary that was a standby once: it still names its slot.
        lines = [
            *SETTINGS,
            f"port = {BLUE}",
            "unix_socket_directories = '/var/run/postgresql'",
            "primary_slot_name = 'once'",
        ]
        on(fleet, host, f"cat >> {data}/postgresql.conf", stdin="\n".join(lines) + "\n")
        on(
            fleet,
            host,
            f"echo 'local all app trust' | cat - {data}/pg_hba.conf > {data}/x && mv {data}/x {data}/pg_hba.conf",
        )
        on(fleet, host, f"{binaries}/pg_ctl -D {data} -w -s -l {data}/log start")
        Psql(fleet, host, BLUE, "postgres").do(f"CREATE DATABASE {NAME};")
        Psql(fleet, host, BLUE, NAME).do(CONTENT)
        pool(fleet, host)
        on(fleet, host, "/usr/sbin/pgbouncer -q -d /tmp/sias-pool/ini")
        try:
            yield fleet, host
        finally:
            _clean(fleet, host)


def _clean(fleet: Fleet, host: str) -> None:
    on(fleet, host, "[ ! -e /tmp/sias-pool/pid ] || kill $(cat /tmp/sias-pool/pid); rm -rf /tmp/sias-pool", check=False)
    for major in ("15", "17"):
        for name in ("test-blue", "test-green", "test-green-copy"):
            data = f"{HOME}/{major}/{name}"
            on(
                fleet,
                host,
                f"/usr/lib/postgresql/{major}/bin/pg_ctl -D {data} -m immediate -w stop; rm -rf {data}",
                check=False,
            )


class Writers:
    """pgbench through PgBouncer, on the host; it ends at its first error, and the test sees it."""

    def __init__(self, fleet: Fleet, host: str, seconds: int) -> None:
        on(fleet, host, "cat > /tmp/sias-pool/writes.sql", stdin=WRITES)
        line = (f"/usr/lib/postgresql/17/bin/pgbench -n -h /tmp/sias-pool -p {POOL} -U app -c 4 -j 2 -R 60 -T {seconds}"
                f" -P 1 --failures-detailed -f /tmp/sias-pool/writes.sql {NAME} 2>&1")  # fmt: skip
        self.result: remote.Result | None = None

        def work() -> None:
            with remote.connect(fleet.inventory, [host]) as own:
                self.result = on(own, host, line, check=False, timeout=seconds + 60)

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def done(self) -> int:
        """Transactions that were acknowledged.

        Raises:
            AssertionError: one failed.
        """
        self._thread.join()
        assert self.result is not None
        said = self.result.stdout
        assert self.result.ok, said[-2000:]
        assert "number of failed transactions: 0" in said, said[-2000:]
        (number,) = re.findall(r"number of transactions actually processed: (\d+)", said)
        return int(number)


@dataclass
class Journey:
    """The road from blue to green and back, in the order in which a migration takes it."""

    fleet: Fleet
    host: str
    folder: Path
    figures: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names, self._begin = Names(NAME), time.monotonic()
        self.blue = Psql(self.fleet, self.host, BLUE, NAME)
        self.green = Green(self.fleet, self.host, GREEN, f"host={SOCKET} port={BLUE} user=postgres", "15", "17",
                           (*SETTINGS, "max_slot_wal_keep_size = -1"), "test-green")  # fmt: skip
        self.target = self.green.database(NAME)

    def lap(self, what: str) -> None:
        now = time.monotonic()
        self.figures[what], self._begin = round(now - self._begin, 2), now

    def gates(self) -> None:
        assert [
            line for line in gates.gates(self.blue, copy.offered(self.fleet, self.host, self.green.new)) if not line.ok
        ] == []
        flow.ready(self.blue)
        gates.freeze(self.blue)
        for name in (self.names.proof, self.names.forward):
            flow.slot(self.blue, name)
        self.lap("gates, freeze, slots")

    def make_green(self) -> None:
        writers = Writers(self.fleet, self.host, 45)
        copy.make(self.green)
        self.lap("physical copy")
        at = flow.restore_point(self.blue, copy.POINT)
        copy.stopped_at_point(self.green)
        self.lap("stopped at its point")
        copy.raise_version(self.green)
        self.lap("pg_upgrade")
        copy.start(self.green)
        self.lap("start and full ANALYZE")
        fence.close(self.target, fence.access(self.target))
        flow.follow(self.target, f"{self.green.where} dbname={NAME}", self.names.forward, at)
        self.figures["writes meanwhile"] = writers.done()
        flow.drain(self.blue, self.target, self.names.forward, "caught up", deadline=300)
        self.lap("caught up")
        (version,) = self.target.ask("SELECT current_setting('server_version') AS v")
        assert version["v"].startswith("17")
        assert gates.frozen(self.target).ok

    def prove(self, source: Psql, target: Psql, touched: Touched) -> None:
        """The whole proof, while writers write."""
        known, writers = {t.title: t for t in tables(source)}, Writers(self.fleet, self.host, 40)

        def read() -> Touched:
            touched.read(source, self.names.proof, flow.PUBLICATION, known)
            return touched

        whole = proof.whole(source, target, read)
        self.lap(f"whole proof, {whole.rows} rows, {source.port} to {target.port}, while flowing")
        assert not whole.differences, [str(d) for d in whole.differences]
        assert whole.rows > PERSONS
        writers.done()
        self.lap("rest of the writes")

    def inspect(self) -> plans.Verdict:
        sound, said = copy.sound(self.green, NAME)
        assert sound, said
        self.lap("pg_amcheck, every index")
        same = schema.same(self.blue, self.target, expected=frozenset({f"database {NAME}"}))
        assert same.ok, same.found
        verdict = plans.gate(self.blue, self.target, [*WORKLOAD, *plans.statements(self.blue)])
        self.lap("schema and plans")
        self.figures |= {"settings": schema.settings(self.blue, self.target, {}).found, "plans": verdict.line().found}
        return verdict

    def cut_over(self, move: Move, doors: PgBouncer, where: str) -> None:
        """With writers that see no error, each of whose writes is there."""
        query = "SELECT count(*) AS n FROM public.ledger"
        before = move.old.ask(query)[0]["n"]
        writers = Writers(self.fleet, self.host, 30)
        time.sleep(3)
        moved = cutover.cut_over([move], doors, limit=LIMIT, keep=lambda _: None)
        self.figures[f"clients held, {where}"] = {"seconds": round(moved.seconds, 3), "steps": moved.steps}
        assert moved.held, moved.sentence
        cutover.follow_back(move, where)
        acknowledged = writers.done()
        assert acknowledged > 100
        assert move.new.ask(query)[0]["n"] == before + acknowledged
        assert sequences.unused(move.new).ok
        self.lap("cutover under load")


def test_from_15_to_17_and_back_under_writes(place: tuple[Fleet, str], tmp_path: Path) -> None:
    """No acknowledged write is lost, no client sees an error, no query gets slower; and the way back holds the same."""
    fleet, host = place
    road = Journey(fleet, host, tmp_path)
    blue, target, names = road.blue, road.target, road.names
    with (
        session(replace(blue, limit=LIMIT)) as quick_blue,
        session(replace(target, limit=LIMIT)) as quick_green,
        fleet.talk(host, [*AS_POSTGRES, *PgBouncer.console]) as console,
    ):
        try:
            road.gates()
            road.make_green()
            touched = Touched(path=tmp_path / "touched.json")
            road.prove(blue, target, touched)
            verdict = road.inspect()
            there = Move(NAME, quick_blue, quick_green, touched, names.forward, names.back)
            road.cut_over(there, PgBouncer(console), f"host={SOCKET} port={GREEN} user=postgres dbname={NAME}")

            # The way back: blue has followed since; the same proof, the same cutover.
            flow.slot(target, names.proof)
            flow.drain(target, blue, names.back, "way back", deadline=120)
            back = Touched()
            road.prove(target, blue, back)
            home = Move(NAME, quick_green, quick_blue, back, names.back, names.forward)
            doors = PgBouncer(console, home=GREEN, away=BLUE)
            road.cut_over(home, doors, f"host={SOCKET} port={BLUE} user=postgres dbname={NAME}")
            flow.leave(target, names.forward)
            copy.remove(road.green)
            flow.clear(blue, names)
        finally:
            print(json.dumps(road.figures, indent=1))
    assert not verdict.refused, "\n\n".join(f"{f}\n{f.plans()}" for f in verdict.refused)
