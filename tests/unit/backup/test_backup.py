"""`sias backup`: what repositories tell, the verdict on it, and the proof by restoration."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from siasops import inventory as facts
from siasops.backup.archive import Archiving, Gap
from siasops.backup.catalogue import Repository, is_segment, parse, read, repository_hosts
from siasops.backup.check import check, hours
from siasops.backup.cli import backup as command
from siasops.backup.cli import size
from siasops.backup.restore import Restorer, Target, compare, parse_moment, read_proof
from siasops.console import Progress
from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory
from siasops.remote import Result

NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
OBJECTIVES = {"backup_age_full": 8 * 86400, "backup_age_any": 36 * 3600, "archive_behind": 300}
LAST = "00000001000000000000000D"
WHOLE = {"app-a1": Gap(0, None), "app-b1": Gap(0, None)}


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
    lines = check(repositories, archiving(), WHOLE, OBJECTIVES, NOW)
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
    lines = check([repository(lab, text)], view, WHOLE, OBJECTIVES, NOW)
    assert failed(lines) == [what]
    assert next(line.advice for line in lines if not line.ok)


@pytest.mark.parametrize("gaps", [{"app-a1": Gap(2, LAST)}, {}], ids=["missing", "not told"])
def test_a_segment_that_is_missing_or_not_listed_turns_its_line_red(lab: Inventory, gaps: dict[str, Gap]) -> None:
    lines = check([repository(lab, document(*FRESH))], archiving(), gaps, OBJECTIVES, NOW)
    assert failed(lines) == ["room a: segments since the newest full backup"]
    assert all(line.advice for line in lines if not line.ok)


def test_one_failed_try_is_no_failure_while_nothing_waits_too_long(lab: Inventory) -> None:
    lines = check(
        [repository(lab, document(*FRESH))],
        archiving(failing=True, waiting=2, oldest_waiting=20.0),
        WHOLE,
        OBJECTIVES,
        NOW,
    )
    assert failed(lines) == []
    assert "the last try failed" in lines[-1].found


def test_a_new_timeline_is_not_behind_the_old_one(lab: Inventory) -> None:
    found = repository(lab, document(*FRESH, newest="00000002000000000000000E"))
    assert failed(check([found], archiving(), WHOLE, OBJECTIVES, NOW)) == []


@pytest.mark.parametrize(
    ("name", "is_one"),
    [(LAST, True), ("00000002.history", False), ("00000001000000000000000D.00000028.backup", False), (None, False)],
)
def test_segments_are_told_from_other_files_of_the_archive(name: str | None, is_one: bool) -> None:
    assert is_segment(name) is is_one


def test_a_moment_without_an_offset_is_local_time() -> None:
    assert parse_moment("2026-01-02 03:04:05").utcoffset() == datetime(2026, 1, 2, 3, 4, 5).astimezone().utcoffset()


def test_the_moment_is_handed_over_in_utc() -> None:
    assert Target(parse_moment("2026-01-02 03:04:05+01:00")).asked() == "2026-01-02T02:04:05.000000+00:00"


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


def test_a_copy_is_refused_where_no_database_runs(lab: Inventory) -> None:
    with pytest.raises(UserError, match=r"app-a1 has no PostgreSQL .* db-a1, db-b1"):
        Restorer(lab, None, repository(lab, document(*FRESH)), "app-a1", 60)  # type: ignore[arg-type]


class RecordingFleet:
    """Answers everything alike, and remembers it."""

    def __init__(self, *answers: Result) -> None:
        self.answers, self.lines, self.given = list(answers), [], []

    def run(self, host: str, line: str, *, stdin: str | None = None, **_options: Any) -> Result:
        self.lines.append(line)
        self.given.append(stdin)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def restorer(lab: Inventory, fleet: Any) -> Restorer:
    return Restorer(lab, fleet, repository(lab, document(*FRESH), 1), "db-b1", 60)


def test_the_request_reaches_the_host_by_standard_input_and_asks_for_the_repository_by_its_number(
    lab: Inventory,
) -> None:
    fleet = RecordingFleet(Result("db-b1", 0, "", ""))
    asked = restorer(lab, fleet)
    asked.start(asked.request(Target(), reach="0/5000148", queries=(("sias", "SELECT 1"),)))
    request = json.loads(fleet.given[0])
    assert (request["repository"], request["room"], request["target"], request["reach"]) == (
        2,
        "b",
        "latest",
        "0/5000148",
    )
    assert "SELECT 1" not in fleet.lines[0]


@pytest.mark.parametrize(("code", "said"), [(16, "a restore runs there"), (17, "--tags backup"), (1, "did not start")])
def test_a_host_that_cannot_start_one_says_why(lab: Inventory, code: int, said: str) -> None:
    asked = restorer(lab, RecordingFleet(Result("db-b1", code, "", "no")))
    with pytest.raises(UserError, match=said):
        asked.start(asked.request(Target()))


def test_steps_are_told_until_the_proof_is_there(lab: Inventory) -> None:
    told: list[str] = []

    class Listener(Progress):
        def say(self, text: str) -> None:
            told.append(text)

    asked = restorer(lab, None)
    proof = {"id": asked.id, "repository": "app-b1", "room": "b", "target": "now", "problem": None,
             "lines": [{"ok": True, "what": "ledger", "found": "all", "advice": ""}]}  # fmt: skip
    asked.fleet = RecordingFleet(  # type: ignore[assignment]
        Result("db-b1", 0, '{"step": "restore"}\nactive\n', ""),
        Result("db-b1", 255, "", "link lost"),
        Result("db-b1", 0, f'{{"step": "amcheck"}}\ndeactivating\n{json.dumps(proof)}', ""),
        Result("db-b1", 0, f"\ninactive\n{json.dumps(proof)}", ""),
    )
    found = asked.wait(Listener())
    assert told == ["restore", "amcheck"]
    assert found.held
    assert found.host == "db-b1"


def test_a_unit_that_ended_without_a_proof_is_a_sentence(lab: Inventory) -> None:
    asked = restorer(lab, RecordingFleet(Result("db-b1", 0, "\ninactive\n", "")))
    with pytest.raises(UserError, match="ended without a proof"):
        asked.wait(Progress())


def test_a_proof_that_could_not_be_tried_is_told_with_its_host() -> None:
    with pytest.raises(UserError, match="db-b1: 3 MiB are free"):
        read_proof("db-b1", json.dumps({"problem": "3 MiB are free", "lines": []}))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["restore", "--room", "a"], "either --to-latest, or --to-time"),
        (["restore", "--room", "a", "--to-latest", "--to-time", "2026-01-01"], "either --to-latest, or --to-time"),
        (["restore", "--room", "z", "--to-latest"], "No repository stands in room “z”"),
        (["restore", "--room", "a", "--to-time", "soon"], "Write it like"),
        (["restore", "--room", "a", "--to-latest", "--on", "db-z9"], "has no host"),
        (["take", "--room", "z"], "No repository stands in room “z”"),
        (["drill", "--room", "z"], "No repository stands in room “z”"),
        (["drill", "--on", "db-z9"], "has no host"),
    ],
)
def test_a_wrong_command_line_is_a_sentence_with_exit_code_2(lab: Inventory, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(command, arguments, obj=lab)
    assert isinstance(result.exception, UserError)
    assert result.exception.exit_code == 2
    assert said in str(result.exception)


@pytest.mark.parametrize("name", ["take", "list", "check", "restore", "drill"])
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
