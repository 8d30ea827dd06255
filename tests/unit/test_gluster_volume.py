"""The module that replicates documents finishes what was begun, and never changes bricks that hold data."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "roles/documents/library/gluster_replicated_volume.py"
HOSTS = ["app-a1", "app-b1", "witness"]
BRICKS = [{"host": host, "path": "/srv/brick/sias"} for host in HOSTS]


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gluster_replicated_volume", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Glusterd:
    """As much of glusterd as the module talks to; `refuse` makes one kind of command fail once."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error
        self.joined: set[str] = set()
        self.bricks: list[str] = []
        self.started = False
        self.options: dict[str, str] = {}
        self.commands: list[str] = []
        self.refuse = ""

    def __call__(self, *arguments: str) -> ET.Element:
        said = " ".join(arguments)
        if not said.startswith(("peer status", "volume info", "volume status")):
            self.commands.append(said)
        if self.refuse and said.startswith(self.refuse):
            self.refuse = ""
            raise self.error("the machine lost its power")
        match arguments:
            case ("peer", "probe", host):
                self.joined.add(host)
            case ("volume", "create", _, *rest):
                self.bricks = [word for word in rest if ":" in word]
            case ("volume", "set", _, *pairs):
                self.options.update(zip(pairs[::2], pairs[1::2], strict=True))
            case ("volume", "start", _):
                self.started = True
        return ET.fromstring(f"<cliOutput><opRet>0</opRet>{self.answer(arguments)}</cliOutput>")  # noqa: S314 - our own

    def answer(self, arguments: tuple[str, ...]) -> str:
        if arguments[:2] == ("peer", "status"):
            return "".join(
                f"<peer><hostname>{host}</hostname><hostnames><hostname>{host}</hostname></hostnames>"
                "<connected>1</connected><state>3</state></peer>"
                for host in self.joined
            )
        if arguments[:2] == ("volume", "info") and self.bricks:
            bricks = "".join(f"<brick><name>{brick}</name></brick>" for brick in self.bricks)
            options = "".join(f"<option><name>{k}</name><value>{v}</value></option>" for k, v in self.options.items())
            status = "Started" if self.started else "Created"
            return (
                f"<volume><name>sias</name><statusStr>{status}</statusStr><bricks>{bricks}</bricks>{options}</volume>"
            )
        if arguments[:2] == ("volume", "status") and self.started:
            return "".join(
                "<node><hostname>{}</hostname><path>{}</path><status>1</status></node>".format(*brick.split(":"))
                for brick in self.bricks
            )
        return ""


@pytest.fixture
def glusterd(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Glusterd:
    daemon = Glusterd(program.GlusterError)
    monkeypatch.setattr(program, "gluster", daemon)
    return daemon


def ensure(program: ModuleType, *, check: bool = False, **changes: Any) -> list[str]:
    params = {"name": "sias", "bricks": BRICKS, "options": {"server.ssl": "on"}, "wait": 0, **changes}
    actions: list[str] = program.Volume(SimpleNamespace(params=params, check_mode=check)).ensure()
    return actions


def test_from_bare_daemons_to_a_volume_that_serves(program: ModuleType, glusterd: Glusterd) -> None:
    ensure(program)
    assert glusterd.joined == {"app-b1", "witness"}
    assert glusterd.bricks == [f"{host}:/srv/brick/sias" for host in HOSTS]
    assert glusterd.started
    create = next(command for command in glusterd.commands if command.startswith("volume create"))
    assert "replica 3 arbiter 1" in create
    assert create.index("app-a1:") < create.index("witness:")


def test_a_second_run_does_nothing(program: ModuleType, glusterd: Glusterd) -> None:
    ensure(program)
    glusterd.commands.clear()
    assert ensure(program) == []
    assert glusterd.commands == []


def test_encryption_is_set_before_the_volume_starts(program: ModuleType, glusterd: Glusterd) -> None:
    ensure(program)
    kinds = [" ".join(command.split()[:2]) for command in glusterd.commands]
    assert kinds.index("volume set") < kinds.index("volume start")


@pytest.mark.parametrize("moment", ["peer probe", "volume create", "volume set", "volume start"])
def test_a_run_that_was_interrupted_is_finished_by_the_next(
    program: ModuleType, glusterd: Glusterd, moment: str
) -> None:
    glusterd.refuse = moment
    with pytest.raises(program.GlusterError):
        ensure(program)
    ensure(program)
    assert glusterd.started
    assert glusterd.options == {"server.ssl": "on"}


def test_only_options_that_differ_are_set(program: ModuleType, glusterd: Glusterd) -> None:
    ensure(program)
    glusterd.commands.clear()
    ensure(program, options={"server.ssl": "on", "network.ping-timeout": 5})
    assert glusterd.commands == ["volume set sias network.ping-timeout 5"]


def test_a_rehearsal_changes_nothing(program: ModuleType, glusterd: Glusterd) -> None:
    assert ensure(program, check=True)
    assert glusterd.commands == []


def test_bricks_that_hold_data_are_never_replaced(program: ModuleType, glusterd: Glusterd) -> None:
    ensure(program)
    glusterd.commands.clear()
    with pytest.raises(program.GlusterError, match="replace a brick by its runbook"):
        ensure(program, bricks=[*BRICKS[:2], {"host": "witness", "path": "/elsewhere"}])
    assert glusterd.commands == []
