"""The module that brings units to run on the files that stand there now."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

from siasops.inventory import ROOT

SHOW = """\
Id=thing.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no
ActiveEnterTimestampMonotonic=5000000

Id=other.timer
LoadState=loaded
ActiveState=inactive
UnitFileState=disabled
NeedDaemonReload=no
ActiveEnterTimestampMonotonic=0
"""


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sias_units", ROOT / "playbooks/library/sias_units.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A unit file written at 100 and a configuration written at 200 (seconds since 1970)."""
    written = {}
    for name, when in (("unit", 100), ("configuration", 200)):
        path = tmp_path / name
        path.touch()
        os.utime(path, (when, when))
        written[name] = str(path)
    return written


def verbs(module: ModuleType, files: dict[str, str], *, since: float, read: float = 0, **state: str) -> list[str]:
    unit = {"name": "thing.service", "restart_on": [files["unit"]], "reload_on": [files["configuration"]]}
    running = {"UnitFileState": "enabled", "ActiveState": "active"}
    found: list[str] = module.needed(unit, running | state, since=since, read=read)
    return found


def test_blocks_of_systemctl_become_units(module: ModuleType) -> None:
    states = module.parse(SHOW)
    assert list(states) == ["thing.service", "other.timer"]
    assert states["other.timer"]["ActiveState"] == "inactive"


def test_the_start_is_told_on_the_wall_clock(module: ModuleType) -> None:
    state = module.parse(SHOW)["thing.service"]
    assert module.started_at(state, wall=1000, monotonic=25) == 980


def test_a_unit_that_runs_on_its_files_is_left_alone(module: ModuleType, files: dict[str, str]) -> None:
    assert verbs(module, files, since=300) == []


@pytest.mark.parametrize(
    ("since", "read", "expected"),
    [
        (50, 0, ["restart"]),  # older than its unit file: a restart reads everything
        (50, 300, ["restart"]),  # a reload does not replace the restart
        (150, 0, ["reload"]),  # a handler that was lost with an interrupted play
        (150, 250, []),  # reloaded since
        (250, 150, []),  # restarted since
    ],
)
def test_a_file_newer_than_the_unit_is_brought_to_it(
    module: ModuleType, files: dict[str, str], since: float, read: float, expected: list[str]
) -> None:
    assert verbs(module, files, since=since, read=read) == expected


@pytest.mark.parametrize("state", ["inactive", "failed"])
def test_a_unit_that_does_not_run_is_started_whatever_its_files(
    module: ModuleType, files: dict[str, str], state: str
) -> None:
    assert verbs(module, files, since=300, ActiveState=state) == ["start"]


def test_a_unit_that_would_not_start_at_boot_is_enabled(module: ModuleType, files: dict[str, str]) -> None:
    assert verbs(module, files, since=300, UnitFileState="disabled") == ["enable"]
    assert verbs(module, files, since=300, UnitFileState="static") == []


def test_files_that_do_not_exist_ask_for_nothing(module: ModuleType) -> None:
    assert module.newest(["/nonexistent/a", "/nonexistent/b"]) == 0
