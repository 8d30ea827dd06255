"""The programs of role backup that run on hosts: what a repository lacks, and the verdict on a restored copy."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

FILES = Path(__file__).parents[3] / "roles" / "backup" / "files"
BEGIN = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


wal = load("sias_backup")
restore = load("sias_restore")


def segment(timeline: int, number: int) -> str:
    return f"{timeline:08X}{number >> 8:08X}{number & 0xFF:08X}"


class TestMissingSegments:
    def test_a_whole_chain_lacks_nothing_over_the_end_of_a_log_file(self) -> None:
        assert wal.missing([segment(1, n) for n in range(250, 260)], segment(1, 250)) == []

    def test_a_failover_begins_a_timeline_in_the_middle(self) -> None:
        names = [segment(1, n) for n in range(5, 9)] + [segment(2, n) for n in range(9, 12)]
        assert wal.missing(names, segment(1, 5)) == []

    def test_segments_before_the_backup_do_not_matter(self) -> None:
        assert wal.missing([segment(1, 2), segment(1, 5), segment(1, 6)], segment(1, 5)) == []

    def test_a_segment_of_an_older_timeline_does_not_stand_in(self) -> None:
        assert wal.missing([segment(1, 6), segment(2, 5), segment(2, 7)], segment(2, 5)) == [segment(2, 6)]

    def test_an_archive_that_ends_too_early_lacks_the_rest(self) -> None:
        assert wal.missing([segment(1, 5)], segment(1, 5), upto=segment(0, 7)) == [segment(1, 6), segment(1, 7)]

    @given(st.integers(0, 1000), st.integers(2, 60), st.data())
    def test_exactly_what_was_taken_out_is_named(self, first: int, length: int, data: st.DataObject) -> None:
        numbers = range(first, first + length)
        gone = data.draw(st.sets(st.sampled_from(numbers[:-1])))
        left = [segment(3, n) for n in numbers if n not in gone]
        assert wal.missing(left, segment(3, first)) == [segment(3, n) for n in sorted(gone)]


class TestPatience:
    OVERTAKEN = "P00  ERROR: [082]: timeout before standby checkpoint lsn reached 0/430003F8 - only reached 0/42000080"

    def ended(self, monkeypatch: pytest.MonkeyPatch, *codes: int, said: str = "") -> list[int]:
        """Have pgBackRest end so, one time after the other; what it was run with is left over."""
        left = list(codes)

        def run(*_arguments: str) -> subprocess.CompletedProcess[str]:
            code = left.pop(0)
            return subprocess.CompletedProcess([], code, stdout="", stderr=said if code else "")

        monkeypatch.setattr(wal, "pgbackrest", run)
        monkeypatch.setattr(wal.time, "sleep", lambda _seconds: None)
        return left

    @pytest.mark.parametrize(
        ("code", "said"),
        [(50, "ERROR: [050]"), (50, "ERROR: is another pgBackRest process running?"), (82, OVERTAKEN)],
    )
    def test_what_passes_by_itself_is_tried_again(self, monkeypatch: pytest.MonkeyPatch, code: int, said: str) -> None:
        left = self.ended(monkeypatch, code, code, 0, said=said)
        assert wal.patiently(60.0, "backup").returncode == 0
        assert left == []

    def test_it_ends_at_the_deadline_and_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        left = self.ended(monkeypatch, 82, 0, said=self.OVERTAKEN)
        with pytest.raises(wal.BackupError, match="only reached 0/42000080"):
            wal.patiently(-1.0, "backup")
        assert left == [0]

    def test_a_standby_that_does_not_replay_is_told_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        left = self.ended(monkeypatch, 82, 0, said="P00  ERROR: [082]: timeout before standby replayed to 0/43000028")
        with pytest.raises(wal.BackupError, match="replayed to"):
            wal.patiently(60.0, "backup")
        assert left == [0]


def beat(number: int, minute: float, place: int) -> list[Any]:
    """A row of the ledger: sent after so many minutes, in the segment of that number."""
    sent = BEGIN + timedelta(minutes=minute)
    return [number, f"{sent:%Y-%m-%dT%H:%M:%S.%f}", f"{place >> 8:X}/{(place & 0xFF) << 24:X}"]


BEATS = [beat(n, n, 10 + n) for n in range(1, 9)]


class TestMoment:
    def test_it_is_the_newest_whose_successor_is_archived(self) -> None:
        moment, reach = restore.choose_moment(BEATS, segment(7, 15), BEGIN)
        assert moment == BEGIN + timedelta(minutes=4) - timedelta(microseconds=1)
        assert reach == BEATS[4][2]

    @pytest.mark.parametrize(
        ("beats", "newest", "oldest"),
        [([], 15, BEGIN), (BEATS[:1], 15, BEGIN), (BEATS, 2, BEGIN), (BEATS, 15, BEGIN + timedelta(hours=1))],
    )
    def test_without_one_it_is_a_sentence(self, beats: list[Any], newest: int, oldest: datetime) -> None:
        with pytest.raises(restore.NotTriedError, match="no two writes of the ledger"):
            restore.choose_moment(beats, segment(1, newest), oldest)


class TestLedger:
    moment = BEGIN + timedelta(minutes=5) - timedelta(microseconds=1)

    def test_every_write_before_the_moment_and_none_after_it_holds(self) -> None:
        assert restore.judge_ledger(BEATS, BEATS[:4], self.moment, None)["ok"]

    @pytest.mark.parametrize(
        "copy", [BEATS[:3], BEATS[1:4], BEATS[:5], [], [*BEATS[:3], beat(4, 3.5, 14)]], ids=lambda rows: str(len(rows))
    )
    def test_a_missing_a_later_or_a_changed_one_turns_it_red(self, copy: list[Any]) -> None:
        verdict = restore.judge_ledger(BEATS, copy, self.moment, None)
        assert not verdict["ok"]
        assert verdict["advice"]

    def test_rows_that_were_cleared_since_do_not_matter(self) -> None:
        assert restore.judge_ledger(BEATS[2:], BEATS[:4], self.moment, None)["ok"]

    def test_to_the_end_what_began_before_the_position_is_due(self) -> None:
        assert restore.judge_ledger(BEATS, BEATS[:4], None, BEATS[4][2])["ok"]
        assert not restore.judge_ledger(BEATS, BEATS[:3], None, BEATS[4][2])["ok"]
        assert restore.judge_ledger(BEATS, BEATS, None, BEATS[4][2])["ok"]

    def test_an_empty_ledger_proves_nothing(self) -> None:
        assert not restore.judge_ledger([], [], self.moment, None)["ok"]


CONFIG = """
[global]
repo1-host=app-a1
repo2-host=app-b1
[sias]
pg1-path=/var/lib/postgresql/15/sias
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pgbackrest.conf").write_text(CONFIG)
    monkeypatch.setattr(restore, "CONFIG", tmp_path / "pgbackrest.conf")
    monkeypatch.setattr(restore, "HOME", tmp_path)
    return tmp_path


