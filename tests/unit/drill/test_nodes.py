"""The writer of each database host, with a PostgreSQL of its own: it writes where it may, and not past a fence."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from siasops.drill.history import Outcome
from siasops.drill.workloads.nodes import QUESTION, TABLE, judge
from tests.unit.drill.conftest import private


@pytest.mark.parametrize(("name", "timeline"), [("sias", 1), ("sias-green", 100_001)])
def test_a_node_writes_where_clients_may_and_tells_its_cluster(tmp_path: Path, name: str, timeline: int) -> None:
    with private(tmp_path, f"cluster_name={name}") as server:
        with server.connect() as connection:
            connection.execute("CREATE DATABASE sias")
            connection.execute("CREATE ROLE app")

        def psql(text: str) -> list[str]:
            command = ["psql", "-XAtq", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-d", "sias"]
            done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
            assert not done.stderr
            return [line for line in done.stdout.splitlines() if not line.startswith("done ")]

        psql(f"CREATE SCHEMA drill; {TABLE}")
        assert judge(psql(QUESTION.format(run="r", node="db-a1", number=1))) == (Outcome.OK, timeline, "")
        psql("ALTER DATABASE sias CONNECTION LIMIT 0;")  # as a migration's fence does
        assert judge(psql(QUESTION.format(run="r", node="db-a1", number=2))) is None
        assert psql("SELECT count(*) FROM drill.probe;") == ["1"]
