"""`make -C app run`: the application on a throw-away PostgreSQL with a population, on http://localhost:8000."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

APP = Path(__file__).parents[1]
sys.path.insert(0, str(APP))

from tests.cluster import Cluster  # noqa: E402 - the folder of the application is no package

PASSWORD = "demonstration"  # noqa: S105 - worth nothing: the server is this machine's and thrown away
PERSONS = os.environ.get("PERSONS", "20000")


def variables(cluster: Cluster) -> dict[str, str]:
    """Return the environment of a process of the application."""
    return {
        **os.environ,
        "PYTHONPATH": str(APP / "src"),
        "SIAS_ENVIRONMENT": "dev",
        "SIAS_DATABASE_HOST": str(cluster.folder),
        "SIAS_DATABASE_PORT": "5432",
        "SIAS_DOCUMENTS_ROOT": str(cluster.folder / "documents"),
        "SIAS_CREDENTIALS_DIR": str(cluster.folder / "credentials"),
        "SIAS_WEB_RUNTIME": str(cluster.folder / "run"),
        "SIAS_WEB_BIND": "127.0.0.1:8000",
        "SIAS_ROOM": "a",
    }


def manager(cluster: Cluster) -> Callable[..., None]:
    """Return a function that runs a management command."""

    def manage(*arguments: str, user: str = "sias_owner", stdout: int | None = None) -> None:
        subprocess.run(
            [sys.executable, "-m", "sias", *arguments],
            check=True,
            cwd="/",
            stdout=stdout,
            env={**variables(cluster), "SIAS_DATABASE_USER": user},
        )

    return manage


def prepare(cluster: Cluster, manage: Callable[..., None]) -> None:
    """Create server, folders, secrets, roles and tables."""
    cluster.create()
    for folder in ("documents", "credentials", "run"):
        (cluster.folder / folder).mkdir()
    for name in ("secret_key", "identifier_key", "demo_password", "probe_password"):
        (cluster.folder / "credentials" / name).write_text(PASSWORD)
    for statement in (
        "CREATE ROLE sias_owner LOGIN",
        "CREATE ROLE sias_app LOGIN",
        "CREATE DATABASE sias OWNER sias_owner",
    ):
        cluster.sql(statement, database="postgres")
    manage("migrate", "-v", "0")


def main() -> None:
    """Start everything, wait for Ctrl-C, remove everything."""
    cluster = Cluster()
    manage = manager(cluster)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that `finally` runs
    try:
        prepare(cluster, manage)
        manage("load_population", "--persons", PERSONS)
        manage("create_accounts", user="sias_app")
        manage("load_demonstration", user="sias_app")
        environment = {**variables(cluster), "SIAS_DATABASE_USER": "sias_app"}
        worker = subprocess.Popen([sys.executable, "-m", "sias", "worker"], cwd="/", env=environment)
        print(
            f"\nhttp://localhost:8000  demo / {PASSWORD}   (Ctrl-C ends and removes everything)\n"
            "one account per profile, same password: demo-<code>, codes on the page « Table des habilitations »\n"
            "  demo-ts social worker, demo-ec listener of the 115, demo-dp data-protection officer, demo-an administrator\n",
            flush=True,
        )
        try:
            subprocess.run(
                [sys.executable, "-m", "gunicorn", "-c", "python:sias.gunicorn_conf"],
                check=False,
                cwd="/",
                env=environment,
            )
        finally:
            worker.terminate()
            worker.wait()
    except KeyboardInterrupt:
        pass
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
