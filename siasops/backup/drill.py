"""The restore drill: known writes, then each room's repository restored in full and to a moment between them.

A writer on the primary notes the server's clock before it sends each write and after it was acknowledged; the log of
that is on this machine's disk before anything is restored. A write acknowledged before the moment must be in the copy,
one sent after it must not; a mistake made after it (rows changed and removed) must be undone in the copy of that moment,
and there in the copy of the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from siasops.backup import archive
from siasops.backup.catalogue import read
from siasops.backup.check import Line
from siasops.backup.restore import Proof, Target, anchored, prove, query
from siasops.console import Progress
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.remote import Fleet

BEFORE, AFTER = 60, 60
"""Writes before the moment, and after it."""
REMOVED, CHANGED = 10, 20
"""The mistake: rows up to the first number are removed, those after it up to the second are changed."""
DATABASE = "postgres"
BEAT = "/usr/local/share/sias-restore/beat.sql"
LEDGER = "SELECT coalesce(json_object_agg(number, payload), '{{}}') FROM sias_restore.ledger WHERE source = '{run}'"
CLOCK = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"


@dataclass(frozen=True)
class Write:
    """One write: `kind` insert, change or remove; when it was sent, and acknowledged (None: unknown)."""

    kind: str
    number: int
    sent: datetime
    acknowledged: datetime | None


@dataclass
class Drill:
    """What a drill found."""

    run: str
    environment: str
    moment: datetime
    writes: list[Write]
    proofs: list[Proof] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def held(self) -> bool:
        """Whether every proof held."""
        return bool(self.proofs) and all(proof.held for proof in self.proofs)

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "run": self.run,
            "environment": self.environment,
            "moment": self.moment,
            "writes": len(self.writes),
            "held": self.held,
            "seconds": round(self.seconds, 1),
            "proofs": [{**asdict(proof), "held": proof.held} for proof in self.proofs],
        }


def payload(run: str, number: int) -> str:
    """Make the text that a write of the ledger carries."""
    return f"{run} {number}"


def script(run: str) -> str:
    """Write the session: the clock, a write, the clock, again and again, with the moment in between."""
    steps: list[tuple[str, int, str]] = []

    def insert(number: int) -> None:
        into = "INSERT INTO sias_restore.ledger (source, number, payload)"
        steps.append(("insert", number, f"{into} VALUES (:'run', {number}, '{payload(run, number)}')"))

    where = "WHERE source = :'run' AND number <="
    for number in range(1, BEFORE + 1):
        insert(number)
    steps.append(("moment", 0, ""))
    steps.append(("change", CHANGED, f"UPDATE sias_restore.ledger SET payload = 'mistake' {where} {CHANGED}"))  # noqa: S608 - our own number
    steps.append(("remove", REMOVED, f"DELETE FROM sias_restore.ledger {where} {REMOVED}"))  # noqa: S608 - our own number
    for number in range(BEFORE + 1, BEFORE + AFTER + 1):
        insert(number)
    lines = [f"\\i {BEAT}", f"\\set run '{run}'"]
    for kind, number, sql in steps:
        lines.append(f"SELECT '{kind} {number} sent ' || {CLOCK};")
        if sql:
            lines += [f"{sql};", f"SELECT '{kind} {number} acknowledged ' || {CLOCK};"]
    return "\n".join(lines)


def parse(text: str) -> tuple[list[Write], datetime | None]:
    """Read what the session said: each write, and the moment. A write without its second line is unknown."""
    writes: dict[tuple[str, int], Write] = {}
    moment = None
    for line in text.splitlines():
        words = line.split()
        if len(words) != 4 or words[2] not in {"sent", "acknowledged"}:  # noqa: PLR2004 - as script() writes them
            continue
        kind, number, what = words[0], int(words[1]), words[2]
        at = datetime.fromisoformat(words[3]).replace(tzinfo=UTC)
        if kind == "moment":
            moment = at
        elif what == "sent":
            writes[kind, number] = Write(kind, number, at, None)
        else:
            writes[kind, number] = Write(kind, number, writes[kind, number].sent, at)
    return list(writes.values()), moment


def judge(run: str, writes: Sequence[Write], rows: dict[int, str], moment: datetime | None) -> Line:
    """Compare a copy with the ledger of writes.

    Args:
        run: whose writes.
        writes: in the order in which they were sent.
        rows: what the copy holds: payload by number.
        moment: where recovery stopped; None at the end of the archive.
    """
    must: dict[int, str] = {}
    may: dict[int, set[str | None]] = {}
    for write in writes:
        if moment is not None and write.sent > moment:
            continue
        certain = write.acknowledged is not None and (moment is None or write.acknowledged <= moment)
        touched = [write.number] if write.kind == "insert" else [n for n in must if n <= write.number]
        for number in touched:
            new = {"insert": payload(run, number), "change": "mistake", "remove": None}[write.kind]
            if not certain:
                may.setdefault(number, {must.get(number)}).add(new)
            elif new is None:
                del must[number]
            else:
                must[number] = new
    wrong = []
    for number in sorted({*must, *rows, *may}):
        allowed = may.get(number, {must.get(number)})
        if rows.get(number) not in allowed:
            stands = rows.get(number)
            wrong.append(f"write {number}: {'missing' if stands is None else repr(stands)}, due {allowed}")
    due = f"{len(must)} acknowledged writes due, {len(rows)} there"
    if wrong:
        return Line(False, "known writes", f"{due}; {len(wrong)} wrong: {'; '.join(wrong[:3])}",
                    "restore from the other room's repository; see runbooks/alerts/RestoreNotProven.md")  # fmt: skip
    return Line(bool(must), "known writes", f"{due}, none missing, none later than the target")


def run(
    inventory: Inventory,
    fleet: Fleet,
    *,
    room: str | None,
    choose_host: Any,
    deadline: float,
    progress: Progress,
) -> tuple[Drill, Path]:
    """Write, restore every repository (or one room's) in full and to the moment, judge, report.

    Args:
        inventory: the environment.
        fleet: connections to repositories and database hosts.
        room: only this room's repository.
        choose_host: given a room, names the database host that carries the copy.
        deadline: seconds for each restore.
        progress: told about each step.

    Returns:
        The drill and the folder of its report.

    Raises:
        UserError: it could not be tried.
    """
    repositories = read(inventory, fleet, room=room)
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    folder = inventory.var / "restores" / name
    folder.mkdir(parents=True)
    begin = progress.elapsed
    with progress.step("write known writes into the primary"):
        primary = archive.look(inventory, fleet)
        if primary is None:
            raise UserError("no database host is primary: nothing can be written. See `sias cluster status`.")
        drill = _write(inventory, fleet, primary.host, name)
        keep_ledger(folder, drill)
        progress.say(f"{len(drill.writes)} writes, the moment is {drill.moment.isoformat(sep=' ')}")
    with (folder / "journal.jsonl").open("a", encoding="utf-8") as journal:
        try:
            with progress.step("have every repository reach them"):
                anchor = anchored(inventory, fleet)
            for repository in repositories:
                host = choose_host(repository.room)
                for target in (Target(drill.moment), Target()):
                    sql = LEDGER.format(run=name)
                    proof = prove(
                        inventory, fleet, repository, host=host, target=target, anchor=anchor, queries=((DATABASE, sql),),
                        deadline=deadline, progress=progress,
                    )  # fmt: skip
                    _judge(drill, proof, sql, target)
                    note(journal, proof)
        finally:
            clear = f"\\set run '{name}'\nDELETE FROM sias_restore.ledger WHERE source = :'run'"
            query(inventory, fleet, primary.host, clear, database=DATABASE)
    drill.seconds = progress.elapsed - begin
    report(folder, drill)
    return drill, folder


def _judge(drill: Drill, proof: Proof, sql: str, target: Target) -> None:
    answer = proof.queries.pop(sql, None)
    if answer is not None:
        rows = {int(number): text for number, text in json.loads(answer).items()}
        proof.lines.append(judge(drill.run, drill.writes, rows, target.moment))
    drill.proofs.append(proof)


def _write(inventory: Inventory, fleet: Fleet, primary: str, name: str) -> Drill:
    command, stdin = archive.psql(script(name), database=DATABASE)
    answer = fleet.run(primary, command, timeout=60, stdin=stdin)
    writes, moment = parse(answer.stdout)
    if not answer.ok or moment is None or "WARNING" in answer.stderr:
        # A WARNING is a commit that did not wait for the other room: not acknowledged.
        raise UserError(
            f"{primary}: the known writes were not all acknowledged ({answer.stderr.strip() or 'no answer'}); "
            "see `sias cluster check`, then try again."
        )
    return Drill(name, inventory.environment, moment, writes)


def keep_ledger(folder: Path, drill: Drill) -> None:
    """Write the log of the writes, durably, before anything is restored."""
    with (folder / "ledger.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(write), default=str) + "\n" for write in drill.writes)
        file.flush()
        os.fsync(file.fileno())


def note(journal: Any, proof: Proof) -> None:
    """Write a proof into the journal."""
    entry = {"at": datetime.now(UTC), **asdict(proof), "held": proof.held}
    journal.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
    journal.flush()


def report(folder: Path, drill: Drill) -> None:
    """Write result.json, report.md and report.html."""
    result = json.dumps(drill.as_json(), ensure_ascii=False, indent=2, default=str)
    (folder / "result.json").write_text(result + "\n", encoding="utf-8")
    (folder / "report.md").write_text(markdown(drill), encoding="utf-8")
    (folder / "report.html").write_text(html(drill), encoding="utf-8")


def _title(drill: Drill) -> str:
    return "every repository restores" if drill.held else "a repository does not restore as it must"


def _about(proof: Proof) -> str:
    return (
        f"room {proof.room} ({proof.repository}), on {proof.host}, to {proof.target}: backup {proof.label or 'none'}, "
        f"{proof.seconds:.1f} s"
    )


def markdown(drill: Drill) -> str:
    """Write the report for a ticket."""
    lines = [
        f"# Restore drill: {_title(drill)}",
        "",
        f"{drill.environment}, run {drill.run} (UTC), {drill.seconds:.0f} s; {len(drill.writes)} known writes around "
        f"{drill.moment.isoformat(sep=' ')}.",
    ]
    for proof in drill.proofs:
        lines += ["", f"## {_about(proof)}", "", "| | looked at | found |", "|---|---|---|"]
        lines += [
            f"| {'held' if line.ok else '**not held**'} | {line.what} | {line.found}"
            f"{'. Do: ' + line.advice if line.advice else ''} |"
            for line in proof.lines
        ]
    return "\n".join([*lines, ""])


STYLE = """:root{color-scheme:light dark;--good:#2f855a;--bad:#c53030}
body{font:16px/1.5 system-ui,"DejaVu Sans",sans-serif;max-width:1100px;margin:32px auto;padding:0 24px}
table{width:100%;border-collapse:collapse}td{padding:6px 12px 6px 0;border-bottom:1px solid #8884;vertical-align:top}
h2{font-size:18px;margin:28px 0 8px}.yes{color:var(--good)}.no{color:var(--bad);font-weight:700}"""


def html(drill: Drill) -> str:
    """Write the page: self-contained, no script, no outside reference."""
    sections = []
    for proof in drill.proofs:
        rows = "".join(
            f'<tr><td class="{"yes" if line.ok else "no"}">{"held" if line.ok else "not held"}</td>'
            f"<td>{escape(line.what)}</td><td>{escape(line.found)}"
            f"{'<br>Do: ' + escape(line.advice) if line.advice else ''}</td></tr>"
            for line in proof.lines
        )
        sections.append(f"<h2>{escape(_about(proof))}</h2><table>{rows}</table>")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Restore drill {escape(drill.run)}</title><style>{STYLE}</style></head>
<body><h1>Restore drill: <span class="{"yes" if drill.held else "no"}">{escape(_title(drill))}</span></h1>
<p>{escape(drill.environment)}, run {escape(drill.run)} (UTC), {drill.seconds:.0f} s. {len(drill.writes)} known writes
around {escape(drill.moment.isoformat(sep=" "))}; their log stands in ledger.jsonl.</p>
{"".join(sections)}
</body></html>
"""
