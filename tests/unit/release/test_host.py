"""A release has one name per content, and a host runs what lies on its disk or says why not."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

FILES = Path(__file__).parents[3] / "roles/application/files"


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


def test_a_release_carries_its_version(builder: ModuleType, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamped: list[str] = []

    def pip(command: list[str], **_: object) -> SimpleNamespace:
        stamped.append((Path(command[-1]) / "src/sias/release.txt").read_text(encoding="utf-8"))
        out = Path(command[command.index("--wheel-dir") + 1])
        out.mkdir()
        (out / "sias_app.whl").write_text("")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(builder, "subprocess", SimpleNamespace(run=pip))
    made = builder.build(project, project.parent / "wheels")
    assert stamped == [f"{made['version']}\n"]
    # The stamp of an earlier build, left in the folder by hand, makes no other release.
    (project / "src/sias/release.txt").write_text("old\n", encoding="utf-8")
    assert builder.build(project, project.parent / "wheels") == {**made, "changed": False}
    assert len(stamped) == 1


class Host:
    """A host's files, and systemd and the application as far as the tool sees them."""

    def __init__(self, tool: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tool = tool
        self.restarts: list[str] = []
        self.active = True
        self.unready: set[int] = set()
        """Releases that never become ready."""
        self.page = 200
        self.drains: list[str] = []
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
        monkeypatch.setattr(tool, "ask", self.ask)
        monkeypatch.setattr(tool, "wanted", lambda: f"{self.current.resolve()} {self.settings.read_text()}")

    def systemctl(self, verb: str, *arguments: str) -> bool:
        if verb == "restart":
            self.restarts += arguments
        return self.active

    def ask(self, path: str, _name: str) -> tuple[int, str]:
        if int(self.current.readlink().name) in self.unready:
            return 503, "no database"
        return (200, "") if path == "/healthz/ready" else (self.page, "a traceback")

    @contextmanager
    def drained(self, host: str) -> Iterator[None]:
        self.drains.append(host)
        try:
            yield
        finally:
            self.drains.remove(host)

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
    host.unready = {4}
    with pytest.raises(host.tool.ApplicationError, match="no database"):
        host.apply()
    host.unready = set()
    assert host.apply() == "restarted"


def test_a_release_that_does_not_become_ready_is_taken_back_at_once(host: Host) -> None:
    host.apply()
    host.release, host.unready = 4, {4}
    with pytest.raises(host.tool.ApplicationError, match=r"not ready after .*; 5 runs again"):
        host.apply()
    assert host.current.readlink().name == "5"
    assert host.drains == []
    host.release = 5
    assert host.apply() == "unchanged"


def test_a_release_whose_first_pages_fail_gets_no_user(host: Host) -> None:
    host.apply()
    host.release, host.page = 4, 500
    with pytest.raises(host.tool.ApplicationError, match=r"/connexion/ answers 500.*; and 5 does not come back"):
        host.apply()
    assert host.current.readlink().name == "5"


def test_a_first_release_has_nothing_to_go_back_to(host: Host) -> None:
    host.unready = {5}
    with pytest.raises(host.tool.ApplicationError, match="no database"):
        host.apply()
    assert host.current.readlink().name == "5"


def test_a_release_that_is_not_there_is_refused_and_nothing_moves(host: Host) -> None:
    host.apply()
    host.release = 9
    with pytest.raises(host.tool.ApplicationError, match="holds no release"):
        host.apply()
    assert host.current.resolve() == (host.releases / "5").resolve()


def test_the_releases_used_last_stay_and_the_one_that_was_left(host: Host) -> None:
    host.release = 2
    host.apply()
    (host.releases / "6-py3.11/bin").mkdir(parents=True)
    (host.releases / "6").symlink_to("6-py3.11")
    host.release = 6
    host.apply()
    assert sorted(path.name for path in host.releases.iterdir()) == sorted(
        [f"{number}{end}" for number in (2, 5, 6) for end in ("", "-py3.11")]
    )


def test_a_page_of_the_former_release_still_finds_its_style(host: Host) -> None:
    def style(release: int, *names: str) -> Path:
        folder = host.releases / f"{release}-py3.11/lib/python3.11/site-packages/sias/staticfiles"
        (folder / "css").mkdir(parents=True)
        for name in names:
            (folder / name).write_text(f"of {release}", encoding="utf-8")
        paths = {"css/a.css": next(name for name in names if name.endswith(".css"))}
        (folder / "staticfiles.json").write_text(json.dumps({"paths": paths}), encoding="utf-8")
        return folder

    style(5, "css/a.11.css", "css/a.11.css.gz", "css/of-an-older.css")
    new = style(4, "css/a.22.css")
    host.apply()
    host.release = 4
    host.apply()
    assert sorted(path.name for path in (new / "css").iterdir()) == ["a.11.css", "a.11.css.gz", "a.22.css"]
    assert (new / "css/a.22.css").read_text(encoding="utf-8") == "of 4"


def test_the_state_of_a_host_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.tool, "haproxy", Haproxy(drained={"web_live/app-b1"}).ask)
    host.apply()
    for number in (3, 4, 5):
        (host.releases / str(number) / ".complete").write_text("", encoding="utf-8")
    (host.releases / "9-py3.11").mkdir()  # half-made: nobody may be led to it
    (host.releases / "9").symlink_to("9-py3.11")
    told = host.tool.status("sias.internal")
    assert (told["current"], told["running"]) == ("5", "5")
    assert sorted(told["releases"]) == ["3", "4", "5"]
    assert (told["drained"], told["sees"]) == (["app-b1"], ["app-a1"])


