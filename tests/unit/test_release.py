"""A release has one name per content, and a host runs what lies on its disk or says why not."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType

import pytest

FILES = Path(__file__).parents[2] / "roles/application/files"


def load(name: str) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_").removesuffix(".py"), str(FILES / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # No compiled copy beside a file that is shipped.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    return load("build_release.py")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "src/sias").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "sias_app"\nversion = "1.2.0"\n', encoding="utf-8")
    (folder / "src/sias/__init__.py").write_text("a = 1\n", encoding="utf-8")
    return folder


def test_the_same_content_is_the_same_release(builder: ModuleType, project: Path) -> None:
    version = builder.release_version(project)
    assert version.startswith("1.2.0+g")
    os.utime(project / "src/sias/__init__.py", (1, 1))
    assert builder.release_version(project) == version


@pytest.mark.parametrize("path", ["tests/test_a.py", "src/sias/__pycache__/a.pyc", "src/sias_app.egg-info/PKG-INFO"])
def test_what_is_not_shipped_makes_no_release(builder: ModuleType, project: Path, path: str) -> None:
    version = builder.release_version(project)
    (project / path).parent.mkdir(parents=True, exist_ok=True)
    (project / path).write_text("new\n", encoding="utf-8")
    assert builder.release_version(project) == version


@pytest.mark.parametrize("path", ["src/sias/__init__.py", "src/sias/new.html", "requirements.lock"])
def test_what_is_shipped_makes_a_release(builder: ModuleType, project: Path, path: str) -> None:
    version = builder.release_version(project)
    (project / path).write_text("new\n", encoding="utf-8")
    assert builder.release_version(project) != version


class Host:
    """A host's files, and systemd and the application as far as the tool sees them."""

    def __init__(self, tool: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tool = tool
        self.restarts: list[str] = []
        self.active = True
        self.ready = True
        self.releases = root / "releases"
        for number in range(1, 6):
            home = self.releases / f"{number}-py3.11"
            (home / "bin").mkdir(parents=True)
            os.utime(home, (number, number))
            (self.releases / str(number)).symlink_to(home.name)
        self.current = root / "current"
        self.note = root / "state/running"
        self.settings = root / "app.env"
        self.settings.write_text("A=1\n", encoding="utf-8")
        self.release = 5
        monkeypatch.setattr(tool, "RELEASES", self.releases)
        monkeypatch.setattr(tool, "CURRENT", self.current)
        monkeypatch.setattr(tool, "NOTE", self.note)
        monkeypatch.setattr(tool, "systemctl", self.systemctl)
        monkeypatch.setattr(tool, "drained", self.drained)
        monkeypatch.setattr(tool, "ask", lambda *_: (200, "") if self.ready else (503, "no database"))
        monkeypatch.setattr(tool, "wanted", lambda: f"{self.current.resolve()} {self.settings.read_text()}")

    def systemctl(self, verb: str, *arguments: str) -> bool:
        if verb == "restart":
            self.restarts += arguments
        return self.active

    def drained(self, _host: str) -> AbstractContextManager[None]:
        return nullcontext()

    def apply(self) -> str:
        said: str = self.tool.apply(self.releases / str(self.release), "app-a1", "sias.internal", 0, 3)
        return said


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(load("sias-application"), tmp_path, monkeypatch)


def test_it_starts_then_leaves_alone_what_runs(host: Host) -> None:
    assert host.apply() == "started"
    assert host.restarts == ["sias-web.service", "sias-worker.service"]
    assert host.apply() == "unchanged"
    assert len(host.restarts) == 2


@pytest.mark.parametrize(
    "change",
    [lambda host: setattr(host, "release", 4), lambda host: host.settings.write_text("A=2\n", encoding="utf-8")],
)
def test_another_release_or_setting_restarts(host: Host, change: Callable[[Host], object]) -> None:
    host.apply()
    change(host)
    assert host.apply() == "restarted"


def test_a_release_that_never_became_ready_is_tried_again(host: Host) -> None:
    host.apply()
    host.release = 4
    host.ready = False
    with pytest.raises(host.tool.ApplicationError, match="no database"):
        host.apply()
    host.ready = True
    assert host.apply() == "restarted"


def test_a_release_that_is_not_there_is_refused_and_nothing_moves(host: Host) -> None:
    host.apply()
    host.release = 9
    with pytest.raises(host.tool.ApplicationError, match="holds no release"):
        host.apply()
    assert host.current.resolve() == (host.releases / "5").resolve()


def test_the_newest_releases_stay_and_the_one_that_runs(host: Host) -> None:
    host.release = 1
    host.apply()
    assert sorted(path.name for path in host.releases.iterdir()) == sorted(
        [f"{number}{end}" for number in (1, 3, 4, 5) for end in ("", "-py3.11")]
    )
