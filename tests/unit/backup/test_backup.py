"""`sias backup`: what repositories tell, the verdict on it, and the proof by restoration."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from siasops import inventory as facts
from siasops.backup import restore
from siasops.backup.archive import Archiving
from siasops.backup.catalogue import Repository, is_segment, parse, read, repository_hosts
from siasops.backup.check import check, hours
from siasops.backup.cli import backup as command
from siasops.backup.cli import size
from siasops.backup.restore import Restorer, Target, compare, newer_or_equal, parse_moment
from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory
from siasops.remote import Result

NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
OBJECTIVES = {"backup_age_full": 8 * 86400, "backup_age_any": 36 * 3600, "archive_behind": 300}
LAST = "00000001000000000000000D"


def entry(kind: str, age: timedelta, *, error: bool = False) -> dict[str, Any]:
    """One backup as pgBackRest 2.45 writes it."""
    stop = int((NOW - age).timestamp())
    return {
        "archive": {"start": "000000010000000000000009", "stop": "00000001000000000000000A"},
        "backrest": {"format": 5, "version": "2.45"},
        "database": {"id": 1, "repo-key": 1},
        "error": error,
        "info": {"delta": 31_352_832, "repository": {"delta": 3_880_000, "size": 3_880_000}, "size": 31_352_832},
        "label": f"2026-{kind[0].upper()}-{stop}",
        "lsn": {"start": "0/9000028", "stop": "0/A000050"},
        "prior": None,
        "reference": None,
        "timestamp": {"start": stop - 3, "stop": stop},
        "type": kind,
    }


def document(*backups: dict[str, Any], code: int = 0, message: str = "ok", newest: str = LAST) -> str:
    """What `pgbackrest --output=json info` writes."""
    archives = [{"database": {"id": 1, "repo-key": 1}, "id": "15-1", "max": newest, "min": "000000010000000000000001"}]
    status = {"code": code, "lock": {"backup": {"held": False}}, "message": message}
    return json.dumps([{
        "archive": archives, "backup": list(backups), "cipher": "aes-256-cbc", "db": [{"id": 1, "version": "15"}],
        "name": "sias", "repo": [{"cipher": "aes-256-cbc", "key": 1, "status": status}], "status": status,
    }])  # fmt: skip


@pytest.fixture(scope="module")
def lab() -> Inventory:
    return facts.load(ROOT / "inventory" / "lab.yml")


def repository(lab: Inventory, text: str, index: int = 0) -> Repository:
    return parse(repository_hosts(lab)[index], index + 1, text)


def archiving(**changed: Any) -> Archiving:
    return Archiving(
        **{"host": "db-a1", "last_archived": LAST, "failing": False, "waiting": 0, "oldest_waiting": 0.0} | changed
    )


FRESH = (entry("full", timedelta(days=3)), entry("incr", timedelta(hours=4)))


class FakeFleet:
    """Answers each host's command with what the test says."""

    def __init__(self, answers: dict[str, Result]) -> None:
        self.answers = answers

    def run_each(self, commands: dict[str, str], **_options: Any) -> dict[str, Result]:
        return {name: self.answers[name] for name in commands}


def test_repositories_stand_in_the_order_that_database_hosts_number_them(lab: Inventory) -> None:
    assert [(host.room, host.name) for host in repository_hosts(lab)] == [("a", "app-a1"), ("b", "app-b1")]


def test_a_catalogue_is_read(lab: Inventory) -> None:
    found = repository(lab, document(*FRESH))
    newest, full = found.newest(), found.newest("full")
    assert newest is not None
    assert newest.type == "incr"
    assert newest.age(NOW) == pytest.approx(4 * 3600, abs=1)
    assert full is not None
    assert full is found.oldest
    assert (full.size, full.repository_size) == (31_352_832, 3_880_000)
    assert (found.problem, found.wal_max, found.cipher) == (None, LAST, "aes-256-cbc")


def test_a_repository_without_a_stanza_says_what_to_run(lab: Inventory) -> None:
    assert "--tags backup" in str(repository(lab, "[]").problem)


def test_what_pgbackrest_never_writes_is_a_sentence(lab: Inventory) -> None:
    with pytest.raises(UserError, match="app-a1: pgbackrest info answered something unexpected"):
        repository(lab, "<html>")


