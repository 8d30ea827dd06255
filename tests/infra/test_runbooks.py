"""Runbooks still work: their console blocks are typed on the lab, in order, and must print what the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from siasops.inventory import ROOT, Inventory
from tests.infra.conftest import Reach
from tests.infra.runbook import matches, steps

PAGES = [p for p in sorted((ROOT / "runbooks").rglob("*.md")) if "```console" in p.read_text(encoding="utf-8")]
LIMIT_S = 60


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_what_a_runbook_tells_to_type_prints_what_it_says(page: Path, lab: Inventory, on: Reach) -> None:
    environment = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "160", "TERM": "dumb",
        "NO_COLOR": "1", "SIAS_INVENTORY": lab.environment,
    }  # fmt: skip
    for step in steps(page):
        if step.group:
            done = on(lab.group(step.group)[0].name).run(step.command)
            code, printed, said = done.rc, done.stdout, done.stderr
        else:
            local = subprocess.run(
                ["bash", "-c", step.command],
                cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False,
            )  # fmt: skip
            code, printed, said = local.returncode, local.stdout, local.stderr
        where = f"{step.page}, line {step.line}: {step.command}"
        assert code == step.exit_code, f"{where}: exit code {code}\n{printed}\n{said}"
        assert matches(step.expected, printed), f"{where} printed:\n{printed}\nand the page says:\n" + "\n".join(
            step.expected
        )
