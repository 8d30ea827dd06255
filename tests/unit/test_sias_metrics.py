"""The program that tells Prometheus about certificates, backups and documents."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "roles" / "exporters" / "files" / "sias_metrics.py"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sias_metrics", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sias_metrics"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def backup(kind: str, start: int, stop: int, *, error: bool = False) -> dict[str, Any]:
    return {
        "type": kind,
        "error": error,
        "timestamp": {"start": start, "stop": stop},
        "info": {"size": 1000, "delta": 10, "repository": {"size": 300, "delta": 3}},
    }


def info(*backups: dict[str, Any], code: int = 0) -> str:
    return json.dumps([{"name": "sias", "status": {"code": code, "message": "ok"}, "backup": list(backups)}])


def values(samples: Any) -> dict[str, float]:
    return {str(sample).rsplit(" ", 1)[0]: sample.value for sample in samples}


def test_age_of_a_backup_counts_from_its_end_and_a_full_one_is_told_apart(program: ModuleType) -> None:
    text = info(backup("full", 100, 160), backup("diff", 500, 520), backup("incr", 400, 410))
    assert values(program.read_backups(text, "sias")) == {
        "sias_backup_stanza_ok": 1,
        "sias_backup_count": 3,
        'sias_backup_last_completion_seconds{type="any"}': 520,
        'sias_backup_last_completion_seconds{type="full"}': 160,
        "sias_backup_last_duration_seconds": 20,
        "sias_backup_last_database_bytes": 1000,
        "sias_backup_last_repository_bytes": 300,
    }


def test_a_backup_with_errors_does_not_count(program: ModuleType) -> None:
    text = info(backup("full", 100, 160), backup("full", 500, 520, error=True))
    found = values(program.read_backups(text, "sias"))
    assert found["sias_backup_count"] == 1
    assert found['sias_backup_last_completion_seconds{type="full"}'] == 160


def test_an_empty_repository_says_so_and_invents_no_time(program: ModuleType) -> None:
    found = values(program.read_backups(info(code=2), "sias"))
    assert found == {"sias_backup_stanza_ok": 0, "sias_backup_count": 0}


def test_a_stanza_that_does_not_exist_is_unreadable(program: ModuleType) -> None:
    with pytest.raises(program.UnreadableError, match="no stanza autre"):
        list(program.read_backups(info(), "autre"))


def certificate(path: Path, *options: str) -> Path:
    """Make one for 40 days."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         "/CN=test", "-days", "40", *options, "-keyout", str(path.with_suffix(".key")), "-out", str(path)],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


def test_age_and_end_of_a_certificate_are_read_in_seconds(program: ModuleType, tmp_path: Path) -> None:
    path = certificate(tmp_path / "host.crt")
    found = values(program.certificates([path]))
    written = path.stat().st_mtime
    assert abs(found['sias_certificate_not_before_seconds{file="host.crt"}'] - written) <= 60
    assert abs(found['sias_certificate_not_after_seconds{file="host.crt"}'] - written - 40 * 86400) <= 60


@pytest.mark.parametrize(
    ("names", "covered"),
    [
        ("DNS:db-a1,DNS:db-a1.sias.internal,IP:192.0.2.1", {"db-a1", "192.0.2.1"}),
        ("DNS:db-a10,IP:192.0.2.10", set()),
        ("", set()),
    ],
    ids=["some", "others that begin alike", "none"],
)
def test_a_certificate_covers_the_names_that_it_holds_whole(
    program: ModuleType, tmp_path: Path, names: str, covered: set[str]
) -> None:
    path = certificate(tmp_path / "host.crt", *(["-addext", f"subjectAltName={names}"] if names else []))
    wanted = ["db-a1", "postgres.sias.internal", "192.0.2.1"]
    found = {sample.labels["name"]: sample.value for sample in program.cover(path, wanted)}
    assert found == {name: float(name in covered) for name in wanted}


def test_brick_counts_files_to_heal_and_not_the_base_entry(program: ModuleType, tmp_path: Path) -> None:
    index = tmp_path / "brick" / ".glusterfs" / "indices" / "xattrop"
    index.mkdir(parents=True)
    for name in ("xattrop-6f1c", "5d3a0c1e", "77aa00ff"):
        (index / name).touch()
    process = tmp_path / "proc" / "42"
    process.mkdir(parents=True)
    (process / "cmdline").write_bytes(f"/usr/sbin/glusterfsd\0--brick-name\0{tmp_path}/brick\0".encode())
    found = [sample.value for sample in program.brick(tmp_path / "brick", tmp_path / "proc")]
    assert found == [1, 2]


