"""A private PostgreSQL for the workloads: made in a temporary folder, reachable on loopback alone."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest


@dataclass
class Server:
    """A PostgreSQL of this test session."""

    binaries: Path
    data: Path
    port: int
    user: str

    def _run(self, *command: str) -> None:
        prefix = ["runuser", "-u", self.user, "--"] if getpass.getuser() == "root" else []
        subprocess.run([*prefix, *command], check=True, capture_output=True, text=True, cwd="/")

    def make(self, *settings: str) -> None:
        self._run(
            str(self.binaries / "initdb"),
            "-D",
            str(self.data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                f"port={self.port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\n"
                "shared_buffers=16MB\nrestart_after_crash=off\nlog_min_messages=panic\n"
            )
            file.writelines(f"{setting}\n" for setting in settings)

    def start(self) -> None:
        # After a kill -9 the orphans hold the shared memory for a moment, and the start refuses.
        wait_for(self._started, 20)

    def _started(self) -> bool:
        try:
            self._run(str(self.binaries / "pg_ctl"), "-D", str(self.data), "-w", "-l", str(self.data / "log"), "start")
        except subprocess.CalledProcessError:
            return False
        return True

    def kill(self) -> None:
        """End it with kill -9 of the postmaster: its children follow by themselves."""
        os.kill(int((self.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def stop(self) -> None:
        self._run(str(self.binaries / "pg_ctl"), "-D", str(self.data), "-m", "immediate", "-w", "stop")

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True, connect_timeout=5
        )


@contextmanager
def private(folder: Path, *settings: str) -> Iterator[Server]:
    """A server that runs for as long as the block, with these lines of configuration."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert versions, "PostgreSQL's binaries are missing: apt install postgresql"
    user = "postgres" if getpass.getuser() == "root" else getpass.getuser()
    if user == "postgres":
        entry = pwd.getpwnam(user)
        data = Path(tempfile.mkdtemp(prefix="sias-postgres-", dir="/var/tmp"))
        os.chown(data, entry.pw_uid, entry.pw_gid)
    else:
        data = folder / "data"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Server(versions[-1].parent, data, port, user)
    try:
        made.make(*settings)
        made.start()
        yield made
    finally:
        if (data / "postmaster.pid").exists():
            made.stop()
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with private(tmp_path_factory.mktemp("postgres")) as made:
        with made.connect() as connection:
            connection.execute("CREATE SCHEMA drill")
        yield made


def wait_for(condition: object, deadline: float = 10.0) -> None:
    """Wait until `condition()` is true.

    Raises:
        TimeoutError: it was not, within `deadline` seconds.
    """
    assert callable(condition)
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not so within {deadline} s")
        time.sleep(0.05)