def test_a_repository_that_does_not_answer_is_reported_and_the_other_is_read(lab: Inventory) -> None:
    fleet: Any = FakeFleet(
        {"app-a1": Result("app-a1", 255, "", "ssh: timed out"), "app-b1": Result("app-b1", 0, document(*FRESH), "")}
    )
    silent, good = read(lab, fleet)
    assert silent.problem == "does not answer: ssh: timed out"
    assert good.problem is None
    assert good.key == 2


def test_a_room_without_a_repository_is_refused(lab: Inventory) -> None:
    with pytest.raises(UserError, match="no repository stands in room w"):
        read(lab, FakeFleet({}), room="w")  # type: ignore[arg-type]


def failed(lines: Iterable[Any]) -> list[str]:
    return [line.what for line in lines if not line.ok]


def test_fresh_backups_and_current_archiving_hold(lab: Inventory) -> None:
    repositories = [repository(lab, document(*FRESH), index) for index in (0, 1)]
    lines = check(repositories, archiving(), OBJECTIVES, NOW)
    assert failed(lines) == []
    assert not any(line.advice for line in lines)


@pytest.mark.parametrize(
    ("text", "view", "what"),
    [
        (document(code=2, message="no valid backups"), archiving(), "repository of room a (app-a1)"),
        (document(*FRESH[1:]), archiving(), "room a: newest full backup"),
        (document(entry("full", timedelta(days=8, hours=1)), FRESH[1]), archiving(), "room a: newest full backup"),
        (document(entry("full", timedelta(hours=37))), archiving(), "room a: newest backup of any type"),
        (document(FRESH[0], entry("incr", timedelta(hours=1), error=True)), archiving(), "room a: pages"),
        (document(*FRESH, newest="00000001000000000000000C"), archiving(), "room a: write-ahead log"),
        (document(*FRESH), archiving(waiting=40, oldest_waiting=301.0), "archiving"),
        (document(*FRESH), None, "archiving"),
    ],
)
def test_each_thing_that_does_not_hold_turns_its_line_red_and_says_what_to_do(
    lab: Inventory, text: str, view: Archiving | None, what: str
) -> None:
    lines = check([repository(lab, text)], view, OBJECTIVES, NOW)
    assert failed(lines) == [what]
    assert next(line.advice for line in lines if not line.ok)


def test_one_failed_try_is_no_failure_while_nothing_waits_too_long(lab: Inventory) -> None:
    lines = check(
        [repository(lab, document(*FRESH))], archiving(failing=True, waiting=2, oldest_waiting=20.0), OBJECTIVES, NOW
    )
    assert failed(lines) == []
    assert "the last try failed" in lines[-1].found


def test_a_new_timeline_is_not_behind_the_old_one(lab: Inventory) -> None:
    found = repository(lab, document(*FRESH, newest="00000002000000000000000E"))
    assert failed(check([found], archiving(), OBJECTIVES, NOW)) == []


@pytest.mark.parametrize(
    ("name", "is_one"),
    [(LAST, True), ("00000002.history", False), ("00000001000000000000000D.00000028.backup", False), (None, False)],
)
def test_segments_are_told_from_other_files_of_the_archive(name: str | None, is_one: bool) -> None:
    assert is_segment(name) is is_one


def test_a_moment_without_an_offset_is_local_time() -> None:
    assert parse_moment("2026-01-02 03:04:05").utcoffset() == datetime(2026, 1, 2, 3, 4, 5).astimezone().utcoffset()


def test_the_moment_is_handed_to_pgbackrest_in_utc() -> None:
    options = Target(parse_moment("2026-01-02 03:04:05+01:00")).options()
    assert "--target=2026-01-02 02:04:05.000000+00" in options


@pytest.mark.parametrize("text", ["yesterday", "2999-01-01 00:00:00"])
def test_a_moment_that_cannot_be_recovered_to_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the sentence is fromisoformat's or ours
        parse_moment(text)


@pytest.mark.parametrize(
    ("before", "after", "restored", "holds"),
    [
        ({"t": 10}, {"t": 10}, {"t": 10}, True),
        ({"t": 10}, {"t": 15}, {"t": 12}, True),
        ({"t": 15}, {"t": 10}, {"t": 12}, True),
        ({"t": 10}, {"t": 10}, {"t": 9}, False),
        ({"t": 10}, {"t": 15}, {"t": 16}, False),
        ({"t": 10, "u": 1}, {"t": 10, "u": 1}, {"t": 10}, False),
        ({"t": 10}, {}, {"t": 10}, True),
        ({}, {"new": 3}, {}, True),
    ],
)
def test_rows_of_the_copy_are_compared_with_the_live_ones(
    before: dict[str, int], after: dict[str, int], restored: dict[str, int], holds: bool
) -> None:
    assert compare(before, after, restored).ok is holds


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_positions_of_the_log_are_compared_as_numbers(first: int, second: int) -> None:
    def written(position: int) -> str:
        return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"

    assert newer_or_equal(written(first), written(second)) is (first >= second)


