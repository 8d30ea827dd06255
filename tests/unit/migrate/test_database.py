"""Questions reach a database through psql, one command each or one session for many; errors name where they happened."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from siasops.errors import UserError
from siasops.migrate import copy
from siasops.migrate.copy import Green
from siasops.migrate.database import AS_POSTGRES, Psql, Session, session
from siasops.remote import Fleet, RemoteError, Result, Talk
from tests.unit.migrate.conftest import Pair


class Channel:
    """What paramiko's channel is to a `Talk`: a process of this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.limit = 0.0

    def settimeout(self, seconds: float) -> None:
        self.limit = seconds

    def sendall(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def recv(self, size: int) -> bytes:
        import select  # noqa: PLC0415

        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], self.limit)[0]:
            raise TimeoutError
        return self.process.stdout.read1(size)  # type: ignore[attr-defined, no-any-return]

    def recv_stderr(self, size: int) -> bytes:
        assert self.process.stderr is not None
        return self.process.stderr.read(size)


@dataclass
class Local:
    """A fleet of one host, this machine: commands as postgres through the socket become commands to the private server."""

    started: int = 0

    @staticmethod
    def _here(command: Sequence[str]) -> list[str]:
        words = list(command[len(AS_POSTGRES) :] if tuple(command[: len(AS_POSTGRES)]) == AS_POSTGRES else command)
        return [*("127.0.0.1" if word == "/var/run/postgresql" else word for word in words), "-U", "postgres"]

    def run(self, host: str, command: list[str], *, stdin: str | None = None, timeout: float = 10, **_: Any) -> Result:
        self.started += 1
        done = subprocess.run(
            self._here(command), input=stdin, capture_output=True, text=True, check=False, timeout=timeout
        )
        return Result(host, done.returncode, done.stdout, done.stderr)

    @contextmanager
    def talk(self, host: str, command: list[str]) -> Iterator[Talk]:
        self.started += 1
        pipe = subprocess.PIPE
        with subprocess.Popen(self._here(command), stdin=pipe, stdout=pipe, stderr=pipe) as process:
            try:
                yield Talk(host, Channel(process))
            finally:
                process.kill()


@pytest.fixture
def place(still: Pair) -> Psql:
    return Psql(cast("Fleet", Local()), "db-a1", still.blue.server.port, still.blue.database, limit=20)


@pytest.fixture(params=["one command each", "one session"])
def database(request: pytest.FixtureRequest, place: Psql) -> Iterator[Psql | Session]:
    if request.param == "one command each":
        yield place
    else:
        with session(place) as opened:
            yield opened


def test_answers_are_plain_data_of_any_size_and_form(database: Psql | Session) -> None:
    assert database.ask("SELECT 'é''\\' AS text, NULL AS none, 2::numeric ^ 80 AS large, E'a\\nb' AS lines") == [
        {"text": "é'\\", "none": None, "large": 2**80, "lines": "a\nb"}
    ]
    assert database.ask("SELECT id FROM public.person WHERE false") == []
    assert len(database.ask("SELECT * FROM public.person")) == 1000
    assert database.raw("SELECT E'x\\ny'; SELECT 2") == ["x\ny", "2"]


def test_statements_find_the_names_that_their_users_know(database: Psql | Session) -> None:
    database.ask("SELECT 1 AS one")  # in a session whose path is the catalogue's alone
    database.do("CREATE TABLE plain (id int PRIMARY KEY); INSERT INTO plain VALUES (1);")
    assert database.ask("SELECT id FROM public.plain") == [{"id": 1}]


def test_an_error_says_where_and_what_and_the_next_question_is_answered(database: Psql | Session) -> None:
    with pytest.raises(UserError, match=r"on db-a1:\d+ refused or did not answer: .*nowhere"):
        database.ask("SELECT * FROM nowhere")
    assert database.ask("SELECT 1 AS one") == [{"one": 1}]


def test_an_answer_that_takes_too_long_is_given_up_and_the_host_not_asked_again(place: Psql) -> None:
    with session(replace(place, limit=0.5)) as slow:
        for question in ("SELECT pg_sleep(5)::text AS slept", "SELECT 1 AS one"):
            with pytest.raises(UserError, match=r"no answer within 0\.5 s"):
                slow.ask(question)


def test_a_session_is_one_psql_for_many_questions(place: Psql) -> None:
    fleet = cast("Any", place.fleet)
    with session(place) as opened:
        for _ in range(5):
            opened.ask("SELECT 1 AS one")
    assert fleet.started == 1
    for _ in range(2):
        place.ask("SELECT 1 AS one")
    assert fleet.started == 3


def test_what_shall_happen_later_is_started_apart(place: Psql) -> None:
    told: list[list[str]] = []
    fleet = SimpleNamespace(run=lambda _host, command, **_: told.append(command))
    replace(place, fleet=cast("Fleet", fleet)).later("SELECT 1")
    (command,) = told
    assert command[0] == "systemd-run"
    assert "--uid=postgres" in command
    assert command[-2:] == ["-c", "SELECT 1"]


def test_a_command_that_ends_is_not_an_answer() -> None:
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(
            ["sh", "-c", "read x; echo half; echo why >&2"], stdin=pipe, stdout=pipe, stderr=pipe
        ) as process,
        pytest.raises(RemoteError, match="db-a1: why"),
    ):
        Talk("db-a1", Channel(process)).ask("x\n", "whole\n", timeout=10)


def green(answer: str, code: int = 0) -> Green:
    fleet = SimpleNamespace(run=lambda host, *_, **__: Result(host, code, answer, ""))
    return Green(cast("Fleet", fleet), "db-a1", 5433, "host=x", "15", "17")


@pytest.mark.parametrize(
    ("free_mib", "buffers_mib", "fits"),
    [(1300, 512, True), (1299, 512, False), (5000, 513, False)],
)
def test_room_for_a_second_cluster_is_disk_and_memory(free_mib: int, buffers_mib: int, fits: bool) -> None:
    mib = 1 << 20
    ok, found = copy.room_for(green(f"Avail\n{free_mib * mib}\n"), 1000 * mib, buffers_mib * mib, 2048)
    assert ok is fits
    assert f"{free_mib} MiB of disk free, 1300 wanted" in found


def test_extensions_are_known_by_their_files_or_not_at_all() -> None:
    fleet = green("pg_trgm.control:default_version = '1.6'\nbtree_gist.control:default_version='1.7'\n").fleet
    assert copy.offered(fleet, "db-a1", "17") == {"pg_trgm": "1.6", "btree_gist": "1.7"}
    assert copy.offered(green("", 2).fleet, "db-a1", "17") is None
