#!/usr/bin/env python3
"""Wait for the cluster, and keep its shared configuration equal to the inventory.

    patroni_cluster.py leader DEADLINE_SECONDS [--folder FOLDER]      until a member leads
    patroni_cluster.py converge DEADLINE_SECONDS [--check]
        until every member streams and the synchronous standbys are set; then compare the configuration in etcd with
        cluster.json and change what differs (with --check: only say so)

Reads cluster.json (what is wanted) and config.yml (certificates and the REST password) of a folder, /etc/patroni by default.
Prints one JSON object. Exit 1 with one sentence for each member that is not as it should be: its name, its state, where to look.

PostgreSQL is never restarted: a parameter that needs it is reported in `pending_restart`.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import yaml

REQUEST_TIMEOUT = 3.0
"""Seconds for one question to a member."""
SETTLE_ROUNDS = 5
"""Rounds of Patroni after which every member has taken up a change."""
SYNCHRONOUS_ROLES = ("sync_standby", "quorum_standby")


class Rest:
    """Patroni's REST interface over mutual TLS; asks whichever member answers."""

    def __init__(self, wanted: dict[str, Any], config: dict[str, Any]) -> None:
        self.members: dict[str, str] = wanted["members"]
        self.port: int = wanted["port"]
        ctl = config["ctl"]
        self.context = ssl.create_default_context(cafile=ctl["cacert"])
        self.context.load_cert_chain(ctl["certfile"], ctl["keyfile"])
        login = f"{ctl['authentication']['username']}:{ctl['authentication']['password']}"
        self.authorization = "Basic " + base64.b64encode(login.encode()).decode()

    def ask(self, member: str, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """One question to one member.

        Raises:
            OSError: it does not answer.
        """
        connection = http.client.HTTPSConnection(
            self.members[member], self.port, timeout=REQUEST_TIMEOUT, context=self.context
        )
        try:
            headers = {"Authorization": self.authorization} if method != "GET" else {}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            text = answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"{member}: {error!r}") from error
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text.decode(errors="replace")

    def anyone(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Ask members in turn until one answers.

        Raises:
            OSError: none answers.
        """
        problems = []
        for member in self.members:
            try:
                return self.ask(member, method, path, body)
            except OSError as error:
                problems.append(f"{member}: {error}")
        raise OSError("; ".join(problems))


def leader_of(cluster: dict[str, Any]) -> str | None:
    """Name of the member that leads and runs."""
    for member in cluster.get("members", []):
        if member["role"] == "leader" and member["state"] == "running":
            return str(member["name"])
    return None


def complaints_about(cluster: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """One sentence for each member that is not as it should be; empty when the cluster is whole."""
    there = {member["name"]: member for member in cluster.get("members", [])}
    leader = leader_of(cluster)
    complaints = [] if leader else ["no member leads"]
    hint = "journalctl -u patroni -n 80"
    for name in wanted["members"]:
        member = there.get(name)
        if member is None:
            complaints.append(f"{name} has not joined the cluster; on {name}: {hint}")
        elif name != leader and member["state"] != "streaming":
            complaints.append(f"{name} is {member['role']}, state {member['state']}, not streaming; on {name}: {hint}")
    synchronous = [name for name, member in there.items() if member["role"] in SYNCHRONOUS_ROLES]
    wanted_synchronous = min(wanted["synchronous"], len(wanted["members"]) - 1)
    if len(synchronous) < wanted_synchronous:
        complaints.append(
            f"{len(synchronous)} of {wanted_synchronous} synchronous standbys are set ({', '.join(synchronous) or 'none'});"
            f" on {leader or 'any member'}: patronictl list, {hint}"
        )
    return complaints


def patch_for(current: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What must be sent so that `current` becomes `wanted`.

    Keys that Patroni or an operator put beside ours (`pause`, `slots`, `standby_cluster`) stay. Parameters of PostgreSQL
    are ours alone: one that the inventory does not know is removed.
    """
    patch: dict[str, Any] = {}
    for key, value in wanted.items():
        if isinstance(value, dict):
            below = patch_for(current.get(key) or {}, value)
            if below:
                patch[key] = below
        elif str(current.get(key)) != str(value):
            patch[key] = value
    return patch


def unknown_parameters(current: dict[str, Any], wanted: dict[str, Any]) -> dict[str, None]:
    """Parameters of PostgreSQL in etcd that the inventory does not know, as a patch that removes them."""
    there = (current.get("postgresql") or {}).get("parameters") or {}
    return {name: None for name in there if name not in wanted["postgresql"]["parameters"]}


def wait_for_leader(rest: Rest, deadline: float) -> str:
    """Name the member that leads.

    Raises:
        TimeoutError: none does in time; says what each member answers.
    """
    end = time.monotonic() + deadline
    while True:
        try:
            _, cluster = rest.anyone("GET", "/cluster")
            leader = leader_of(cluster)
            found = f"members: {', '.join(m['name'] + ' ' + m['state'] for m in cluster.get('members', [])) or 'none'}"
            if leader:
                return leader
        except (OSError, TypeError, KeyError) as error:
            found = str(error)
        if time.monotonic() > end:
            raise TimeoutError(
                f"no member leads after {deadline:g} s ({found}); there: journalctl -u patroni -u etcd -n 80"
            )
        time.sleep(0.5)


def wait_until_whole(rest: Rest, wanted: dict[str, Any], deadline: float) -> dict[str, Any]:
    """Return the cluster once it is whole.

    Raises:
        TimeoutError: it is not in time; one sentence for each member.
    """
    end = time.monotonic() + deadline
    while True:
        cluster: dict[str, Any] = {}
        try:
            _, cluster = rest.anyone("GET", "/cluster")
            complaints = complaints_about(cluster, wanted)
        except (OSError, TypeError, KeyError) as error:
            complaints = [f"no member answers: {error}"]
        if not complaints:
            return cluster
        if time.monotonic() > end:
            raise TimeoutError(f"after {deadline:g} s: " + "; ".join(complaints))
        time.sleep(0.5)


def pending_restarts(cluster: dict[str, Any]) -> dict[str, list[str]]:
    """List the parameters of each member that count only after a restart."""
    return {
        member["name"]: sorted(member.get("pending_restart_reason", {}))
        for member in cluster["members"]
        if member.get("pending_restart")
    }


def settle(rest: Rest, wanted: dict[str, Any], deadline: float) -> dict[str, Any]:
    """Watch the cluster while members take up a change, and return it whole.

    Members do not tell when they have read a new configuration: each does in its next round, which ends with a second
    of Patroni's own after a reload. A change of k or of a time may also move the synchronous standbys.
    """
    end = time.monotonic() + SETTLE_ROUNDS * float(wanted["dynamic"]["loop_wait"])
    while time.monotonic() < end:
        wait_until_whole(rest, wanted, deadline)
        time.sleep(0.5)
    return wait_until_whole(rest, wanted, deadline)


def converge(rest: Rest, wanted: dict[str, Any], deadline: float, check: bool) -> dict[str, Any]:
    """Wait, compare, change.

    Raises:
        TimeoutError: the cluster is not whole in time.
        OSError: Patroni refuses the change.
    """
    cluster = wait_until_whole(rest, wanted, deadline)
    _, current = rest.anyone("GET", "/config")
    patch = patch_for(current, wanted["dynamic"])
    removed = unknown_parameters(current, wanted["dynamic"])
    if removed:
        patch.setdefault("postgresql", {}).setdefault("parameters", {}).update(removed)
    if patch and not check:
        status, answer = rest.anyone("PATCH", "/config", patch)
        if status != http.client.OK:
            raise OSError(f"Patroni refused the configuration: {status} {answer}")
        cluster = settle(rest, wanted, deadline)
    pending = pending_restarts(cluster)
    return {"changed": bool(patch), "patch": patch, "leader": leader_of(cluster), "pending_restart": pending}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Wait for the cluster and keep its shared configuration.")
    parser.add_argument("action", choices=["leader", "converge"])
    parser.add_argument("deadline", type=float, help="seconds")
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--folder", type=Path, default=Path("/etc/patroni"))
    given = parser.parse_args()
    wanted = json.loads((given.folder / "cluster.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((given.folder / "config.yml").read_text(encoding="utf-8"))
    rest = Rest(wanted, config)
    try:
        if given.action == "leader":
            result = {"changed": False, "leader": wait_for_leader(rest, given.deadline)}
        else:
            result = converge(rest, wanted, given.deadline, given.check)
    except OSError as error:  # TimeoutError is one
        print(f"PostgreSQL's cluster: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
