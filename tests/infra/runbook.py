"""Runbooks as programs: what stands in a fenced block `console` is typed and compared, in the page's order.

    ```console
    $ sias cluster check
    …
    go: all … checks hold
    database$ sudo patronictl list
    …Leader…
    ```

A line with a prompt is a command: `$` on the controller, `<group>$` on the first host of that inventory group, as root. The
lines below it are what it prints: `…` within a line stands for anything, a line that is only `…` for any number of lines.
A last line `→ exit code 1` says that it does not end well; otherwise it must. Blocks `sh` are for people: they act, or hold
placeholders.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^([ ]*)```console\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"^([a-z]*)\$ (.+)$")
ENDS = re.compile(r"^→ exit code (\d+)$")
ANY = "…"


@dataclass(frozen=True)
class Step:
    """A command, where it is typed (a group, or empty for the controller), and what it must print and end with."""

    page: str
    line: int
    group: str
    command: str
    expected: tuple[str, ...]
    exit_code: int


def steps(page: Path) -> list[Step]:
    """Read the steps of a page, in order.

    Raises:
        ValueError: a block begins without a command, or a command holds a placeholder; names the line.
    """
    text = page.read_text(encoding="utf-8")
    found: list[Step] = []
    for block in BLOCK.finditer(text):
        first = text[: block.start(2)].count("\n") + 1
        begun = False
        for number, raw in enumerate(block.group(2).splitlines(), start=first):
            line = raw.removeprefix(block.group(1))
            if prompt := PROMPT.match(line):
                if re.search(r"<[a-z ]+>", prompt.group(2)):
                    raise ValueError(f"{page.name}, line {number}: a placeholder cannot be typed: {line}")
                found.append(Step(page.name, number, prompt.group(1), prompt.group(2), (), 0))
                begun = True
            elif not begun:
                raise ValueError(
                    f"{page.name}, line {number}: a console block begins with a command, not with {line!r}"
                )
            else:
                last = found.pop()
                ends = ENDS.match(line)
                found.append(
                    Step(
                        last.page, last.line, last.group, last.command,
                        last.expected if ends else (*last.expected, line), int(ends.group(1)) if ends else last.exit_code,
                    )
                )  # fmt: skip
    return found


def matches(expected: tuple[str, ...], printed: str) -> bool:
    """Whether a command printed what the page says; a page that says nothing accepts anything."""
    if not expected:
        return True
    parts = []
    for line in expected:
        if line.strip() == ANY:
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*?".join(re.escape(piece) for piece in line.rstrip().split(ANY)) + r"[ ]*\n")
    lines = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
    return re.fullmatch("".join(parts), lines) is not None
