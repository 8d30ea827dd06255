"""Split-brain probe: asks every database host by itself, past every proxy, whether it takes a write.

    python -m siasops.drill.workloads.nodes < description.json

Firewall and pg_hba let nobody but application hosts reach PostgreSQL, so that the probe goes where an operator would:
over ssh to each host, and by its local socket. A host that is cut off from all others is still asked, which is the point.
A standby is asked whether it is one and left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from siasops.drill.history import Outcome
from siasops.drill.workloads.base import Log, main, pause

PERIOD = 0.3
"""Seconds between two questions to a host."""
ANSWER_LIMIT = 15.0
"""Seconds after which a link is given up; a write that waits for its standby longer is unknown."""
AGAIN = 1.0
SSH = (
    "ssh",
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=2",
    "-o",
    "ServerAliveInterval=1",
    "-o",
    "ServerAliveCountMax=3",
)
PSQL = "cd / && exec sudo -n -u postgres psql -XAtq -d {database} 2>&1"
TABLE = "CREATE TABLE drill.probe (run text, node text, number int, PRIMARY KEY (run, node, number));"
# A superuser passes the fence of a migration (siasops/migrate/fence.py); whoever it has closed out writes no more.
OPEN = "NOT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_database WHERE datname = current_database() AND datconnlimit <> 0)"
QUESTION = f"""SELECT {OPEN} AS takes_writes \\gset
\\if :takes_writes
INSERT INTO drill.probe SELECT '{{run}}', '{{node}}', {{number}} WHERE {OPEN}
RETURNING 'landed', to_hex(('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int
  + 100000 * (current_setting('cluster_name') LIKE '%-green')::int);
\\else
\\echo standby
\\endif
\\echo done {{number}}
"""


def judge(lines: list[str]) -> tuple[Outcome, int | None, str] | None:
    """Read what psql said about one question: outcome, timeline and why; None from a standby, which was asked nothing.

    An answer with a warning was not replicated; an error of an INSERT that stands alone rolled it back, except when the
    link was lost under it.
    """
    if "standby" in lines:
        return None
    landed = [line.split("|")[1] for line in lines if line.startswith("landed|")]
    trouble = [line for line in lines if not line.startswith("landed|")]
    timeline = int(landed[0], 16) if landed else None
    if landed and not trouble:
        return Outcome.OK, timeline, ""
    why = " ".join(trouble)[:200] or "psql said nothing"
    refused = not landed and any(line.startswith("ERROR:") for line in trouble)
    lost = any("connection" in line for line in trouble)
    return (Outcome.FAILED if refused and not lost else Outcome.UNKNOWN), timeline, why


class Node:
    """One database host, and a psql that is kept there."""

    def __init__(self, description: dict[str, Any], log: Log, name: str) -> None:
        self.description = description
        self.log = log
        self.name = name
        self.number = 0
        self.psql: asyncio.subprocess.Process | None = None

    async def work(self, stop: asyncio.Event) -> None:
        """Ask until told to stop; after a lost link, anew."""
        while not stop.is_set():
            begin = time.monotonic()
            self.number += 1
            await self.log.durable("intent", node=self.name, number=self.number)
            try:
                answer = await asyncio.wait_for(self.ask(), ANSWER_LIMIT)
            except (TimeoutError, OSError, EOFError) as error:
                await self.hang_up()
                self._note(Outcome.UNKNOWN, None, str(error) or type(error).__name__)
                await pause(stop, AGAIN)
                continue
            if answer is None:
                self.log.note("standby", node=self.name, number=self.number)
            else:
                self._note(*answer)
            await pause(stop, PERIOD - (time.monotonic() - begin))
        await self.hang_up()

    def _note(self, outcome: Outcome, timeline: int | None, why: str) -> None:
        self.log.note("outcome", node=self.name, number=self.number, outcome=outcome, timeline=timeline, why=why)

    async def ask(self) -> tuple[Outcome, int | None, str] | None:
        """Ask once.

        Raises:
            EOFError: the link is lost.
        """
        if self.psql is None:
            self.psql = await asyncio.create_subprocess_exec(
                *SSH, *self.description["ssh"], self.name, PSQL.format(database=self.description["database"]),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        assert self.psql.stdin is not None  # noqa: S101 - it is a pipe
        assert self.psql.stdout is not None  # noqa: S101
        question = QUESTION.format(run=self.description["run"], node=self.name, number=self.number)
        self.psql.stdin.write(question.encode())
        await self.psql.stdin.drain()
        lines: list[str] = []
        while True:
            line = (await self.psql.stdout.readline()).decode(errors="replace")
            if not line:
                raise EOFError(f"the link to {self.name} is lost")
            if line.strip() == f"done {self.number}":
                return judge(lines)
            lines.append(line.strip())

    async def hang_up(self) -> None:
        """End the link, from this side."""
        psql, self.psql = self.psql, None
        if psql is not None:
            with contextlib.suppress(ProcessLookupError):
                psql.kill()
            await psql.wait()


async def prepare(description: dict[str, Any]) -> None:
    """Make the table, on whichever host takes writes."""
    script = f"""SELECT NOT pg_is_in_recovery() AS takes_writes \\gset
\\if :takes_writes
SELECT to_regclass('drill.probe') IS NULL AS missing \\gset
\\if :missing
{TABLE}
\\endif
TRUNCATE drill.probe;
\\endif
"""
    for name in description["nodes"]:
        psql = await asyncio.create_subprocess_exec(
            *SSH, *description["ssh"], name, PSQL.format(database=description["database"]),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await psql.communicate(script.encode())


async def work(description: dict[str, Any], log: Log, stop: asyncio.Event) -> None:
    """Ask every host until told to stop."""
    await prepare(description)
    async with asyncio.TaskGroup() as group:
        for name in description["nodes"]:
            group.create_task(Node(description, log, name).work(stop))


if __name__ == "__main__":
    main("nodes", work)
