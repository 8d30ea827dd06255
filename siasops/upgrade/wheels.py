"""The Python environments of the next Debian, resolved on the controller before any host is away.

Their archives have the names that the role python_venv looks for, so that the deployment of an upgraded host asks no index.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from siasops.errors import UserError
from siasops.inventory import ROOT, Inventory

LIMIT = 1800


@dataclass(frozen=True)
class Environment:
    """An environment as its role describes it to python_venv. `built`: the application's own wheel goes in."""

    name: str
    lock: str
    sources: tuple[str, ...] = ()
    built: bool = False


ENVIRONMENTS = (
    Environment("patroni", "roles/patroni/files/patroni.lock", ("python-etcd", "ydiff")),
    Environment("sias", "app/requirements.lock", built=True),
)


def release(inventory: Inventory) -> dict[str, Any]:
    """Build the application's wheel from this checkout: what `site.yml` would deploy; its `version` and `wheel`.

    Raises:
        UserError: it cannot be built.
    """
    return _run("roles/application/files/build_release.py", "--project", "app", "--root",
                str(inventory.var / "wheelhouse" / "releases"))  # fmt: skip


def resolve(inventory: Inventory, python: str) -> list[str]:
    """Resolve every environment for a Python; what is there already is left as it is.

    Returns:
        Paths of the archives.

    Raises:
        UserError: an index does not have what a lock wants.
    """
    archives = []
    for one in ENVIRONMENTS:
        extra = [word for source in one.sources for word in ("--source", source)]
        if one.built:
            extra += ["--wheel", str(release(inventory)["wheel"])]
        made = _run("roles/python_venv/files/wheelhouse.py", "--root", str(inventory.var / "wheelhouse"), "--name",
                    one.name, "--lock", str(ROOT / one.lock), "--python", python, *extra)  # fmt: skip
        archives.append(str(made["archive"]))
    return archives


def _run(program: str, *arguments: str) -> dict[str, Any]:
    # A lab's controller is its hosts' machine too, and nobody waits for this.
    command = ["nice", "-n", "19", sys.executable, program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT)
    if done.returncode != 0:
        raise UserError(f"{program}: {done.stderr.strip()[-400:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
