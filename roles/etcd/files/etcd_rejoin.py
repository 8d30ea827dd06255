#!/usr/bin/env python3
"""Let a host that lost its data (a rebuilt machine) take its place in the quorum again.

    etcd_rejoin.py CONFIG.json JOIN_ENVIRONMENT

A member without data must not come back under its former identity: it may have voted. While the others have a leader,
it is removed and added anew, and the file JOIN_ENVIRONMENT makes its first start a joining one. When nobody else runs
yet, this is a new cluster and nothing is done. Only called while this host has no data.

Prints one JSON object with `changed`. Exit 1 with one sentence when the others run without a leader.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from etcd_leader_placement import Etcd

FORMING = 10
"""Entries of the log of a cluster that is only being formed: one for each voter, and a few more."""


class RejoinError(Exception):
    """Why this host cannot take its place, in a sentence."""


def find_others(etcd: Etcd, config: dict[str, Any]) -> str | None:
    """Find a member that follows a leader.

    Returns:
        Its endpoint; None when nobody runs, or the cluster is only being formed.

    Raises:
        RejoinError: others run, hold data, and have no leader.
    """
    leaderless = []
    for name, endpoint in config["endpoints"].items():
        if name == config["self"]:
            continue
        try:
            status = etcd.status(endpoint)
        except OSError:
            continue
        if status.get("leader", "0") != "0":
            return str(endpoint)
        if int(status.get("raftIndex", 0)) > FORMING:
            leaderless.append(name)
    if leaderless:
        raise RejoinError(
            f"{config['self']} has no etcd data, and {', '.join(leaderless)} runs without a leader: start the other members"
            " first, so that a majority can take this one in."
        )
    return None


def rejoin(etcd: Etcd, config: dict[str, Any], environment: Path) -> bool:
    """Remove the former identity, add a new one, and prepare the first start.

    Raises:
        OSError: the cluster refuses.
        RejoinError: there is no leader to ask.
    """
    endpoint = find_others(etcd, config)
    if endpoint is None:
        return False
    own_peer = config["peer_urls"][config["self"]]
    members = etcd.ask(endpoint, "/v3/cluster/member/list", {})["members"]
    for member in members:
        if own_peer in member.get("peerURLs", []):
            etcd.ask(endpoint, "/v3/cluster/member/remove", {"ID": member["ID"]})
    added = etcd.ask(endpoint, "/v3/cluster/member/add", {"peerURLs": [own_peer]})
    names = {url: name for name, url in config["peer_urls"].items()}
    there = [(names[url], url) for member in added["members"] for url in member["peerURLs"] if url in names]
    environment.write_text(
        "ETCD_INITIAL_CLUSTER_STATE=existing\n"
        f"ETCD_INITIAL_CLUSTER={','.join(f'{name}={url}' for name, url in there)}\n",
        encoding="utf-8",
    )
    return True


def main() -> int:
    """Command line."""
    if len(sys.argv) != 3:  # noqa: PLR2004 - the program and two arguments
        print("usage: etcd_rejoin.py CONFIG.json JOIN_ENVIRONMENT", file=sys.stderr)
        return 2
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        changed = rejoin(Etcd(config), config, Path(sys.argv[2]))
    except (RejoinError, OSError) as error:
        print(str(error), file=sys.stderr)
        return 1
    print(json.dumps({"changed": changed}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
