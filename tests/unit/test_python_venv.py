"""Wheels resolved on the controller, and the environment that a host makes of them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

SOURCES = Path(__file__).parents[2] / "roles" / "python_venv" / "files"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SOURCES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wheelhouse = load("wheelhouse")
install_venv = load("install_venv")


def make_wheel(folder: Path, name: str, body: str = "ANSWER = 42\n", tag: str = "py3-none-any") -> Path:
    """Make a wheel that pip accepts, without a network; the same contents make the same file."""
    path = folder / f"{name}-1.0-{tag}.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(zipfile.ZipInfo(f"{name}.py"), body)
        wheel.writestr(zipfile.ZipInfo(f"{info}/METADATA"), f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(zipfile.ZipInfo(f"{info}/WHEEL"), f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "")
    return path


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock that asks for nothing: what is shipped is the local wheel alone."""
    path = tmp_path / "empty.lock"
    path.write_text("# nothing\n", encoding="utf-8")
    return path


@pytest.fixture
def nothing_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheelhouse, "download", lambda *_arguments: None)


@pytest.mark.usefixtures("nothing_to_download")
def test_an_archive_is_made_once(tmp_path: Path, lock: Path) -> None:
    wheel = make_wheel(tmp_path, "sias_sample")
    first = wheelhouse.build(tmp_path / "house", "sample", lock=lock, python=PYTHON, wheels=[wheel])
    second = wheelhouse.build(tmp_path / "house", "sample", lock=lock, python=PYTHON, wheels=[wheel])
    assert first["changed"]
    assert second == {**first, "changed": False}


