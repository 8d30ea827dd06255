"""The host's own program, part by part: what it does to sources, and what may start meanwhile."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from siasops.upgrade.hosts import SCRIPT, parse_state


def shell(tmp_path: Path, line: str) -> str:
    """Run a line with the program's functions, its folders in a scratch folder."""
    text, last, _ = SCRIPT.read_text(encoding="utf-8").rpartition('main "$@"')
    assert last, "the program no longer ends with its main function"
    here = f"home={tmp_path}/home policy={tmp_path}/policy-rc.d\nmkdir -p $home\n"
    done = subprocess.run(
        ["sh", "-s"],
        input=f"{text}\n{here}{line}\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("deb http://m/debian bookworm main\n", "deb http://m/debian trixie main\n"),
        ("deb http://m/debian bookworm-updates main\n", "deb http://m/debian trixie-updates main\n"),
        ("Suites: bookworm bookworm-updates bookworm\n", "Suites: trixie trixie-updates trixie\n"),
        ("deb http://bookwormian/debian stable main\n", "deb http://bookwormian/debian stable main\n"),
        ("bookworm", "trixie"),
    ],
)
def test_only_the_codename_changes(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "list").write_text(before)
    shell(tmp_path, "rewrite bookworm trixie list")
    assert (tmp_path / "list").read_text() == after


def test_apt_is_shown_the_other_release_and_the_host_s_own_files_stay(tmp_path: Path) -> None:
    own = tmp_path / "debian.sources"
    own.write_text("URIs: http://m/debian\nSuites: bookworm bookworm-updates\n")
    options = shell(tmp_path, f"ours() {{ echo {own}; }}\nelsewhere bookworm trixie").split()
    assert own.read_text().endswith("bookworm bookworm-updates\n")
    assert (tmp_path / "home/sources/parts/debian.sources").read_text().endswith("trixie trixie-updates\n")
    assert f"Dir::State::Lists={tmp_path}/home/lists" in options
    # A pin for packages of the next release (role debian_origin) would hold everything else back.
    assert "Dir::Etc::PreferencesParts=/dev/null" in options
    assert "Dir::Cache::pkgcache=" in options


@pytest.mark.parametrize(
    ("service", "may"),
    [("ssh", True), ("ssh.service", True), ("dbus", True), ("systemd-journald", True), ("glusterd", False),
     ("patroni", False), ("etcd", False), ("haproxy", False), ("keepalived", False), ("cron", False)],
)  # fmt: skip
def test_nothing_that_serves_is_started_before_the_reboot(tmp_path: Path, service: str, may: bool) -> None:
    shell(tmp_path, "hold_services")
    for options in ([], ["--quiet"]):
        done = subprocess.run([tmp_path / "policy-rc.d", *options, service, "restart"], check=False, timeout=10)
        assert done.returncode == (0 if may else 101)


def test_the_boot_into_the_next_release_starts_no_application(tmp_path: Path) -> None:
    for name, code in (("systemctl", 1), ("systemd-run", 0)):
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f'#!/bin/sh\necho "{name} $*"; exit {code}\n')
        stub.chmod(0o755)
    said = shell(tmp_path, f"PATH={tmp_path}/bin:$PATH\nmain reboot").splitlines()
    assert said == [
        "systemctl --quiet disable sias-web.service sias-worker.service",
        "systemd-run --quiet --on-active=1 systemctl reboot",
    ], "a host without the application reboots as well"


def test_a_policy_that_was_there_comes_back_also_after_an_interruption(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    shell(tmp_path, "hold_services")
    shell(tmp_path, "hold_services\nlet_services")
    assert policy.read_text() == "#!/bin/sh\nexit 101\n"
    shell(tmp_path, "rm $policy; hold_services; let_services")
    assert not policy.exists()


def test_the_first_process_tells_one_boot_from_the_next(tmp_path: Path) -> None:
    for name in ("dpkg", "dpkg-query", "apt-mark", "apt-get", "systemctl"):
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text("#!/bin/sh\n" + ("echo inactive\n" if name == "systemctl" else ""))
        stub.chmod(0o755)
    text = shell(tmp_path, f"PATH={tmp_path}/bin:$PATH\nstate")
    said = dict(line.split("=", 1) for line in text.splitlines())
    identity, started = said["boot"].rsplit(":", 1)
    assert identity == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    fields = Path("/proc/1/stat").read_text().rpartition(") ")[2].split()
    assert started == fields[19]  # the 22nd of proc(5): the name and the number stand before
    assert (said["unit"], said["result"]) == ("inactive", "")
    assert parse_state("here", text).boot == said["boot"]


def test_it_can_be_read_from_standard_input(tmp_path: Path) -> None:
    """Its last line calls the rest, so that a command that reads its standard input meets the end and not the program."""
    text = SCRIPT.read_text(encoding="utf-8")
    assert text.rstrip().splitlines()[-1] == 'main "$@"'
    done = subprocess.run(
        ["sh", "-s", "--", "dance"], input=text.replace("/var/lib/sias-debian", str(tmp_path)), capture_output=True,
        text=True, check=False, timeout=10,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no such command: dance" in done.stderr
