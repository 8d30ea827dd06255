"""What a release does on the application hosts: look, ship, switch, and let nothing stay drained.

The work of one host is done by that host's own tool (roles/application/files/sias-application), which ends what it began
whatever becomes of this process; peers send requests again as soon as their connection to it is gone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siasops.cluster import drain
from siasops.cluster.client import Asker
from siasops.drill.faults import Stage
from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory
from siasops.lab import deploy
from siasops.remote import Fleet, RemoteError, Result, wait_until

TOOL = "/usr/local/lib/sias/sias-application"
HOMES = "/opt/sias/releases"
BUILDER = ROOT / "roles" / "application" / "files" / "build_release.py"
READY_LIMIT = 45
"""Seconds that a restarted application has to be ready; then the former release is started again."""
SWITCH_LIMIT = 180.0
"""Seconds for the whole of it on one host: drained, restarted, and, when it is not ready, the former one restarted."""
HOLD_LIMIT = SWITCH_LIMIT + 10
ANSWER_LIMIT = 15.0
MANAGE_LIMIT = 60.0
STATEMENT_LIMIT_MS = 30_000
"""Longest that one statement of a migration may run inside a transaction: it may hold a lock for as long."""
MIGRATE_LIMIT = 3600.0
"""Seconds for all migrations: an index on the largest table is built beside the traffic."""


@dataclass(frozen=True)
class Standing:
    """An application host. Versions are as in /opt/sias/releases; `running` is what was last seen ready, empty when unknown."""

    name: str
    room: str
    current: str
    running: str
    releases: Mapping[str, float]
    """Every finished release on its disk, with the time of its last use in seconds since 1970."""
    ready: bool
    away: bool
    """Whether it is out of service for maintenance (`sias host leave`)."""
    drained: Sequence[str]
    """Servers that its HAProxy sends nothing new to, by command."""
    sees: Sequence[str]
    """Servers that its HAProxy holds for ready."""
    free: int
    """Bytes."""

    def runs(self, version: str) -> bool:
        """Whether users who come here are answered by that release."""
        return self.ready and self.current == self.running == version


def order(inventory: Inventory) -> list[str]:
    """Application hosts in the order of a release: room by room, the canary first."""
    return [h.name for room in sorted(inventory.rooms) for h in inventory.group("applications", room=room)]


def look(stage: Stage, *, absent: bool = False) -> dict[str, Standing]:
    """Ask every application host where it stands.

    Args:
        stage: the environment and its hosts.
        absent: leave out those that do not answer.

    Raises:
        RemoteError: one does not answer, or has no application yet.
    """
    inventory = stage.inventory
    names = order(inventory)
    answers = stage.fleet.run_all([TOOL, "status", "--name", inventory.domain], hosts=names, timeout=30.0)
    return {name: _standing(inventory, answers[name]) for name in names if answers[name].reached or not absent}


def _standing(inventory: Inventory, answer: Result) -> Standing:
    if not answer.ok:
        raise RemoteError(
            f"{answer.host} does not say which release it runs: {(answer.stderr or answer.stdout).strip()[-300:]}. "
            "See that it is up, and that the platform was deployed (`playbooks/site.yml`)."
        )
    said = json.loads(answer.stdout)
    return Standing(
        name=answer.host,
        room=inventory.hosts[answer.host].room,
        **{key: said[key] for key in ("current", "running", "releases", "away", "drained", "sees", "free")},
        ready=said["ready"] and said["active"],
    )


def version_of(source: Path) -> str:
    """Return the version that a folder's content has as a release. Builds nothing.

    Raises:
        UserError: it is no application's folder.
    """
    done = subprocess.run(
        [sys.executable, str(BUILDER), "--project", str(source), "--version-only"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode:
        raise UserError(f"{source} cannot be released: {done.stderr.strip()}")
    version: str = json.loads(done.stdout)["version"]
    return version


def ship(stage: Stage, source: Path, version: str, say: Callable[[str], None]) -> bool:
    """Build a release once and install it on every application host, without using it.

    Returns:
        Whether anything had to be done.

    Raises:
        UserError: it cannot be built or shipped, or the folder has changed since it was decided.
    """
    if all(version in standing.releases for standing in look(stage).values()):
        return False
    if (found := version_of(source)) != version:
        raise UserError(f"{source} has changed meanwhile: it is {found} by now, and {version} was to be released.")
    deploy.playbook(stage.inventory, "release", say=say,
                    arguments=("-e", json.dumps({"application_project": str(source)})))  # fmt: skip
    if lacking := [s.name for s in look(stage).values() if version not in s.releases]:
        raise UserError(f"{version} was shipped and does not lie on {', '.join(lacking)}: see {HOMES} there.")
    return True


def switch(stage: Stage, host: str, version: str) -> str:
    """Lead requests elsewhere, bring the host to the release, and lead requests to it again.

    Returns:
        What the host's tool says that it did.

    Raises:
        RemoteError: it does not become ready; the host runs what it ran before.
    """
    inventory, fleet = stage.inventory, stage.fleet
    with ExitStack() as stack:
        # Held by a process on each peer that lets go when this one dies: nothing stays drained.
        talks = []
        for peer in (name for name in order(inventory) if name != host):
            try:
                talk = stack.enter_context(
                    fleet.talk(peer, [TOOL, "hold", "--server", host, "--limit", f"{HOLD_LIMIT:g}"])
                )
                talk.ask("", "drained\n", timeout=ANSWER_LIMIT)
                talks.append(talk)
            except RemoteError:
                if fleet.run(peer, ["true"]).reached:
                    raise
                # A host that is away sends nobody here.
        done = fleet.run(
            host,
            [TOOL, "apply", "--release", f"{HOMES}/{version}", "--host", host, "--name", inventory.domain,
             "--deadline", str(READY_LIMIT)],
            timeout=SWITCH_LIMIT,
        )  # fmt: skip
        for talk in talks:
            talk.ask("end\n", "ready\n", timeout=ANSWER_LIMIT)
    if not done.ok:
        raise RemoteError(f"{host} does not run {version}: {(done.stderr or done.stdout).strip()[-900:]}")
    with Asker(inventory) as asker:
        address, port = inventory.hosts[host].address, inventory.ports["https"]

        def answers() -> bool:
            answer = asker.get(address, port, "/healthz/ready")
            return answer is not None and answer.headers.get("X-SIAS-Host") == host

        wait_until(answers, f"{host} answers its own users", deadline=ANSWER_LIMIT, every=0.1)
    return done.stdout.strip()


def settle(fleet: Fleet, standings: Mapping[str, Standing], host: str | None = None) -> None:
    """Undo whatever drain of a host, or of any, was left by whoever was killed; a host that is away stays drained."""
    for standing in standings.values():
        for server in standing.drained:
            if host in {None, server} and not (server in standings and standings[server].away):
                drain.ready(fleet, drain.WEB, server, hosts=[standing.name])


def shun(fleet: Fleet, host: str) -> None:
    """Send its own users to other hosts, at once, until it has been switched or settled."""
    drain.drain(fleet, drain.WEB, host, hosts=[host], limit=0.0)


def figures(stage: Stage) -> dict[str, dict[str, Any]]:
    """What every application host answered since it started, as its tool tells.

    Raises:
        RemoteError: one does not say.
    """
    answers = stage.fleet.run_all(
        [TOOL, "figures", "--name", stage.inventory.domain], hosts=order(stage.inventory), timeout=15.0
    )
    for name, answer in answers.items():
        if not answer.ok:
            raise RemoteError(f"{name} does not say how it answers: {answer.stderr.strip()[-300:]}")
    return {name: json.loads(answer.stdout) for name, answer in answers.items()}


def schema(fleet: Fleet, host: str, version: str) -> dict[str, Any] | None:
    """What a release on a host wants of the schema (`sias-manage schema`); None when it is too old to say.

    Raises:
        RemoteError: it cannot say now.
    """
    done = fleet.run(host, _manage(version, "schema", "--json"), timeout=MANAGE_LIMIT)
    if not done.ok and "Unknown command" in done.stderr:
        return None
    if not done.ok:
        raise RemoteError(f"{host}: {version} cannot say what it wants of the schema: {done.stderr.strip()[-600:]}")
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


def migrate(fleet: Fleet, host: str, version: str) -> list[str]:
    """Bring the schema to a release; return the migrations that were applied. May be run again at any time.

    Raises:
        RemoteError: a lock could not be had in all its tries, or a statement failed: nothing of that migration is done.
    """
    command = _manage(version, "migrate", "--no-input", "--statement-limit", str(STATEMENT_LIMIT_MS))
    done = fleet.run(host, command, timeout=MIGRATE_LIMIT)
    if not done.ok:
        raise RemoteError(
            f"{host}: the schema was not brought to {version}: {(done.stderr or done.stdout).strip()[-900:]}"
        )
    return [
        line.split()[1].removesuffix("...") for line in done.stdout.splitlines() if line.strip().startswith("Applying")
    ]


def _manage(version: str, *words: str) -> list[str]:
    return ["env", f"SIAS_MANAGE_RELEASE={HOMES}/{version}", "sias-manage", *words]