@pytest.mark.usefixtures("nothing_to_download")
def test_a_wheel_with_other_contents_makes_another_archive(tmp_path: Path, lock: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    wheels = [make_wheel(tmp_path / "one", "sias_sample"), make_wheel(tmp_path / "two", "sias_sample", "ANSWER = 43\n")]
    digests = [
        wheelhouse.build(tmp_path / "house", "sample", lock=lock, python=PYTHON, wheels=[wheel])["digest"]
        for wheel in wheels
    ]
    assert digests[0] != digests[1]


def test_an_interrupted_build_leaves_no_archive(tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_arguments: object) -> None:
        raise wheelhouse.WheelhouseError("the index does not answer")

    monkeypatch.setattr(wheelhouse, "download", stop)
    with pytest.raises(wheelhouse.WheelhouseError, match="does not answer"):
        wheelhouse.build(tmp_path / "house", "sample", lock=lock, python=PYTHON)
    assert list((tmp_path / "house").glob("*.tar")) == []


def test_a_missing_lock_is_named(tmp_path: Path) -> None:
    with pytest.raises(wheelhouse.WheelhouseError, match=r"no\.lock does not exist on the controller"):
        wheelhouse.build(tmp_path, "sample", lock=tmp_path / "no.lock", python=PYTHON)


@pytest.mark.usefixtures("nothing_to_download")
def test_what_is_shipped_carries_its_own_hashes(tmp_path: Path, lock: Path) -> None:
    wheel = make_wheel(tmp_path, "sias_sample")
    built = wheelhouse.build(tmp_path / "house", "sample", lock=lock, python=PYTHON, wheels=[wheel])
    with tarfile.open(built["archive"]) as tar:
        member = tar.extractfile("wheels/requirements.txt")
        assert member is not None
        text = member.read().decode()
    assert text == f"sias-sample==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def archive(tmp_path: Path, lock: Path, body: str = "ANSWER = 42\n", *more: str) -> tuple[Path, str]:
    wheels = [make_wheel(tmp_path, "sias_sample", body), *(make_wheel(tmp_path, name) for name in more)]
    built = wheelhouse.build(tmp_path / "house", "sample", lock=lock, python=PYTHON, wheels=wheels)
    shipped = tmp_path / "shipped.tar"
    shipped.write_bytes(Path(built["archive"]).read_bytes())
    return shipped, built["digest"]


@pytest.mark.usefixtures("nothing_to_download")
def test_the_link_leads_to_an_environment_that_imports_what_was_shipped(tmp_path: Path, lock: Path) -> None:
    shipped, digest = archive(tmp_path, lock)
    target = tmp_path / "opt" / "1.0"
    home = install_venv.install(shipped, target, digest, Path(sys.executable), PYTHON)
    assert target.is_symlink()
    assert target.resolve() == home
    answer = subprocess.run([target / "bin" / "python", "-c", "import sias_sample; print(sias_sample.ANSWER)"],
                            capture_output=True, text=True, check=True)  # fmt: skip
    assert answer.stdout == "42\n"
    assert not shipped.exists()


def test_the_locks_own_wheels_are_downloaded_once(tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(_lock: Path, _python: str, _sources: object, into: Path) -> None:
        asked.append(make_wheel(into, "somebody_else"))

    monkeypatch.setattr(wheelhouse, "download", download)
    archives = [archive(tmp_path, lock, f"ANSWER = {n}\n")[0].read_bytes() for n in (1, 2)]
    assert len(asked) == 1
    assert archives[0] != archives[1]
    assert all(b"somebody_else-1.0" in content for content in archives)


@pytest.mark.usefixtures("nothing_to_download")
def test_what_has_not_changed_is_borrowed_and_nothing_of_the_lender_is_touched(tmp_path: Path, lock: Path) -> None:
    homes = []
    for version, body in (("1.0", "ANSWER = 42\n"), ("2.0", "ANSWER = 43\n")):
        shipped, digest = archive(tmp_path, lock, body, "somebody_else")
        homes.append(install_venv.install(shipped, tmp_path / "opt" / version, digest, Path(sys.executable), PYTHON))
    inodes = [next(home.rglob("somebody_else.py")).stat().st_ino for home in homes]
    assert inodes[0] == inodes[1]
    for home, answer in zip(homes, ("42", "43"), strict=True):
        code = "import sias_sample, somebody_else, sys; print(sias_sample.ANSWER, sys.prefix)"
        done = subprocess.run([home / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [answer, str(home)]
        assert str(home) in (home / "bin" / "activate").read_text(encoding="utf-8")


@pytest.mark.usefixtures("nothing_to_download")
def test_an_environment_with_other_projects_lends_nothing(tmp_path: Path, lock: Path) -> None:
    shipped, digest = archive(tmp_path, lock, "ANSWER = 42\n", "gone_since")
    install_venv.install(shipped, tmp_path / "opt" / "1.0", digest, Path(sys.executable), PYTHON)
    shipped, digest = archive(tmp_path, lock)
    home = install_venv.install(shipped, tmp_path / "opt" / "2.0", digest, Path(sys.executable), PYTHON)
    assert not list(home.rglob("gone_since.py"))


@pytest.mark.usefixtures("nothing_to_download")
def test_a_half_made_environment_is_made_again(tmp_path: Path, lock: Path) -> None:
    shipped, digest = archive(tmp_path, lock)
    target = tmp_path / "opt" / "1.0"
    half = target.with_name(f"1.0-{digest}-py{PYTHON}")
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").write_text("half", encoding="utf-8")
    install_venv.install(shipped, target, digest, Path(sys.executable), PYTHON)
    subprocess.run([target / "bin" / "python", "-c", "import sias_sample"], check=True)


@pytest.mark.usefixtures("nothing_to_download")
def test_a_wheel_that_was_altered_on_the_way_is_refused(tmp_path: Path, lock: Path) -> None:
    shipped, digest = archive(tmp_path, lock)
    with tarfile.open(shipped) as tar:
        tar.extractall(tmp_path / "open")  # noqa: S202 - made by this test
    (tmp_path / "evil").mkdir()
    altered = make_wheel(tmp_path / "evil", "sias_sample", "ANSWER = 666\n")
    (tmp_path / "open" / "wheels" / altered.name).write_bytes(altered.read_bytes())
    with tarfile.open(shipped, "w") as tar:
        tar.add(tmp_path / "open" / "wheels", arcname="wheels")
    target = tmp_path / "opt" / "1.0"
    with pytest.raises(install_venv.InstallError, match="python failed"):
        install_venv.install(shipped, target, digest, Path(sys.executable), PYTHON)
    assert not target.exists()


def test_a_folder_in_the_place_of_the_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.0").mkdir()
    with pytest.raises(install_venv.InstallError, match="move it away"):
        install_venv.point(tmp_path / "1.0", tmp_path / "1.0-abc")


def test_patronis_lock_names_a_hash_for_everything() -> None:
    text = (Path(__file__).parents[2] / "roles/patroni/files/patroni.lock").read_text(encoding="utf-8")
    projects = [block for block in text.split("\n") if "==" in block]
    assert "patroni==4.1.5 \\" in projects
    assert all(project.endswith("\\") for project in projects)
    assert text.count("--hash=sha256:") >= len(projects)


def test_the_command_line_says_what_failed_in_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SOURCES / "wheelhouse.py", "--root", tmp_path, "--name", "sample", "--lock", tmp_path / "no.lock",
         "--python", PYTHON], capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("nothing_to_download")
def test_the_answer_for_ansible_is_json(
    tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["wheelhouse.py", "--root", str(tmp_path / "h"), "--name", "s", "--lock", str(lock), "--python", PYTHON]
    monkeypatch.setattr(sys, "argv", arguments)
    assert wheelhouse.main() == 0
    assert set(json.loads(capsys.readouterr().out)) == {"changed", "digest", "archive"}