def test_a_copy_is_refused_where_no_database_runs(lab: Inventory) -> None:
    with pytest.raises(UserError, match=r"app-a1 has no PostgreSQL .* db-a1, db-b1"):
        Restorer(lab, None, repository(lab, document(*FRESH)), "app-a1", 60)  # type: ignore[arg-type]


def test_an_empty_repository_cannot_restore(lab: Inventory) -> None:
    with pytest.raises(UserError, match="cannot restore: it holds no backup"):
        Restorer(lab, None, repository(lab, document()), "db-b1", 60)  # type: ignore[arg-type]


class RecordingFleet:
    """Succeeds at everything and remembers it; refuses commands that hold a word."""

    def __init__(self, refuse: str = "never said") -> None:
        self.refuse, self.lines = refuse, []

    def run(self, host: str, line: str, **_options: Any) -> Result:
        self.lines.append(line)
        if self.refuse in line:
            raise restore.RemoteError(f"{host}: refused")
        return Result(host, 0, "", "")


def restorer(lab: Inventory, fleet: Any) -> Restorer:
    return Restorer(lab, fleet, repository(lab, document(*FRESH), 1), "db-b1", 60)


def test_the_copy_is_removed_even_when_a_step_fails(lab: Inventory) -> None:
    fleet = RecordingFleet()
    copy = restorer(lab, fleet)
    with pytest.raises(ZeroDivisionError), restore.scratch(copy, keep=False, say=print):
        raise ZeroDivisionError
    assert f"rm -rf {copy.scratch}" in fleet.lines[-1]


def test_a_kept_copy_is_left_alone(lab: Inventory) -> None:
    fleet = RecordingFleet()
    with restore.scratch(restorer(lab, fleet), keep=True, say=print):
        pass
    assert fleet.lines == []


def test_the_restored_copy_archives_nothing_and_reads_the_asked_repository(lab: Inventory) -> None:
    fleet = RecordingFleet()
    copy = restorer(lab, fleet)
    copy.restore(Target())
    line = fleet.lines[-1]
    assert "--archive-mode=off" in line
    assert "--repo=2" in line
    assert f"--pg1-path={copy.scratch}/data" in line
    assert "/var/lib/postgresql/15/sias" not in line


def test_the_copy_opens_no_port(lab: Inventory) -> None:
    fleet = RecordingFleet()
    restorer(lab, fleet).start("/usr/lib/postgresql/15/bin")
    assert "listen_addresses=" in fleet.lines[-1]
    assert "archive_mode=off" in fleet.lines[-1]
    assert "synchronous_standby_names=" in fleet.lines[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["restore", "--room", "a"], "either --to-latest, or --to-time"),
        (["restore", "--room", "a", "--to-latest", "--to-time", "2026-01-01"], "either --to-latest, or --to-time"),
        (["restore", "--room", "z", "--to-latest"], "No repository stands in room “z”"),
        (["restore", "--room", "a", "--to-time", "soon"], "Write it like"),
        (["restore", "--room", "a", "--to-latest", "--on", "db-z9"], "has no host"),
        (["take", "--room", "z"], "No repository stands in room “z”"),
    ],
)
def test_a_wrong_command_line_is_a_sentence_with_exit_code_2(lab: Inventory, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(command, arguments, obj=lab)
    assert isinstance(result.exception, UserError)
    assert result.exception.exit_code == 2
    assert said in str(result.exception)


@pytest.mark.parametrize("name", ["take", "list", "check", "restore"])
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(command, [name, "--help"])
    assert result.exit_code == 0
    assert "--json" in result.output


@pytest.mark.parametrize(("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 2**40, "3.0 TiB")])
def test_sizes_read_well(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(119, "119 s"), (600, "10 min"), (7200, "2 h"), (691200, "8.0 d")])
def test_ages_read_well(seconds: float, text: str) -> None:
    assert hours(seconds) == text
