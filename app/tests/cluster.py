"""A real PostgreSQL of the test's own: private folder, Unix socket, thrown away at the end."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

FAST = "-c fsync=off -c full_page_writes=off -c shared_buffers=128MB -c max_wal_senders=4 -c wal_level=replica"


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not found:
        raise RuntimeError("PostgreSQL's server is missing: apt-get install postgresql")
    return found[-1].parent


def short_folder() -> Path:
    """Make a folder whose name leaves room for a socket's (107 bytes)."""
    folder = Path(tempfile.mkdtemp(prefix="sias-pg-", dir="/tmp"))
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
    folder.chmod(0o755)
    return folder


class Cluster:
    """One server. PostgreSQL refuses to run as root: it then runs as postgres."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or short_folder()
        self.data = self.folder / "data"
        self.bin = _binaries()
        self.options = FAST

    def run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            user="postgres" if os.geteuid() == 0 else None,
            cwd="/tmp",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}")

    def create(self) -> None:
        self.run(
            "initdb", "-D", str(self.data), "--locale=C.UTF-8", "-E", "UTF8", "-A", "trust", "-U", "postgres", "-N"
        )
        self.start()

    def start(self) -> None:
        self.run(
            "pg_ctl",
            "-D",
            str(self.data),
            "-w",
            "-t",
            "30",
            "-l",
            str(self.folder / "log"),
            "-o",
            f"-c listen_addresses= -k {self.folder} {self.options}",
            "start",
        )

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def standby(self) -> "Cluster":
        """Make a running streaming standby."""
        other = Cluster()
        self.run(
            "pg_basebackup",
            "-h",
            str(self.folder),
            "-U",
            "postgres",
            "-D",
            str(other.data),
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        )
        other.start()
        return other

    def connect(self, database: str = "sias", user: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(host=str(self.folder), user=user, dbname=database, autocommit=True)

    def sql(self, statement: str, parameters: object = None, database: str = "sias") -> list[tuple]:
        with self.connect(database) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def set(self, **settings: str) -> None:
        """Change server settings; they count for every connection when this returns."""
        loaded, deadline = self.sql("SELECT pg_conf_load_time()"), time.monotonic() + 10
        for name, value in settings.items():
            self.sql(f"ALTER SYSTEM SET {name} = '{value}'" if value else f"ALTER SYSTEM RESET {name}")
        self.sql("SELECT pg_reload_conf()")
        while self.sql("SELECT pg_conf_load_time()") == loaded:  # a new connection knows what the postmaster has read
            if time.monotonic() > deadline:
                raise RuntimeError("the server does not read its settings again")
            time.sleep(0.01)

    def remove(self) -> None:
        with contextlib.suppress(RuntimeError):  # a test stopped it
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
