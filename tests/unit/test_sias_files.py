"""The module that writes many files in one task."""

from __future__ import annotations

import getpass
import grp
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).parents[2] / "playbooks" / "library" / "sias_files.py"
OWN = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}


def run(files: list[dict[str, Any]], *, check: bool = False, show_diff: bool = True) -> dict[str, Any]:
    """Run the module as Ansible would, in a process of its own."""
    arguments = {"files": [{**OWN, **entry} for entry in files], "show_diff": show_diff, "_ansible_check_mode": check}
    done = subprocess.run(
        [sys.executable, str(MODULE)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_file_is_written_with_its_mode_and_its_parents(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "thing" / "thing.conf"
    assert run([{"path": str(path), "content": "a = 1\n", "mode": "0640"}])["changed"]
    assert path.read_text(encoding="utf-8") == "a = 1\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    files = [
        {"path": str(tmp_path / "folder"), "state": "directory", "mode": "0750"},
        {"path": str(tmp_path / "folder" / "file"), "content": "é\n"},
        {"path": str(tmp_path / "link"), "link": "/dev/null"},
        {"path": str(tmp_path / "gone"), "state": "absent"},
    ]
    assert run(files)["changed"]
    again = run(files)
    assert not again["changed"]
    assert again["paths"] == []


def test_only_what_differs_is_reported(tmp_path: Path) -> None:
    run([{"path": str(tmp_path / name), "content": "same\n"} for name in ("one", "two")])
    answer = run(
        [{"path": str(tmp_path / "one"), "content": "same\n"}, {"path": str(tmp_path / "two"), "content": "new\n"}]
    )
    assert answer["paths"] == [str(tmp_path / "two")]


def test_a_wrong_mode_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("secret\n", encoding="utf-8")
    path.chmod(0o666)
    assert run([{"path": str(path), "content": "secret\n", "mode": "0600"}])["changed"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_check_mode_changes_nothing_and_tells_everything(tmp_path: Path) -> None:
    present = tmp_path / "present"
    present.write_text("old\n", encoding="utf-8")
    files = [
        {"path": str(tmp_path / "folder"), "state": "directory"},
        {"path": str(tmp_path / "folder" / "file"), "content": "x"},
        {"path": str(tmp_path / "link"), "link": "/dev/null"},
        {"path": str(present), "content": "new\n"},
    ]
    answer = run(files, check=True)
    assert answer["paths"] == [entry["path"] for entry in files]
    assert [path.name for path in tmp_path.iterdir()] == ["present"]
    assert present.read_text(encoding="utf-8") == "old\n"


def test_secrets_stay_out_of_the_difference(tmp_path: Path) -> None:
    files = [{"path": str(tmp_path / "file"), "content": "password"}]
    assert run(files, check=True)["diff"][0]["after"] == "password"
    assert run(files, check=True, show_diff=False)["diff"] == []


def test_a_file_that_is_no_longer_wanted_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.touch()
    assert run([{"path": str(path), "state": "absent"}])["changed"]
    assert not path.exists()


def test_a_folder_with_contents_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").touch()
    answer = run([{"path": str(tmp_path / "data"), "state": "absent"}])
    assert answer["failed"]
    assert (tmp_path / "data" / "file").exists()


@pytest.mark.parametrize("entry", [{"path": "/nowhere/x"}, {"path": "/proc/nowhere/x", "content": "x"}])
def test_what_cannot_be_written_is_named(entry: dict[str, Any]) -> None:
    answer = run([entry])
    assert answer["failed"]
    assert entry["path"] in answer["msg"]


def test_a_text_that_its_own_command_refuses_does_not_replace_the_old(tmp_path: Path) -> None:
    path = tmp_path / "thing.conf"
    path.write_text("good\n", encoding="utf-8")
    answer = run([{"path": str(path), "content": "bad\n", "validate": "grep -q good %s"}])
    assert answer["failed"]
    assert str(path) in answer["msg"]
    assert path.read_text(encoding="utf-8") == "good\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_its_own_command_accepts_is_written(tmp_path: Path) -> None:
    path = tmp_path / "thing.conf"
    assert run([{"path": str(path), "content": "good\n", "validate": "grep -q good %s"}])["changed"]
    assert path.read_text(encoding="utf-8") == "good\n"
