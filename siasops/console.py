"""How `sias` speaks: progress on the terminal, tables for people, JSON for machines.

Progress goes to standard error, so that `--json` on standard output stays clean.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def emit_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=2, default=str)
    sys.stdout.write("\n")


def clock(seconds: float) -> str:
    """Seconds as `m:ss`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Progress:
    """Steps of a long piece of work: what, how far, how long, since the start."""

    def __init__(self, total: int | None = None) -> None:
        self.started = time.monotonic()
        self.total = total
        self.done = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self.started

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Announce a step, and say how long it took."""
        self.done += 1
        count = f"({self.done}/{self.total}) " if self.total else ""
        err.print(f"[bold]\\[{clock(self.elapsed)}][/bold] {count}{what}")
        begin = time.monotonic()
        try:
            yield
        except BaseException:
            err.print(
                f"[bold red]\\[{clock(self.elapsed)}] failed:[/bold red] {what} ({time.monotonic() - begin:.1f} s)"
            )
            raise
        err.print(f"[dim]\\[{clock(self.elapsed)}]   done in {time.monotonic() - begin:.1f} s[/dim]")

    def say(self, text: str) -> None:
        """Say something about the present step."""
        err.print(f"[dim]\\[{clock(self.elapsed)}][/dim]   {text}")


json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output, for machines.")
