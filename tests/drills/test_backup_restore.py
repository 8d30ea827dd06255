"""Backups restore: for each room, in full and to a moment, by the host's own timetable; and a bad repository is refused."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from siasops import remote
from siasops.backup.catalogue import as_postgres, read, repository_hosts
from siasops.backup.restore import HOME, UNIT
from siasops.cluster import view
from siasops.errors import COULD_NOT_RUN, HELD, VERDICT_FAILED
from siasops.inventory import ROOT, Inventory
from siasops.remote import Fleet, wait_until

COPIES = "/var/lib/sias-repository-copies"
"""Copies of a repository to be spoilt: beside the live one, whose files they share until one is replaced."""
SPOIL = f"""
set -eu
live=/var/lib/pgbackrest; rm -rf {COPIES}; mkdir -m 0750 {COPIES}
for kind in key file segment; do
  cp -al $live {COPIES}/$kind
  sed "s,^repo\\([0-9]*\\)-path=.*,repo\\1-path={COPIES}/$kind," /etc/pgbackrest.conf > {COPIES}/$kind.conf
done
sed -i 's,^repo\\([0-9]*\\)-cipher-pass=.*,repo\\1-cipher-pass=wrong,' {COPIES}/key.conf
newest=$(ls -d {COPIES}/file/backup/sias/*F | tail -n 1)
bundle=$(ls -S $newest/bundle/* | head -n 1)
cp -p $bundle $bundle.new; printf 'spoilt' | dd of=$bundle.new bs=1 seek=5000 conv=notrunc status=none; mv $bundle.new $bundle
rm {COPIES}/segment/archive/sias/*/*/SEGMENT-*
chown postgres:postgres {COPIES} {COPIES}/*.conf; chmod 0600 {COPIES}/*.conf
"""
WRITE = """
DO $$ BEGIN
  FOR i IN 1..1200 LOOP
    EXECUTE format('CREATE TABLE sias_beside.t%s (n integer PRIMARY KEY, payload text)', i);
    EXECUTE format('INSERT INTO sias_beside.t%s SELECT n, repeat(''x'', 200) FROM generate_series(1, 200) n', i);
    COMMIT;
    EXECUTE 'CHECKPOINT';
    EXIT WHEN to_regclass('sias_beside.enough') IS NOT NULL;
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$
"""


@pytest.fixture(scope="module")
def fleet(lab: Inventory) -> Iterator[Fleet]:
    with remote.connect(lab) as connected:
        yield connected


def sias(*arguments: str) -> tuple[int, str, str]:
    """Run the command as an operator would; exit code, standard output, standard error."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "sias"), "backup", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def left_behind(lab: Inventory, fleet: Fleet) -> dict[str, str]:
    """What stands of copies on the database hosts, files or processes."""
    look = f"ls -d {HOME}/copy {HOME}/request.json 2>/dev/null; pgrep -ax postgres | grep {HOME} || true"
    found = fleet.run_all(look, hosts=[host.name for host in lab.group("databases")])
    assert all(result.reached for result in found.values())
    return {name: result.stdout for name, result in found.items() if result.stdout}


def wait_for_end(fleet: Fleet, host: str) -> None:
    """Wait until the unit has ended, its cleaning included."""

    def ended() -> bool:
        state = fleet.run(host, f"systemctl show -p ActiveState --value {UNIT}", timeout=15)
        return state.stdout.strip() in {"inactive", "failed"}

    wait_until(ended, f"the end of {UNIT} on {host}", deadline=180)


@pytest.fixture(scope="module")
def spoilt(lab: Inventory, fleet: Fleet) -> Iterator[str]:
    """The room whose repository has spoilt copies on its host."""
    host = repository_hosts(lab)[-1]
    newest = read(lab, fleet, room=host.room)[0].newest()
    assert newest is not None
    fleet.run(host.name, SPOIL.replace("SEGMENT", newest.wal_stop), timeout=60, check=True)
    yield host.room
    fleet.run(host.name, f"rm -rf {COPIES}", timeout=60, check=True)


def test_each_room_restores_in_full_and_to_a_moment_with_every_known_write(lab: Inventory, fleet: Fleet) -> None:
    # A young backup: what is proven is the way back, not how fast a day of log replays.
    assert sias("take", "--type", "incr")[0] == HELD
    code, output, errors = sias("drill", "--json")
    assert code == HELD, output + errors
    drill = json.loads(output)
    assert [proof["room"] for proof in drill["proofs"]] == [host.room for host in repository_hosts(lab) for _ in "12"]
    for proof in drill["proofs"]:
        looked = {line["what"] for line in proof["lines"]}
        assert {"known writes", "ledger", "amcheck", "checksums of pages", "rows read back"} <= looked
    folder = Path(drill["folder"])
    assert {"report.html", "report.md", "result.json", "journal.jsonl", "ledger.jsonl"} == {
        p.name for p in folder.iterdir()
    }
    assert left_behind(lab, fleet) == {}


def test_what_the_primary_writes_while_a_backup_begins_is_in_the_next_one(lab: Inventory, fleet: Fleet) -> None:
    """Written by the primary before a backup's list of files, and by the standby it is copied from after the copy."""
    room = repository_hosts(lab)[0].room
    primary = view.look(lab, fleet).leader
    assert primary is not None

    def psql(statement: str) -> None:
        fleet.run(
            primary.host,
            as_postgres(f"psql -Xq -v ON_ERROR_STOP=1 -c {shlex.quote(statement)}"),
            timeout=90,
            check=True,
        )

    psql("CREATE SCHEMA sias_beside")
    try:
        with ThreadPoolExecutor(1) as beside:
            writing = beside.submit(psql, WRITE)
            try:
                assert sias("take", "--room", room, "--type", "full")[0] == HELD
            finally:
                psql("CREATE TABLE sias_beside.enough ()")
            writing.result()
        assert sias("take", "--room", room, "--type", "incr")[0] == HELD
        code, output, errors = sias("restore", "--room", room, "--to-latest")
        assert code == HELD, output + errors
    finally:
        psql("SET client_min_messages = error; DROP SCHEMA sias_beside CASCADE")


@pytest.mark.parametrize(
    ("kind", "found", "advice"),
    [
        ("key", "none of its files decrypts", "put back backup_cipher_"),
        ("file", "corrupted: backup ", "restore from the other room's repository"),
        ("segment", "1 WAL segment(s) missing", "--type full"),
    ],
)
def test_a_repository_that_cannot_restore_is_refused_in_a_sentence(
    spoilt: str, kind: str, found: str, advice: str
) -> None:
    code, output, errors = sias(
        "restore", "--room", spoilt, "--to-latest", "--repository-config", f"{COPIES}/{kind}.conf", "--json"
    )
    assert code == VERDICT_FAILED, output + errors
    (line,) = [line for line in json.loads(output)["lines"] if not line["ok"]]
    assert line["what"].startswith(f"repository of room {spoilt} (")
    assert found in line["found"]
    assert advice in line["advice"]


def test_a_kept_copy_answers_and_is_removed_when_its_program_is_killed(lab: Inventory, fleet: Fleet) -> None:
    room = repository_hosts(lab)[0].room
    count = "SELECT count(*) FROM repertoire_person"
    code, output, errors = sias("restore", "--room", room, "--to-latest", "--keep", "--query", count, "--json")
    assert code == HELD, output + errors
    proof = json.loads(output)
    host = proof["host"]
    try:
        answer = fleet.run(host, as_postgres(f"{proof['kept']} -XAtc '{count}'"), timeout=30, check=True).stdout.strip()
        assert answer == proof["queries"][count]
        code, _, errors = sias("restore", "--room", room, "--to-latest", "--on", host)
        assert code == COULD_NOT_RUN
        assert f"systemctl stop {UNIT}" in errors

        fleet.run(host, f"systemctl kill --kill-whom=main -s KILL {UNIT}", timeout=30, check=True)
        wait_for_end(fleet, host)
        assert left_behind(lab, fleet) == {}
    finally:
        fleet.run(host, f"systemctl stop {UNIT}; systemctl reset-failed {UNIT}", timeout=90)


def test_a_host_proves_by_itself_what_prometheus_is_told(lab: Inventory, fleet: Fleet) -> None:
    """As the timer starts it: without a request, to a moment of the host's own ledger."""
    rooms: dict[str, str] = {}
    for host in reversed(lab.group("databases")):
        rooms[host.room] = host.name
    for name in rooms.values():
        assert fleet.run(name, "systemctl is-enabled sias-restore.timer sias-restore-beat.timer", timeout=15).ok
    room, host_name = max(rooms.items())
    began = fleet.run(host_name, "date +%s", timeout=15, check=True).stdout
    fleet.run(host_name, f"systemctl start {UNIT}", timeout=60, check=True)
    wait_for_end(fleet, host_name)
    told: dict[str, Any] = json.loads(fleet.run(host_name, f"cat {HOME}/proof.json", timeout=15, check=True).stdout)
    assert told["problem"] is None
    assert told["room"] == room
    assert all(line["ok"] for line in told["lines"]), told["lines"]
    assert "ledger" in {line["what"] for line in told["lines"]}
    metrics = "systemctl start sias-metrics && cat /var/lib/prometheus/node-exporter/sias.prom"
    lines = fleet.run(host_name, metrics, timeout=60, check=True).stdout.splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(figures[f'sias_restore_proven_seconds{{repository="{room}"}}']) >= float(began)
    assert float(figures[f'sias_restore_failed{{repository="{room}"}}']) == 0
    assert left_behind(lab, fleet) == {}


def test_backups_meet_their_objectives(lab: Inventory) -> None:
    code, output, _ = sias("check", "--json")
    assert code == HELD, output
    assert all(line["ok"] for line in json.loads(output)["lines"])
