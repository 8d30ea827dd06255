"""How runbooks are read and compared (see tests/infra/runbook.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from siasops import inventory as facts
from siasops.inventory import ROOT
from tests.infra.runbook import matches, steps

PAGE = """# A page

1. Look:

   ```console
   $ sias cluster check
   …
   go: all … checks hold
   databases$ patronictl list
   …Leader…
   $ false
   → exit code 1
   ```

   ```sh
   rm -rf <everything>
   ```
"""


def test_commands_are_read_with_their_place_output_and_end(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    check, listed, failing = steps(page)
    assert (check.group, check.command, check.expected, check.exit_code) == (
        "", "sias cluster check", ("…", "go: all … checks hold"), 0,
    )  # fmt: skip
    assert (listed.group, listed.line) == ("databases", 9)
    assert (failing.expected, failing.exit_code) == ((), 1)


@pytest.mark.parametrize("wrong", ["```console\noutput first\n```\n", "```console\n$ ping <host>\n```\n"])
def test_a_block_that_cannot_be_typed_is_refused(tmp_path: Path, wrong: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(wrong, encoding="utf-8")
    with pytest.raises(ValueError, match=r"page.md, line 2"):
        steps(page)


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (("a … c",), "a big c\n", True),
        (("a … c",), "a big d\n", False),
        (("a",), "a\nb\n", False),
        (("a", "…"), "a\nb\nc\n", True),
        (("…", "c"), "a\nb\nc\n", True),
        (("…", "c"), "c\n", True),
        (("…", "c"), "c\nd\n", False),
        (("1.5",), "1x5\n", False),
        ((), "anything", True),
    ],
)
def test_output_is_compared_line_by_line(expected: tuple[str, ...], printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


def test_every_page_of_the_repository_can_be_read_and_names_groups_that_exist() -> None:
    groups = {g for h in facts.load(ROOT / "inventory" / "lab.yml").hosts.values() for g in h.groups}
    found = [step for page in (ROOT / "runbooks").rglob("*.md") for step in steps(page)]
    assert len(found) > 10
    assert {step.group for step in found} <= groups | {""}