def test_brick_whose_process_has_died_is_down(program: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "brick" / ".glusterfs" / "indices" / "xattrop").mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    assert [sample.value for sample in program.brick(tmp_path / "brick", tmp_path / "proc")] == [0, 0]


@pytest.mark.parametrize(("line", "expected"), [("h:/sias /srv/sias/documents fuse.glusterfs rw 0 0", 1), ("", 0)])
def test_mount_is_read_from_the_table(program: ModuleType, tmp_path: Path, line: str, expected: int) -> None:
    (tmp_path / "mounts").write_text(f"/dev/sda / ext4 rw 0 0\n{line}\n" if line else "/dev/sda / ext4 rw 0 0\n")
    (sample,) = program.mount(Path("/srv/sias/documents"), tmp_path / "mounts")
    assert sample.value == expected


def test_a_collector_that_fails_hides_nothing_of_the_others(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "sias.prom"
    code = program.main(["--output", str(output), "--certificates", str(tmp_path / "absent.crt"), "--mount", "/"])
    text = output.read_text()
    assert code == 0
    assert 'sias_metrics_collector_ok{collector="certificates"} 0' in text
    assert 'sias_metrics_collector_ok{collector="mount"} 1' in text
    assert 'sias_documents_mounted{path="/"} 1' in text
    assert "certificates: openssl failed" in capsys.readouterr().err


def test_label_values_are_escaped(program: ModuleType) -> None:
    assert str(program.Sample("m", 1, {"a": 'x"y\\z\n'})) == 'm{a="x\\"y\\\\z\\n"} 1'


def test_every_metric_has_its_help_once(program: ModuleType) -> None:
    text = program.render([program.Sample("sias_backup_count", 1), program.Sample("sias_backup_count", 2)])
    assert text.count("# HELP sias_backup_count ") == 1
    assert text.count("# TYPE sias_backup_count gauge") == 1


def test_segments_that_were_dropped_are_told_with_the_time_of_the_last(program: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "sias-archive-push-async.log"
    name = "sias_archive_last_drop_seconds"
    assert values(program.dropped_wal(log)) == {name: 0}
    dropped = "P00   WARN: dropped WAL file '00000001000000000000000D' because archive queue exceeded 8GB"
    log.with_name(f"{log.name}.1").write_text(f"2026-11-24 01:00:00.000 {dropped}\n")
    before = values(program.dropped_wal(log))[name]
    log.write_text(f"2026-11-25 01:00:00.000 P00   INFO: pushed WAL file\n2026-11-25 01:00:01.000 {dropped}\n")
    assert values(program.dropped_wal(log))[name] == before + 86401


def test_a_proof_that_never_was_counts_from_the_day_its_timer_came(program: ModuleType, tmp_path: Path) -> None:
    record, timer = tmp_path / "record.json", tmp_path / "sias-restore.timer"
    timer.write_text("")
    found = values(program.restores(record, "a", timer))
    assert found['sias_restore_proven_seconds{repository="a"}'] == 0
    assert found['sias_restore_watched_since_seconds{repository="a"}'] == timer.stat().st_mtime
    record.write_text(json.dumps({"proven": 1000, "failed": True, "seconds": 12.5}))
    found = values(program.restores(record, "a", timer))
    assert found['sias_restore_proven_seconds{repository="a"}'] == 1000
    assert found['sias_restore_failed{repository="a"}'] == 1
    assert found['sias_restore_duration_seconds{repository="a"}'] == 12.5


def test_the_directory_tells_the_newest_change_of_each_server(program: ModuleType) -> None:
    text = (
        "dn: dc=sias,dc=internal\n"
        "contextCSN: 20261128060000.250000Z#000000#001#000000\n"
        "contextCSN: 20261128060130.000000Z#000000#002#000000\n"
    )
    assert values(program.read_changes(text)) == {
        'sias_directory_change_seconds{server="001"}': 1795845600.25,
        'sias_directory_change_seconds{server="002"}': 1795845690,
    }


def test_a_directory_that_does_not_answer_is_a_figure(program: ModuleType, tmp_path: Path, monkeypatch: Any) -> None:
    def silent(command: list[str]) -> str:
        raise program.UnreadableError("ldapsearch failed (255)")

    monkeypatch.setattr(program, "run", silent)
    samples, complaints = program.collect({"directory": lambda: program.directory("dc=sias,dc=internal", tmp_path)})
    assert values(samples) == {
        "sias_directory_dump_seconds": 0,
        "sias_directory_up": 0,
        'sias_metrics_collector_ok{collector="directory"}': 0,
    }
    assert complaints == ["directory: ldapsearch failed (255)"]


DATABASES = (
    "name,host,port,database,force_user,pool_size,min_pool_size,reserve_pool,pool_mode,max_connections,"
    "current_connections,paused,disabled\n"
    "pgbouncer,,6432,pgbouncer,pgbouncer,2,0,0,statement,0,0,0,0\n"
    "sias,postgres.sias.internal,5000,sias,,30,0,0,,45,30,1,0\n"
    "sias_ro,postgres.sias.internal,5001,sias,,30,0,0,,30,0,0,0\n"
)
POOLS = (
    "database,user,cl_active,cl_waiting,cl_active_cancel_req,cl_waiting_cancel_req,sv_active,sv_active_cancel,"
    "sv_being_canceled,sv_idle,sv_used,sv_tested,sv_login,maxwait,maxwait_us,pool_mode\n"
    "pgbouncer,pgbouncer,1,0,0,0,0,0,0,0,0,0,0,0,0,statement\n"
    "sias,sias_app,20,7,0,0,20,0,0,3,2,0,0,4,250000,transaction\n"
    "sias,sias_owner,1,0,0,0,1,0,0,0,0,0,0,0,0,session\n"
)


def test_queues_are_told_by_database_and_a_database_that_nobody_asked_yet_has_none(program: ModuleType) -> None:
    told = {
        'sias_pgbouncer_clients{database="sias",state="active"}': 21,
        'sias_pgbouncer_clients{database="sias",state="waiting"}': 7,
        'sias_pgbouncer_servers{database="sias",state="active"}': 21,
        'sias_pgbouncer_servers{database="sias",state="idle"}': 5,
        'sias_pgbouncer_longest_wait_seconds{database="sias"}': 4.25,
        'sias_pgbouncer_paused{database="sias"}': 1,
    }
    nothing = {name.replace('"sias"', '"sias_ro"'): 0 for name in told}
    assert values(program.read_pools(DATABASES, POOLS)) == told | nothing


def test_pgbouncer_is_asked_without_its_password_where_others_could_read_it(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def answer(command: list[str]) -> str:
        asked.append(command)
        return DATABASES if command[-1] == "SHOW DATABASES" else POOLS

    monkeypatch.setattr(program, "run", answer)
    assert list(program.pools(6432))
    for command in asked:
        assert "--no-password" in command
        (way,) = (word for word in command if "host=" in word)
        assert "user=pgbouncer_stats " in way
        assert "password=" not in way


def test_passes_over_the_directory_are_told_by_kind_and_outcome(program: ModuleType, tmp_path: Path) -> None:
    record = tmp_path / "passes.json"
    record.write_text(json.dumps([{"kind": "whole", "outcome": "refused", "at": 1795845600.5}]))
    name = 'sias_directory_pass_seconds{kind="whole",outcome="refused"}'
    assert values(program.passes(record)) == {name: 1795845600.5}


def test_a_worker_that_never_told_of_its_passes_is_a_figure(program: ModuleType, tmp_path: Path) -> None:
    samples, _ = program.collect({"passes": lambda: program.passes(tmp_path / "passes.json")})
    assert values(samples) == {'sias_metrics_collector_ok{collector="passes"}': 0}


def test_duties_are_told_with_their_failures_while_the_worker_tells(program: ModuleType, tmp_path: Path) -> None:
    record = tmp_path / "duties.json"
    record.write_text(json.dumps([{"duty": "purge-sessions", "every": 3600, "at": 1795845600.5, "failures": 2}]))
    run = {
        'sias_duty_run_seconds{duty="purge-sessions"}': 1795845600.5,
        'sias_duty_period_seconds{duty="purge-sessions"}': 3600,
    }
    assert values(program.duties(record)) == run | {'sias_duty_failures{duty="purge-sessions"}': 2}
    long_ago = record.stat().st_mtime - program.DUTIES_TOLD - 1
    os.utime(record, (long_ago, long_ago))
    samples, complaints = program.collect({"duties": lambda: program.duties(record)})
    assert values(samples) == run | {'sias_metrics_collector_ok{collector="duties"}': 0}
    assert "has not written" in complaints[0]