def proof(**request: Any) -> Any:
    return restore.Proof({"room": "a", "repository": 1, **request}, 1024)


def answer(monkeypatch: pytest.MonkeyPatch, answers: dict[str, tuple[int, bytes]]) -> None:
    """Stand in for pgBackRest: what a command that holds the word answers."""

    def run(command: list[Any], *, text: bool = False, **_options: Any) -> subprocess.CompletedProcess[Any]:
        code, said = next(found for word, found in answers.items() if any(word in str(part) for part in command))
        return subprocess.CompletedProcess(command, code, said.decode() if text else said, "" if text else b"")

    monkeypatch.setattr(restore.subprocess, "run", run)


def status(code: int, message: str) -> tuple[int, bytes]:
    found = {"name": "sias", "status": {"code": code}, "repo": [{"status": {"code": code, "message": message}}]}
    return 0, json.dumps([found]).encode()


class TestRefusals:
    def test_a_wrong_key_is_told_from_a_corrupted_file(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        answer(monkeypatch, {"info": (-11, b""), "repo-get": (0, b"")})
        monkeypatch.setattr(restore.Proof, "head", lambda *_: b"\xe7\x9c")
        with pytest.raises(restore.RefusedError, match="none of its files decrypts") as refusal:
            proof().catalogue()
        assert "backup_cipher_a" in refusal.value.advice

    def test_one_spoilt_file_is_named(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        answer(monkeypatch, {"info": status(99, "[FormatError] unable to load info file")})
        monkeypatch.setattr(restore.Proof, "head", lambda _, name: b"?" if "backup.info" in name else b"[backrest]")
        with pytest.raises(restore.RefusedError, match=r"corrupted: backup/sias/backup\.info"):
            proof().catalogue()

    def test_a_host_that_is_down_is_no_verdict(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        answer(monkeypatch, {"info": status(99, "[HostConnectError] unable to connect to 'app-a1:8432'")})
        with pytest.raises(restore.NotTriedError, match="does not answer"):
            proof().catalogue()

    def test_an_empty_repository_is_refused(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        answer(monkeypatch, {"info": status(2, "no valid backups")})
        monkeypatch.setattr(restore.Proof, "head", lambda *_: b"[backrest]")
        with pytest.raises(restore.RefusedError, match="offers no backup: no valid backups"):
            proof().catalogue()

    @pytest.mark.parametrize(("target", "reach"), [("latest", None), ("2026-11-25T04:00:00+00:00", "0/5000148")])
    def test_a_missing_segment_that_recovery_needs_is_refused_before_anything_is_fetched(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, target: str, reach: str | None
    ) -> None:
        answer(monkeypatch, {"sias-backup": (0, json.dumps({"missing": 2, "first_missing": segment(1, 9)}).encode())})
        backup = {"label": "L", "archive": {"start": segment(1, 5)}}
        with pytest.raises(restore.RefusedError, match=f"2 WAL segment.*{segment(1, 9)}"):
            proof(target=target).gap(backup, reach, {"archive": [{"max": segment(1, 20)}]})

    def test_a_gap_that_may_lie_behind_the_target_does_not_stop_recovery(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer(monkeypatch, {"sias-backup": (0, json.dumps({"missing": 2, "first_missing": segment(1, 9)}).encode())})
        backup = {"label": "L", "archive": {"start": segment(1, 5)}}
        found = proof(target="2026-11-25T04:00:00+00:00").gap(backup, None, {"archive": [{"max": segment(1, 20)}]})
        assert found == segment(1, 9)

    def test_a_disk_that_is_too_small_is_no_verdict(self, home: Path) -> None:
        with pytest.raises(restore.NotTriedError, match="stay free for the live database"):
            proof().enough_disk({"info": {"size": 2**60}})

    def test_a_moment_before_the_oldest_backup_is_no_verdict(self, home: Path) -> None:
        catalogue = {"backup": [{"label": "L", "timestamp": {"stop": BEGIN.timestamp()}}]}
        with pytest.raises(restore.NotTriedError, match="recovers to moments from 2026-11-25 04:00:00 UTC"):
            proof().choose(catalogue, BEGIN)
        assert proof().choose(catalogue, BEGIN + timedelta(seconds=1))["label"] == "L"

    def test_a_restore_that_would_fill_the_disk_is_stopped(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = proof()
        asked.keep_free = 2**60
        with pytest.raises(restore.NotTriedError, match="left free"):
            asked.watched(["sleep", "30"])


class TestRecord:
    def finished(self, *lines: dict[str, Any], problem: str | None = None) -> Any:
        made = proof()
        made.result.update(lines=list(lines), problem=problem, seconds=12.0)
        return made

    def recorded(self, home: Path) -> Any:
        return json.loads((home / "record.json").read_text())

    def test_a_failed_proof_keeps_the_time_of_the_last_that_held(self, home: Path) -> None:
        path = home / "record.json"
        restore.record(path, self.finished(restore.line(True, "ledger", "all")), scheduled=True)
        proven = self.recorded(home)["proven"]
        assert proven > 0
        restore.record(path, self.finished(restore.line(False, "amcheck", "damaged")), scheduled=True)
        assert self.recorded(home) | {"said": ""} == {
            "repository": "a", "proven": proven, "seconds": 12.0, "loss_seconds": None, "failed": True, "said": "",
        }  # fmt: skip
        assert "amcheck: damaged" in self.recorded(home)["said"]

    def test_what_could_not_be_tried_counts_only_when_the_timer_wanted_it(self, home: Path) -> None:
        path = home / "record.json"
        restore.record(path, self.finished(problem="no disk"), scheduled=False)
        assert not path.exists()
        restore.record(path, self.finished(problem="no disk"), scheduled=True)
        assert self.recorded(home)["failed"] is True

    def test_a_proof_without_a_line_did_not_hold(self, home: Path) -> None:
        assert not self.finished().held


def test_what_a_killed_run_left_is_removed(home: Path) -> None:
    (home / "copy" / "data").mkdir(parents=True)
    (home / "request.json").write_text("{}")
    (home / "record.json").write_text("{}")
    restore.clean()
    assert sorted(p.name for p in home.iterdir()) == ["pgbackrest.conf", "record.json"]
