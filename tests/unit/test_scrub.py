"""Copies of documents are read again, in pieces, and a damaged one is told from one that is being healed."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from siasops.inventory import ROOT


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    source = ROOT / "roles" / "documents" / "files" / "sias_scrub.py"
    spec = importlib.util.spec_from_file_location("sias_scrub", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "sias_scrub", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def brick(tmp_path: Path) -> Path:
    """Forty documents, and what else lies in a brick."""
    root = tmp_path / "brick"
    for number in range(40):
        store(root, f"document {number}".encode())
    for other in (".glusterfs/ab/cd/abcd", "tmp/3f2a", "ab/cd/not-a-document"):
        (root / other).parent.mkdir(parents=True, exist_ok=True)
        (root / other).write_bytes(b"else")
    return root


def store(root: Path, content: bytes) -> Path:
    name = hashlib.sha256(content).hexdigest()
    path = root / name[:2] / name[2:4] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def run(program: ModuleType, brick: Path, seconds: float = 60) -> tuple[int, dict[str, float]]:
    output = brick.parent / "scrub.prom"
    code = program.main(
        ["--brick", str(brick), "--state", str(brick.parent / "state.json"), "--output", str(output),
         "--seconds", str(seconds)]
    )  # fmt: skip
    lines = [line.split() for line in output.read_text().splitlines() if not line.startswith("#")]
    return code, {name.removeprefix("sias_scrub_"): float(value) for name, value in lines}


def test_a_pass_reads_every_document_once_however_often_it_is_interrupted(program: ModuleType, brick: Path) -> None:
    seen = []
    for _ in range(40):
        code, found = run(program, brick, seconds=0)  # one document each time
        seen.append(found["checked"])
        assert (code, found["pass_completed_seconds"]) == (0, 0)
    assert seen == list(range(1, 41))
    _, found = run(program, brick, seconds=0)
    assert (found["documents"], found["checked"]) == (40, 0)
    assert found["bytes"] == sum(len(f"document {n}") for n in range(40))
    assert found["pass_completed_seconds"] >= found["watched_since_seconds"] > 0


@pytest.mark.parametrize("harm", ["changed", "cut short"])
def test_a_damaged_copy_counts_once_it_has_stayed_so_and_no_longer_when_it_is_mended(
    program: ModuleType, brick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], harm: str
) -> None:
    path = store(brick, b"a pension file")
    path.write_bytes(b"a pension fi1e" if harm == "changed" else b"")
    _, found = run(program, brick)
    assert (found["suspects"], found["mismatches"]) == (1, 0), "Gluster may be healing it"
    monkeypatch.setattr(program, "CONFIRM", 0.0)
    _, found = run(program, brick, seconds=0)
    assert (found["suspects"], found["mismatches"]) == (1, 1)
    assert f"{path} is not what its name says" in capsys.readouterr().err
    path.write_bytes(b"a pension file")
    _, found = run(program, brick, seconds=0)
    assert (found["suspects"], found["mismatches"]) == (0, 0), "what was wrong is looked at first"


def test_a_copy_that_the_disk_cannot_read_is_damaged_and_one_that_is_gone_is_not(
    program: ModuleType, brick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "CONFIRM", 0.0)
    unreadable, gone = store(brick, b"one"), store(brick, b"two")
    opened = Path.open

    def fail(self: Path, mode: str = "r", **options: object) -> object:
        if self == unreadable:
            raise OSError(5, "Input/output error")
        if self == gone:
            raise FileNotFoundError(2, "No such file")
        return opened(self, mode, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", fail)
    _, found = run(program, brick)
    assert (found["documents"], found["mismatches"]) == (42, 1)


def test_a_brick_that_cannot_be_listed_completes_nothing(program: ModuleType, tmp_path: Path) -> None:
    code, found = run(program, tmp_path / "absent")
    assert (code, found["pass_completed_seconds"]) == (1, 0)


def test_a_damaged_state_costs_a_pass_and_no_more(program: ModuleType, brick: Path) -> None:
    run(program, brick, seconds=0)
    (brick.parent / "state.json").write_text("{half")
    code, found = run(program, brick)
    assert (code, found["documents"]) == (0, 40)
