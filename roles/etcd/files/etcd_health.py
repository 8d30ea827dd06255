#!/usr/bin/env python3
"""Wait until every member of etcd answers a linearizable read and all agree on one leader; say who does not.

    etcd_health.py CONFIG.json DEADLINE_SECONDS

Prints one line with the leader. Exit 1 with one sentence per member that is not healthy.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from etcd_leader_placement import Etcd


def examine(etcd: Etcd, config: dict[str, Any]) -> tuple[set[str], list[str]]:
    """Look at every member once.

    Returns:
        The leaders they name (as members' identities), and a sentence for each member that is not healthy.
    """
    leaders: set[str] = set()
    complaints = []
    for name, endpoint in config["endpoints"].items():
        try:
            etcd.primary(endpoint)
            status = etcd.status(endpoint)
        except OSError as error:
            complaints.append(f"{name} is not healthy: {error}; on {name}: journalctl -u etcd -n 50")
            continue
        if status.get("leader", "0") == "0":
            complaints.append(f"{name} knows no leader; on {name}: journalctl -u etcd -n 50")
            continue
        leaders.add(status["leader"])
        if status.get("errors"):
            complaints.append(f"{name} raises {', '.join(status['errors'])}")
    if len(leaders) > 1:
        complaints.append("members follow different leaders: are all hosts in one and the same cluster?")
    return leaders, complaints


def main() -> int:
    """Command line."""
    if len(sys.argv) != 3:  # noqa: PLR2004 - the program and two arguments
        print("usage: etcd_health.py CONFIG.json DEADLINE_SECONDS", file=sys.stderr)
        return 2
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    deadline = time.monotonic() + float(sys.argv[2])
    etcd = Etcd(config)
    while True:
        leaders, complaints = examine(etcd, config)
        if not complaints and leaders:
            print(f"{len(config['endpoints'])} members healthy, leader {next(iter(leaders))}")
            return 0
        if time.monotonic() > deadline:
            print("\n".join(complaints), file=sys.stderr)
            return 1
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
