"""Deploying again changes nothing, in time; and looking (`--check`) works on a deployed platform."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from siasops.inventory import ROOT, Inventory
from siasops.lab import deploy

SECOND_RUN_S = 180
PLAYBOOKS = sorted(p.stem for p in (ROOT / "playbooks").glob("*.yml"))


def test_a_second_deployment_changes_nothing_and_takes_at_most_three_minutes(lab: Inventory) -> None:
    began = time.monotonic()
    recaps = deploy.playbook(lab, "site", say=print)
    took = time.monotonic() - began
    assert {r.host for r in recaps} >= set(lab.hosts)
    assert {r.host: r.changed for r in recaps if r.changed} == {}
    assert took <= SECOND_RUN_S, f"the second run took {took:.0f} s"


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_every_playbook_survives_a_look(lab: Inventory, name: str) -> None:
    recaps = deploy.playbook(lab, name, say=print, arguments=("--check",))
    # A release concerns the hosts of the application alone; the others concern all.
    concerned = {h.name for h in lab.group("applications")} if name == "release" else set(lab.hosts)
    assert {r.host for r in recaps} >= concerned
    assert not [r for r in recaps if r.failed or r.unreachable]
    assert Path(lab.state / f"{name}.log").read_text(encoding="utf-8")