class Haproxy:
    """HAProxy's runtime interface: servers of two backends, and requests that are in progress for a few questions yet."""

    def __init__(self, *, drained: set[str] | None = None, busy: int = 0) -> None:
        self.states = {f"{b}/{s}": "ready" for b in ("web_ready", "web_live") for s in ("app-a1", "app-b1")}
        self.states |= dict.fromkeys(drained or (), "drain")
        self.busy = busy
        self.log: list[str] = []

    def ask(self, command: str) -> str:
        self.log.append(command)
        if command.startswith("set server"):
            _, _, server, _, state = command.split()
            self.states[server] = state
            return "\n"
        if command.startswith("show servers state"):
            backend = command.rpartition(" ")[2]
            rows = [
                f"4 {backend} 1 {s} 192.168.56.14 2 {8 if self.states[f'{backend}/{s}'] == 'drain' else 0} 1 1 5 6 3 7 6 0"
                for s in ("app-a1", "app-b1")
            ]
            return "\n".join(["1", "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state", *rows])
        busy, self.busy = self.busy, max(0, self.busy - 1)
        rows = [
            "# pxname,svname,qcur,qmax,scur,econ,eresp,status,",
            f"web_ready,app-a1,0,0,{busy},2,1,UP,",
            "web_ready,app-b1,0,0,7,0,0,DRAIN,",
            "web_ready,BACKEND,0,0,0,0,0,UP,",
            "web_own,app-a1,0,0,0,0,0,no check,",
        ]
        return "\n".join(rows)


@pytest.fixture
def tool() -> ModuleType:
    return load("sias-application")


def test_a_host_is_drained_until_its_requests_have_ended(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    haproxy = Haproxy(busy=2)
    monkeypatch.setattr(tool, "haproxy", haproxy.ask)

    def restart() -> None:
        with tool.drained("app-a1"):
            assert haproxy.states["web_ready/app-a1"] == haproxy.states["web_live/app-a1"] == "drain"
            assert haproxy.busy == 0
            raise KeyError

    with pytest.raises(KeyError):
        restart()
    assert set(haproxy.states.values()) == {"ready"}


@pytest.mark.parametrize("said", ["end\n", None, ""], ids=["told", "left alone", "limit"])
def test_a_peer_sends_requests_again_whatever_becomes_of_who_asked(said: str | None, tmp_path: Path) -> None:
    """In a process of its own, against a socket that answers as HAProxy's would."""
    path = str(tmp_path / "admin.sock")
    haproxy, server = Haproxy(), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.listen()

    def serve() -> None:
        for _ in range(4):
            link, _ = server.accept()
            with link:
                link.sendall(haproxy.ask(link.recv(4096).decode().strip()).encode())

    thread = threading.Thread(target=serve)
    thread.start()
    source = f"import runpy, sys; tool = runpy.run_path({str(FILES / 'sias-application')!r}); "
    source += f"tool['haproxy'].__globals__['HAPROXY_SOCKET'] = {path!r}; "
    source += f"tool['hold']('app-b1', {0.2 if said == '' else 30.0})"
    with subprocess.Popen(
        [sys.executable, "-B", "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "drained\n"
        assert haproxy.states["web_ready/app-b1"] == "drain" or said == ""
        if said:
            process.stdin.write(said)
            process.stdin.flush()
        elif said is None:
            process.stdin.close()
        assert process.stdout.readline() == "ready\n"
    thread.join()
    server.close()
    assert set(haproxy.states.values()) == {"ready"}


FIGURES = """
sias_http_requests_total{method="GET",status="200",view="repertoire:search"} 40.0
sias_http_requests_total{method="GET",status="500",view="repertoire:search"} 3.0
sias_http_requests_total{method="GET",status="503",view="ready"} 9.0
sias_http_request_seconds_bucket{le="0.1",view="repertoire:search"} 41.0
sias_http_request_seconds_bucket{le="+Inf",view="repertoire:search"} 43.0
sias_http_request_seconds_sum{view="repertoire:search"} 4.2
"""


def test_what_users_were_answered_is_counted(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "haproxy", Haproxy().ask)
    monkeypatch.setattr(tool, "ask", lambda *_: (200, FIGURES))
    assert tool.figures("sias.internal") == {
        "views": {"repertoire:search": {"requests": 43, "failed": 3, "within": {"0.1": 41, "+Inf": 43}}},
        "broken": {"app-a1": 3, "app-b1": 0},
    }
