"""From one cluster to another under writes: nothing lost, nothing twice, never both open, and back past the limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from siasops.errors import UserError
from siasops.migrate import cutover, decision, fence, flow, gates, proof
from siasops.migrate.changes import Touched
from siasops.migrate.cutover import Move, Side
from siasops.migrate.flow import Names
from siasops.migrate.tables import tables
from tests.unit.drill.conftest import Server, private, wait_for
from tests.unit.migrate.conftest import Direct

NAME = "sias"
SETTINGS = (
    "wal_level=logical",
    "max_wal_senders=10",
    "max_replication_slots=10",
    "fsync=off",
    "wal_retrieve_retry_interval=100ms",
    "wal_writer_delay=10s",  # what nobody waits for reaches the disk late
)
CONTENT = """
CREATE ROLE app LOGIN;
CREATE TABLE ledger (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, writer int, number int, UNIQUE (writer, number));
CREATE TABLE account (id int PRIMARY KEY, amount bigint NOT NULL);
INSERT INTO account SELECT n, 1000 FROM generate_series(1, 20) n;
GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
REVOKE CONNECT ON DATABASE sias FROM PUBLIC; GRANT CONNECT ON DATABASE sias TO app;
"""


@dataclass
class Gate:
    """What PgBouncer is to the platform: clients ask it where to write, and wait while it holds them."""

    sides: dict[Side, Server]
    side: Side = "from"
    trouble: dict[str, Callable[[], None]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._free = threading.Event()
        self._free.set()
        self._busy = threading.Lock()

    def hold(self) -> None:
        self._happens("hold")
        self._free.clear()
        with self._busy:  # the transaction that runs has ended
            pass

    def point(self, to: Side) -> None:
        self._happens(f"point {to}")
        self.side = to

    def release(self) -> None:
        self._happens("release")
        self._free.set()

    def _happens(self, what: str) -> None:
        self.said.append(what)
        if what in self.trouble:
            self.trouble.pop(what)()

    def transaction(self, work: Callable[[psycopg.Connection[Any]], None]) -> None:
        while True:
            self._free.wait(20)
            with self._busy:
                if not self._free.is_set():
                    continue
                server = self.sides[self.side]
                with psycopg.connect(host="127.0.0.1", port=server.port, user="app", dbname=NAME) as connection:
                    work(connection)
                return


class Writers:
    """Write without end; what was acknowledged is known, and no error is borne."""

    def __init__(self, gate: Gate, acknowledged: list[int] | None = None) -> None:
        self.gate, self.acknowledged = gate, list(acknowledged or [0, 0])
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(2)]
        for thread in self._threads:
            thread.start()

    def _work(self, writer: int) -> None:
        while not self._stop.wait(0.005):
            number = self.acknowledged[writer] + 1

            def write(connection: psycopg.Connection[Any], number: int = number) -> None:
                connection.execute("INSERT INTO ledger (writer, number) VALUES (%s, %s)", (writer, number))
                connection.execute("UPDATE account SET amount = amount - 1 WHERE id = %s", (number % 20 + 1,))
                connection.execute("UPDATE account SET amount = amount + 1 WHERE id = %s", (number * 7 % 20 + 1,))

            try:
                self.gate.transaction(write)
            except psycopg.Error as error:
                self.errors.append(str(error))
                return
            self.acknowledged[writer] = number

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@dataclass
class Road:
    """Blue, green that follows it from a restore point on, and the gate between them and the writers."""

    blue: Server
    green: Server
    gate: Gate
    touched: Touched = field(default_factory=Touched)

    @property
    def old(self) -> Direct:
        return Direct(self.blue, NAME)

    @property
    def new(self) -> Direct:
        return Direct(self.green, NAME)

    def move(self) -> Move:
        return Move(NAME, self.old, self.new, self.touched, Names(NAME).forward, Names(NAME).back)

    def whole(self) -> proof.Proof:
        known = {t.title: t for t in tables(self.old)}

        def read() -> Touched:
            self.touched.read(self.old, Names(NAME).proof, flow.PUBLICATION, known)
            return self.touched

        return proof.whole(self.old, self.new, read)


@pytest.fixture
def road(tmp_path: Path) -> Iterator[Road]:
    """A copy that stopped at the restore point while blue was written, became a cluster of its own, and follows."""
    with private(tmp_path / "blue", *SETTINGS) as blue, private(tmp_path / "green", *SETTINGS) as green:
        with blue.connect() as connection:
            connection.execute("CREATE DATABASE sias")
        old = Direct(blue, NAME)
        old.do(CONTENT)
        writers = Writers(gate := Gate({"from": blue, "to": green}))
        try:
            _copy(blue, green)
            flow.ready(old)
            flow.ready(old)
            for name in (Names(NAME).proof, Names(NAME).forward):
                flow.slot(old, name)
            time.sleep(0.2)
            at = flow.restore_point(old, "sias_migration")
            with psycopg.connect(host="127.0.0.1", port=blue.port, user="postgres", dbname=NAME) as late:
                late.execute("INSERT INTO account VALUES (21, 1000)")  # a transaction that is open at the point
                time.sleep(0.1)
            wait_for(lambda: not _recovers(green), 20)
            made = Road(blue, green, gate)
            fence.close(made.new, fence.access(made.new))
            flow.follow(
                made.new,
                # As on the platform: whichever of several hosts takes writes; here one of them does not answer.
                f"host=127.0.0.1,127.0.0.1 port=1,{blue.port} user=postgres dbname={NAME} target_session_attrs=read-write",
                Names(NAME).forward,
                at,
            )
            flow.drain(old, made.new, Names(NAME).forward, "begin", deadline=20)
        finally:
            writers.stop()
        assert not writers.errors
        yield made


def _copy(blue: Server, green: Server) -> None:
    """Make green a physical standby of blue that stops at the restore point."""
    green.stop()
    green._run("rm", "-rf", str(green.data))
    where = ["-h", "127.0.0.1", "-p", str(blue.port), "-U", "postgres"]
    green._run(str(green.binaries / "pg_basebackup"), *where, "-D", str(green.data), "-R", "-X", "stream", "-c", "fast")
    with (green.data / "postgresql.auto.conf").open("a") as file:
        file.write(
            f"port={green.port}\nrecovery_target_name=sias_migration\nrecovery_target_action=promote\n"
            "recovery_target_timeline=current\n"
        )
    green.start()


def _recovers(server: Server) -> bool:
    try:
        with server.connect() as connection:
            row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
            return bool(row and row[0])
    except psycopg.Error:
        return True


def kept() -> tuple[list[Mapping[str, Any]], Callable[[Mapping[str, Any]], None]]:
    said: list[Mapping[str, Any]] = []
    return said, said.append


def ledger(server: Server) -> list[int]:
    """The highest number of each writer, and whether every number below is there once."""
    rows = Direct(server, NAME).ask(
        "SELECT writer, count(*) AS count, max(number) AS top FROM public.ledger GROUP BY 1 ORDER BY 1"
    )
    assert all(row["count"] == row["top"] for row in rows)
    return [row["top"] for row in rows]


def bank(server: Server) -> int:
    return int(Direct(server, NAME).ask("SELECT sum(amount)::bigint AS all FROM public.account")[0]["all"])


def test_what_has_arrived_is_on_the_disk_of_who_follows(road: Road) -> None:
    road.old.do("INSERT INTO account VALUES (100, 1000)")
    assert flow.drain(road.old, road.new, Names(NAME).forward, "here", deadline=20) < 5
    (row,) = road.new.ask("SELECT local_lsn <= pg_current_wal_flush_lsn() AS durable FROM pg_replication_origin_status")
    assert row["durable"]


def test_there_and_back_under_writes(road: Road) -> None:
    """Every acknowledged write is on the new side, once; no writer sees an error; then the same back."""
    first = road.whole()
    assert not first.differences, list(map(str, first.differences))
    assert first.rows > 20
    gate = road.gate
    before = ledger(road.blue)
    writers = Writers(gate, before)
    time.sleep(0.5)
    said, keep = kept()
    try:
        moved = cutover.cut_over([road.move()], gate, limit=30, keep=keep)
        assert moved.held, moved.sentence
        cutover.follow_back(road.move(), f"host=127.0.0.1 port={road.green.port} user=postgres dbname={NAME}")
        time.sleep(0.5)
    finally:
        writers.stop()
    assert writers.errors == []
    assert [name for name, _ in moved.steps][:2] == ["clients held", "old cluster closed"]
    assert all(line.ok for line in moved.lines)
    assert said[0][NAME]["old"] == {"name": "sias", "connections": -1, "may": ["postgres", "app"]}
    assert ledger(road.green) == writers.acknowledged
    assert min(a - b for a, b in zip(writers.acknowledged, before, strict=True)) > 0
    assert fence.closed(road.old)
    assert not fence.closed(road.new)

    # The way back: green serves, blue follows; the same proof, the same cutover.
    flow.slot(road.new, Names(NAME).proof)
    flow.drain(road.new, road.old, Names(NAME).back, "way back", deadline=20)
    way_back = Road(road.green, road.blue, Gate({"from": road.green, "to": road.blue}))
    proven = way_back.whole()
    assert not proven.differences, list(map(str, proven.differences))
    writers = Writers(way_back.gate, ledger(road.green))
    time.sleep(0.3)
    move = Move(NAME, way_back.old, way_back.new, way_back.touched, Names(NAME).back, Names(NAME).forward)
    try:
        moved = cutover.cut_over([move], way_back.gate, limit=30, keep=keep)
        time.sleep(0.3)
    finally:
        writers.stop()
    assert moved.held, moved.sentence
    assert writers.errors == []
    assert ledger(road.blue) == writers.acknowledged
    assert bank(road.blue) == 21_000


STEPS = ("hold", "point to")


@pytest.mark.parametrize("where", ["hold", "prove", "turn", "point to"])
def test_a_step_that_fails_goes_back_and_nobody_sees_it(
    road: Road, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError(f"{where} is broken")

    if where in STEPS:
        road.gate.trouble[where] = fail
    else:
        monkeypatch.setattr(cutover._Run, where, fail)
    writers = Writers(road.gate, ledger(road.blue))
    time.sleep(0.2)
    try:
        moved = cutover.cut_over([road.move()], road.gate, limit=30, keep=kept()[1])
        time.sleep(0.2)
    finally:
        writers.stop()
    assert not moved.held
    assert "is broken" in moved.sentence
    assert writers.errors == []
    assert (fence.closed(road.old), fence.closed(road.new)) == (False, True)
    assert ledger(road.blue) == writers.acknowledged
    monkeypatch.undo()
    flow.drain(road.old, road.new, Names(NAME).forward, "after", deadline=20)  # green follows again
    assert cutover.cut_over([road.move()], road.gate, limit=30, keep=kept()[1]).held  # and the next try succeeds


def test_past_its_limit_it_goes_back_by_itself(road: Road) -> None:
    """Green does not apply any more: what it lacks never arrives, and clients wait no longer than the limit and a moment."""
    flow.rest(road.new, Names(NAME).forward)
    writers = Writers(road.gate, ledger(road.blue))
    try:
        moved = cutover.cut_over([road.move()], road.gate, limit=1.5, keep=kept()[1])
    finally:
        writers.stop()
    assert not moved.held
    assert "bytes behind" in moved.sentence
    assert writers.errors == []
    assert (fence.closed(road.old), fence.closed(road.new)) == (False, True)


def test_a_row_that_was_lost_on_the_way_stops_the_cutover(road: Road) -> None:
    road.new.do("ALTER TABLE account DISABLE TRIGGER ALL; DELETE FROM account WHERE id = 7")
    road.old.do(
        "UPDATE account SET amount = amount + 1 WHERE id = 7; UPDATE account SET amount = amount - 1 WHERE id = 8"
    )
    moved = cutover.cut_over([road.move()], road.gate, limit=30, keep=kept()[1])
    assert not moved.held
    assert "public.account" in moved.sentence
    assert road.gate.side == "from"


def test_a_cutover_that_was_killed_is_taken_back_from_its_record_alone(road: Road) -> None:
    said, keep = kept()
    road.gate.trouble["point to"] = lambda: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        cutover.cut_over([road.move()], road.gate, limit=30, keep=keep)
    fence.close(road.old, said[0][NAME]["old"])  # as a process that died after the fence leaves it
    cutover.take_back([road.move()], road.gate, said[0])
    assert (fence.closed(road.old), fence.closed(road.new), road.gate.side) == (False, True, "from")
    road.gate.transaction(lambda connection: connection.execute("SELECT 1"))  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(
    ("step", "forward"),
    [("old cluster closed", False), ("way back begun", False), ("decided", True), ("new cluster open", True)],
)
def test_a_process_that_died_in_a_cutover_is_resolved_by_what_was_decided(
    road: Road, monkeypatch: pytest.MonkeyPatch, step: str, forward: bool
) -> None:
    said, keep = kept()
    do = cutover._Run.step

    def die(run: cutover._Run, what: str, act: Callable[[], object]) -> None:
        do(run, what, act)
        if what == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(cutover._Run, "step", die)
    with monkeypatch.context() as dead:
        dead.setattr(cutover, "take_back", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            cutover.cut_over([road.move()], road.gate, limit=60, keep=keep)
    for _ in range(2):
        assert cutover.resolve([road.move()], road.gate, said[0]) is forward
        assert (fence.closed(road.old), fence.closed(road.new)) == (forward, not forward)
    assert road.gate.side == ("to" if forward else "from")
    road.gate.transaction(lambda connection: connection.execute("SELECT 1"))  # type: ignore[arg-type,return-value]


def test_what_was_decided_and_taken_back_all_the_same_is_not_gone_to(road: Road) -> None:
    """Until clients were let through it may be taken back; then blue is open, and has been written since."""
    said, keep = kept()
    road.gate.trouble["point to"] = lambda: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        cutover.cut_over([road.move()], road.gate, limit=60, keep=keep)
    road.gate.trouble.clear()
    assert decision.decided(road.old, said[0][NAME]["run"]) == "to"
    assert cutover.resolve([road.move()], road.gate, said[0]) is False
    assert (fence.closed(road.old), fence.closed(road.new), road.gate.side) == (False, True, "from")


def test_a_cutover_that_died_with_its_controller_opens_blue_by_itself(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes it back: the session that it left on blue does, and green stays closed."""
    monkeypatch.setattr(cutover, "take_back", lambda *_: None)
    monkeypatch.setattr(cutover._Run, "prove", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cutover.cut_over([road.move()], road.gate, limit=3, keep=kept()[1])
    assert (fence.closed(road.old), fence.closed(road.new)) == (True, True)
    wait_for(lambda: not fence.closed(road.old), 20)
    assert fence.closed(road.new)


def test_blue_that_opened_by_itself_is_not_moved_any_more(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    said, keep = kept()
    turn = cutover._Run.turn

    def late(run: cutover._Run, move: Move) -> None:
        turn(run, move)
        decision.decide(road.old, said[0][NAME]["run"], "from")  # as the session that watches does

    monkeypatch.setattr(cutover._Run, "turn", late)
    moved = cutover.cut_over([road.move()], road.gate, limit=30, keep=keep)
    assert not moved.held
    assert "opened again by itself" in moved.sentence
    assert (fence.closed(road.old), fence.closed(road.new)) == (False, True)


def test_doors_that_fail_do_not_keep_blue_closed(road: Road) -> None:
    def fail() -> None:
        raise UserError("PgBouncer does not answer")

    road.gate.trouble |= {"point to": fail, "point from": fail}
    with pytest.raises(UserError, match="does not answer"):
        cutover.cut_over([road.move()], road.gate, limit=30, keep=kept()[1])
    assert (fence.closed(road.old), fence.closed(road.new)) == (False, True)
    assert road.gate.said[-1] == "release"


def test_a_migration_that_is_given_up_leaves_nothing_on_blue(road: Road) -> None:
    gates.freeze(road.old)
    flow.leave(road.new, Names(NAME).forward)
    for _ in range(2):
        flow.clear(road.old, Names(NAME))
    left = road.old.ask(
        "SELECT slot_name AS name FROM pg_replication_slots UNION ALL SELECT pubname FROM pg_publication"
        " UNION ALL SELECT evtname FROM pg_event_trigger UNION ALL SELECT nspname FROM pg_namespace WHERE nspname ~ '^sias'"
    )
    assert left == []
    road.old.do("ALTER TABLE account ADD later int")


def test_an_open_green_is_refused_before_anything_is_touched(road: Road) -> None:
    fence.open_again(road.new, fence.access(road.old))
    with pytest.raises(UserError, match="would let clients in beside"):
        cutover.cut_over([road.move()], road.gate, limit=30, keep=kept()[1])
    assert road.gate.said == []


def test_the_fence_cannot_be_lifted_from_a_session(road: Road) -> None:
    access = fence.access(road.old)
    inside = psycopg.connect(host="127.0.0.1", port=road.blue.port, user="app", dbname=NAME, autocommit=True)
    fence.close(road.old, access)
    fence.close(road.old, access)
    with pytest.raises(psycopg.OperationalError):
        inside.execute("INSERT INTO ledger (writer, number) VALUES (9, 9)")
    inside.close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host="127.0.0.1", port=road.blue.port, user="app", dbname=NAME)
    fence.open_again(road.old, access)
    fence.open_again(road.old, access)
    psycopg.connect(host="127.0.0.1", port=road.blue.port, user="app", dbname=NAME).close()
    assert fence.access(road.old) == access
