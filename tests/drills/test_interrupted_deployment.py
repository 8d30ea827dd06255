"""A deployment that is killed at any moment can be run again, and the next one changes nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from siasops.inventory import ROOT, Inventory
from siasops.lab.deploy import playbook

pytestmark = [pytest.mark.lab, pytest.mark.drill, pytest.mark.long]

KILLS = 3
MARK = "# a line that an interrupted test left behind\n"


def test_a_play_killed_at_any_task_is_finished_by_the_next_run(lab: Inventory) -> None:
    """Each run has something to change (a file that was edited by hand on every host), and is killed on its way."""
    chance = random.Random(20261125)  # noqa: S311 - a schedule, not a secret
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(lab.path)]
    edited = ["/etc/hosts", "/etc/nftables.conf", "/etc/systemd/journald.conf.d/sias.conf"]
    edit = f"for f in {' '.join(edited)}; do [ ! -e $f ] || printf '%s' '{MARK.strip()}' >> $f; done"
    for _ in range(KILLS):
        subprocess.run(
            [str(Path(sys.executable).parent / "ansible"), "-i", str(lab.path), "all", "-m", "ansible.builtin.shell", "-a", edit],
            cwd=ROOT, check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        run = subprocess.Popen(
            [*command, "playbooks/site.yml"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            run.wait(chance.uniform(3, 45))
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    mended = playbook(lab, "site", say=print)
    assert all(recap.failed == recap.unreachable == 0 for recap in mended)
    again = playbook(lab, "site", say=print)
    assert {recap.host: recap.changed for recap in again} == dict.fromkeys(lab.hosts, 0)
