"""Plan gate: the workload on both clusters, query by query; a cutover is refused when something gets slower.

Three kinds of queries:

- the application's critical ones, with several sets of parameters each (`workload.yml`): run with EXPLAIN (ANALYZE, BUFFERS),
  in turn on both sides, in a read-only transaction; only what reads is run, the others are planned;
- those of every endpoint, as the application sends them (`endpoints.py`): run in the same way, as its role and with what it
  says to row-level security, so that plans are its own;
- those that pg_stat_statements counted for others than superusers, whose parameters nobody knows: planned alone, as
  generic plans.

What endpoints send holds personal data. It goes to the database hosts by standard input, and nowhere else: a query is called by
its text without values, and values are masked in plans and in what PostgreSQL says of an error.

A time counts only when a second measurement sees it again. The buffers that a query reads do not depend on how busy a
host is; a busy blue beside an idle green makes times flatter than they are, never buffers.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from siasops.cluster.check import Line
from siasops.errors import UserError
from siasops.load.samples import percentile
from siasops.migrate.database import Database, identifier, literal

TIMES, MORE_MS = 1.5, 5.0
"""A median may grow by this factor, or by these milliseconds."""
BUFFERS, BUFFERS_FLOOR = 2.0, 64
"""Blocks touched may grow by this factor; fewer blocks than the floor are not looked at."""
LARGE = 10_000
"""Rows from which a new sequential scan of a table is a finding."""
WILD, WILD_ROWS = 10.0, 1000
"""An estimate may become wrong by this factor more than before; fewer rows than these, wrong or right, matter to nobody."""
TOTAL, TOTAL_MS = 1.05, 0.1
"""The weighted total may grow by this factor; a mean that grows by fewer milliseconds per call is noise."""
AGAIN, AGAIN_ONE = 60, 4
"""How often, in all and one query, what makes the total grow most is run PAIRED_ROUNDS times more before that is believed."""
ROUNDS, RUNS = 3, 3
"""Measurements of one query: rounds, in turn on both sides, each with a warming run before these."""
PAIRED_ROUNDS = 12
"""Rounds more for each critical query. Their times make the p95 of both sides, and the fastest counts for the total: run nine
times, the one query that takes most of it made it vary from 0.91 to 1.08 (runbooks/records/20261128-postgres-15-to-17.md)."""
QUICK_MS = 1.0
"""A query that is faster on both sides after one round cannot break the rule of time: the other rounds are spared."""
WIDTH = 88
"""Columns of one side when two plans are shown side by side."""
_VALUE = re.compile(r"'(?:[^']|'')*'|(?<![\w.$])\d+(?:\.\d+)?")
_QUOTED = re.compile(r'"([^"]*)"')


@dataclass(frozen=True)
class Sent:
    """A statement with its values, as the application sent it; never shown, never written down."""

    sql: str = field(repr=False)
    settings: Mapping[str, str] = field(repr=False, default_factory=dict)
    """What its transaction had said to PostgreSQL: who asks, for row-level security; how alike words must be."""
    role: str = ""
    """Whose rights and policies count; a superuser's when empty."""


Values = Sequence[str | None] | Sent | None
"""What a query is run with: its parameters, or the statement itself; None when nobody knows."""


@dataclass(frozen=True)
class Query:
    """One query of the workload. `weight`: calls, in any unit, that it counts for in the total."""

    name: str
    text: str
    parameters: Sequence[Sequence[str | None]] = ((),)
    weight: float = 1.0
    known: bool = True
    """Whether its parameters are; a query of pg_stat_statements has none that anybody knows."""
    sent: Sequence[Sent] = ()
    """Instead of parameters: statements of this text, which then only names it."""

    @property
    def runs(self) -> Sequence[Values]:
        """What it is run with, one after the other."""
        return self.sent or (self.parameters if self.known else (None,))

    @property
    def critical(self) -> bool:
        """Whether it is one of the application's critical ones, and may be run again and again."""
        return self.known and not self.sent and self.reads

    @property
    def reads(self) -> bool:
        """Whether running it changes nothing, to be believed of plain SELECTs alone."""
        text = re.sub(r"^\s*(--.*\n\s*)*", "", self.text)
        return bool(re.match(r"(?i)(select|values|table|with)\b", text)) and not re.search(
            r"(?i)\b(update|for (no key )?(share|key)|insert into|delete from|merge into)\b", text
        )


@dataclass(frozen=True)
class Measure:
    """What one query did on one side, with one set of parameters. Times are those of every run, in milliseconds."""

    plan: Mapping[str, Any]
    times: tuple[float, ...] = ()
    buffers: int = 0
    temporary: int = 0
    """Blocks that went to temporary files."""
    answers: tuple[float, ...] = ()
    """What planning and running took together, of every run, in milliseconds."""

    @property
    def median(self) -> float:
        """Milliseconds; 0 when it was only planned."""
        return statistics.median(self.times) if self.times else 0.0

    @property
    def scans(self) -> frozenset[str]:
        """Tables that are read from end to end."""
        return frozenset(node["Relation Name"] for node in nodes(self.plan) if node["Node Type"] == "Seq Scan")

    @property
    def wrong(self) -> float:
        """The factor by which the worst estimate is wrong, of nodes with many rows; 1 is perfect.

        Fewer rows than estimated are no error of a node that was stopped before its end.
        """
        pairs = [(node["Plan Rows"], node["Actual Rows"], stopped) for node, stopped in _stopped(self.plan)
                 if "Actual Rows" in node]  # fmt: skip
        return max((max(wanted, got, 1) / max(min(wanted, got), 1) for wanted, got, stopped in pairs
                    if max(wanted, got) >= WILD_ROWS and not (stopped and got < wanted)), default=1.0)  # fmt: skip

    @property
    def shape(self) -> str:
        """The plan without its figures, short: what an acceptance holds on to."""
        text = "\n".join(line.split("  (")[0] for line in tree(self.plan, figures=False))
        return sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Finding:
    """A query that gets worse. `accepted`: why that is borne; empty when nobody has said so."""

    query: str
    parameters: Sequence[str | None]
    rule: str
    text: str
    before: Measure | None = None
    after: Measure | None = None
    accepted: str = ""

    def __str__(self) -> str:
        return f"{self.query}: {self.text}" + (f" (accepted: {self.accepted})" if self.accepted else "")

    def plans(self) -> str:
        """Both plans side by side, for a terminal or a report."""
        if self.before is None or self.after is None:
            return ""
        return side_by_side(self.before.plan, self.after.plan)


@dataclass(frozen=True)
class Paired:
    """What a critical query took on both sides, planning included, in milliseconds: in turn, so that both knew the same host."""

    query: str
    weight: float
    before: Sequence[float]
    after: Sequence[float]

    def __str__(self) -> str:
        def told(share: float) -> str:
            before, after = percentile(self.before, share), percentile(self.after, share)
            return f"{before:.2f} ms before, {after:.2f} ms after, {after / before:.2f}"

        return f"{self.query}: p50 of {len(self.after)} runs {told(0.5)}; p95 {told(0.95)}"


def mixed(pairs: Iterable[Paired]) -> tuple[float, float]:
    """Return the p95 of the critical queries as the mix has them, in milliseconds before and after; zeros when there are none."""
    pairs = list(pairs)
    return _p95([(pair.weight, pair.before) for pair in pairs]), _p95([(pair.weight, pair.after) for pair in pairs])


def _p95(queries: Iterable[tuple[float, Sequence[float]]]) -> float:
    """Return the p95 of runs of which each counts for its part of its query's weight."""
    runs = sorted((ms, weight / len(times)) for weight, times in queries for ms in times)
    reached, end = 0.0, 0.95 * sum(share for _, share in runs)
    for ms, share in runs:
        reached += share
        if reached >= end:
            return ms
    return 0.0


@dataclass
class Verdict:
    """What the gate found."""

    measured: int = 0
    planned: int = 0
    unplannable: list[str] = field(default_factory=list)
    """Texts of pg_stat_statements that neither side can plan without their parameters."""
    total: tuple[float, float] = (0.0, 0.0)
    """Weighted milliseconds before and after."""
    findings: list[Finding] = field(default_factory=list)
    paired: list[Paired] = field(default_factory=list)

    @property
    def refused(self) -> list[Finding]:
        """Findings that nobody has accepted."""
        return [finding for finding in self.findings if not finding.accepted]

    def line(self) -> Line:
        """Go or no-go. Nothing measured is no-go."""
        before, after = self.total
        found = (f"{self.measured} runs compared and {self.planned} planned, {len(self.unplannable)} could not be;"
                 f" weighted total {before:.1f} ms before, {after:.1f} ms after")  # fmt: skip
        if self.paired:
            before, after = mixed(self.paired)
            found += f"; p95 of the critical queries {before:.2f} ms before, {after:.2f} ms after"
        if self.findings:
            found += "; " + "; ".join(map(str, self.findings[:10]))
        action = ""
        if self.refused:
            action = (
                "Compare the plans; mend the target's statistics or settings, or accept the difference with a reason."
            )
        elif not self.measured:
            action = "Nothing was measured: see that the workload's queries fit this database."
        return Line(not self.refused and bool(self.measured), "No query gets slower", found, action)


@dataclass(frozen=True)
class Accepted:
    """Differences that somebody has accepted, with a reason: JSON lines, appended and never rewritten."""

    path: Path

    def reason(self, finding: Finding) -> str:
        """Why a finding is borne; empty when nobody accepted it with the plan that it has now."""
        if not self.path.exists():
            return ""
        rows = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines() if line]
        same = [row for row in rows if (row["query"], row["rule"]) == (finding.query, finding.rule)]
        fitting = [row["reason"] for row in same if row["shape"] == _shape(finding)]
        return str(fitting[-1]) if fitting else ""

    def add(self, finding: Finding, reason: str, who: str) -> None:
        """Accept a finding as it is now.

        Raises:
            UserError: no reason is given.
        """
        if not reason.strip():
            raise UserError(f"{finding.query} is accepted with a reason, or not at all.")
        row = {"query": finding.query, "rule": finding.rule, "shape": _shape(finding), "reason": reason.strip(), "by": who,
               "at": datetime.now(UTC).isoformat(timespec="seconds")}  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def load(path: Path) -> list[Query]:
    """Read the application's critical queries.

    Raises:
        UserError: the file is not as it should be.
    """
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = [
            Query(row["name"], row["text"], tuple(tuple(map(_text, p)) for p in row.get("parameters", [[]])),
                  float(row.get("weight", 1))) for row in rows
        ]  # fmt: skip
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a workload: {error}") from error
    for query in found:
        wanted = _placeholders(query.text)
        if any(len(p) != wanted for p in query.parameters):
            raise UserError(
                f"{path}: {query.name} has {wanted} placeholders, and a set of parameters of another length."
            )
    return found


def statements(source: Database, limit: int = 200) -> list[Query]:
    """The statements that took most time on the source, by pg_stat_statements; empty when it is not there.

    What a superuser asked for is no workload: procedures and people on a host, once. (The first look of an upgrade of Debian at
    every kind of text, still counted when PostgreSQL's turn came, was found to scan a table otherwise.)
    """
    if not source.ask("SELECT extname FROM pg_extension WHERE extname = 'pg_stat_statements'"):
        return []
    (where,) = source.ask("SELECT n.nspname AS schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
                          " WHERE extname = 'pg_stat_statements'")  # fmt: skip
    rows = source.ask(
        f'SELECT queryid::text AS id, query, calls FROM "{where["schema"]}".pg_stat_statements s JOIN pg_database d'
        " ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.userid"
        " WHERE d.datname = current_database() AND toplevel AND NOT r.rolsuper"
        " AND query ~* '^\\s*(select|insert|update|delete|with|values)\\M' AND query !~ 'pg_catalog|pg_stat|pg_replication'"
        f" ORDER BY total_exec_time DESC LIMIT {limit}"
    )
    return [Query(f"statement {row['id']}", row["query"], weight=float(row["calls"]), known=False) for row in rows]


def gate(source: Database, target: Database, workload: Iterable[Query], accepted: Accepted | None = None,
         search_path: str = "public") -> Verdict:  # fmt: skip
    """Compare both sides, query by query.

    Args:
        source: the cluster that serves.
        target: the one that would serve.
        workload: what to run and to plan.
        accepted: differences that are borne.
        search_path: the application's.
    """
    verdict, judge = Verdict(), _Judge(source, target, search_path)
    costs: list[_Cost] = []
    for query in workload:
        paired: list[list[list[float]]] = []
        for values in query.runs:
            parameters = () if values is None or isinstance(values, Sent) else values
            try:
                before = judge.measure(query, values, 0)
            except UserError as error:
                if query.known:
                    hidden = None if query.sent else error
                    raise UserError(f"{query.name} does not run on {source.name}: {_said(query, error)}") from hidden
                verdict.unplannable.append(query.text)
                continue
            try:
                before, after = judge.both(query, values, before)
            except UserError as error:
                verdict.findings.append(
                    Finding(query.name, parameters, "error", f"fails on {target.name}: {_said(query, error)}")
                )
                continue
            verdict.findings += judge.findings(query, parameters, before, after)
            if not before.times:
                verdict.planned += 1
                continue
            verdict.measured += 1
            cost = _Cost(query, values, min(before.times), min(after.times))
            costs.append(cost)
            if query.critical:
                runs = judge.paired(query, values)
                cost.seen(*runs)
                paired.append([[ms for run in side for ms in run.answers] for side in runs])
        if paired:
            sides = ([ms for run in runs for ms in run] for runs in zip(*paired, strict=True))
            verdict.paired.append(Paired(query.name, query.weight, *sides))
    weight = sum(query.weight for query in workload if query.known and query.reads) or 1.0
    verdict.total = judge.total(costs, weight)
    if _grows(verdict.total, weight):
        verdict.findings.append(
            Finding("the whole workload", (), "total", f"{verdict.total[1] / verdict.total[0]:.2f} times as long")
        )
    if accepted is not None:
        verdict.findings = [_with(finding, accepted.reason(finding)) for finding in verdict.findings]
    return verdict


@dataclass
class _Cost:
    """What a run adds to the total. `before`, `after`: milliseconds of the fastest: what noise can only add to."""

    query: Query
    values: Values
    before: float
    after: float

    @property
    def share(self) -> float:
        """How often it counts."""
        return self.query.weight / len(self.query.runs)

    @property
    def growth(self) -> float:
        """Milliseconds that it adds."""
        return self.share * (self.after - self.before)

    def seen(self, before: Iterable[Measure], after: Iterable[Measure]) -> None:
        """Take more runs into account."""
        self.before = min(self.before, *(ms for run in before for ms in run.times))
        self.after = min(self.after, *(ms for run in after for ms in run.times))


def _total(costs: Sequence[_Cost]) -> tuple[float, float]:
    return sum(c.share * c.before for c in costs), sum(c.share * c.after for c in costs)


def _grows(total: tuple[float, float], weight: float) -> bool:
    return total[1] > TOTAL * total[0] and (total[1] - total[0]) / weight > TOTAL_MS


class _Judge:
    """Measures on both sides, and compares."""

    def __init__(self, source: Database, target: Database, search_path: str) -> None:
        self.sides = source, target
        self._search_path = search_path
        self._large = _sizes(target)

    def both(self, query: Query, values: Values, first: Measure) -> tuple[Measure, Measure]:
        """Measure in turn, and once more when a time is a finding."""
        before, after = first, self.measure(query, values, 1)
        for _ in range(ROUNDS - 1 if max(before.median, after.median) >= QUICK_MS else 0):
            before, after = (_more(m, self.measure(query, values, s)) for s, m in enumerate((before, after)))
        if _slower(before, after):
            before, after = (self.measure(query, values, side) for side in (0, 1))
            for _ in range(ROUNDS - 1):
                before, after = (_more(m, self.measure(query, values, s)) for s, m in enumerate((before, after)))
        return before, after

    def total(self, costs: Sequence[_Cost], weight: float) -> tuple[float, float]:
        """Return both sides' weighted totals; while they grow, measure what makes them grow most again, in turn."""
        again: Counter[int] = Counter()
        while again.total() < AGAIN and _grows(_total(costs), weight):
            left = [number for number, cost in enumerate(costs) if again[number] < AGAIN_ONE and cost.growth > 0]
            if not left:
                break
            most = max(left, key=lambda number: costs[number].growth)
            again[most] += 1
            with suppress(UserError):  # what fails now and then keeps its first times
                costs[most].seen(*self.paired(costs[most].query, costs[most].values))
        return _total(costs)

    def paired(self, query: Query, values: Values) -> tuple[list[Measure], list[Measure]]:
        """Run it again and again, each side first in every other round; return both sides' runs."""
        found: tuple[list[Measure], list[Measure]] = [], []
        for number in range(PAIRED_ROUNDS):
            for side in ((0, 1), (1, 0))[number % 2]:
                found[side].append(self.measure(query, values, side))
        return found

    def measure(self, query: Query, values: Values, side: int) -> Measure:
        """Run a query, or only plan it."""
        run = values is not None and query.reads
        options = "ANALYZE, BUFFERS, FORMAT JSON" if run else "FORMAT JSON"
        times = 1 + RUNS if run else 1
        before, explained, after = _steps(query, values)
        answers = self.sides[side].raw(
            f"BEGIN READ ONLY; SET LOCAL search_path = {self._search_path};\n{before}"
            + f"EXPLAIN ({options}) {explained};\n" * times
            + f"ROLLBACK;{after}"
        )
        found = [json.loads(answer)[0] for answer in answers]
        plan = masked(found[-1]["Plan"])
        if not run:
            return Measure(plan)
        return Measure(
            plan,
            tuple(answer["Execution Time"] for answer in found[1:]),
            plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0),
            plan.get("Temp Written Blocks", 0),
            tuple(answer.get("Planning Time", 0.0) + answer["Execution Time"] for answer in found[1:]),
        )

    def findings(
        self, query: Query, parameters: Sequence[str | None], before: Measure, after: Measure
    ) -> Iterator[Finding]:
        """Yield what gets worse."""

        def finding(rule: str, text: str) -> Finding:
            return Finding(query.name, parameters, rule, text, before, after)

        if _slower(before, after):
            yield finding("time", f"median {before.median:.1f} ms before, {after.median:.1f} ms after")
        if after.buffers > max(BUFFERS_FLOOR, BUFFERS * before.buffers):
            yield finding("buffers", f"{before.buffers} blocks before, {after.buffers} after")
        scans = sorted(table for table in after.scans - before.scans if self._large.get(table, 0) >= LARGE)
        if scans:
            yield finding("scan", f"reads all of {', '.join(scans)}, which it did not before")
        if after.wrong > WILD * before.wrong:
            yield finding("estimate", f"estimates wrong by {before.wrong:.0f} times before, {after.wrong:.0f} after")
        if after.temporary and not before.temporary:
            yield finding("temporary", f"{after.temporary} blocks in temporary files, none before")


def masked(found: Any) -> Any:
    """Return a plan, or a part of one, without the values that its conditions name."""
    if isinstance(found, dict):
        return {name: masked(value) for name, value in found.items()}
    if isinstance(found, list):
        return [masked(value) for value in found]
    return _VALUE.sub("…", found) if isinstance(found, str) else found


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every node of a plan, from the top."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def _stopped(plan: Mapping[str, Any], stopped: bool = False) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Every node, and whether what stands above it may have stopped it: it had enough rows, or the other side had none left."""
    yield plan, stopped
    enough = plan["Node Type"] in {"Limit", "Merge Join"} or (
        plan["Node Type"] == "Nested Loop"
        and (plan["Join Type"] in {"Semi", "Anti"} or plan.get("Inner Unique", False))
    )
    for below in plan.get("Plans", []):
        asked = below.get("Parent Relationship") in {"SubPlan", "InitPlan"}  # EXISTS wants one row
        yield from _stopped(below, stopped or enough or asked)


def tree(plan: Mapping[str, Any], depth: int = 0, *, figures: bool = True) -> list[str]:
    """A plan as indented lines."""
    words = [plan["Node Type"]]
    words += [f"on {plan['Relation Name']}"] if "Relation Name" in plan else []
    words += [f"by {plan['Index Name']}"] if "Index Name" in plan else []
    line = "  " * depth + " ".join(words)
    if figures:
        line += f"  (rows {plan['Plan Rows']}"
        if "Actual Rows" in plan:
            blocks = plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0)
            line += f" -> {plan['Actual Rows']} x{plan['Actual Loops']}, {plan['Actual Total Time']:.2f} ms, {blocks} blocks"
        line += ")"
    return [line, *(row for below in plan.get("Plans", []) for row in tree(below, depth + 1, figures=figures))]


def side_by_side(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Two plans, the source's on the left."""
    rows = zip_longest(["before", *tree(before)], ["after", *tree(after)], fillvalue="")
    return "\n".join(f"{left[:WIDTH]:{WIDTH}} | {right[:WIDTH]}".rstrip() for left, right in rows)


def _steps(query: Query, values: Values) -> tuple[str, str, str]:
    """Return what comes before EXPLAIN, what is explained, and what comes after the transaction."""
    if isinstance(values, Sent):
        said = "".join(f"SET LOCAL {name} = {literal(value)};\n" for name, value in values.settings.items())
        # A session that has asked for rows (`database.SESSION`) has row-level security off: an error for whoever is under it.
        role = f"SET LOCAL row_security = on; SET LOCAL ROLE {identifier(values.role)};\n" if values.role else ""
        return said + role, values.sql.rstrip().rstrip(";"), ""
    mode = "force_custom_plan" if values is not None else "force_generic_plan"
    known = values if values is not None else [None] * _placeholders(query.text)
    arguments = f"({', '.join(map(literal, known))})" if known else ""
    prepared = f"PREPARE sias_plan AS {query.text.rstrip().rstrip(';')};\n"
    return f"SET LOCAL plan_cache_mode = {mode};\n{prepared}", f"EXECUTE sias_plan{arguments}", " DEALLOCATE sias_plan;"


def _said(query: Query, error: UserError) -> str:
    """Return why a query fails; of a statement with values only what PostgreSQL says, and nothing that it quotes from them."""
    if not query.sent:
        return str(error)
    found = re.search(r"(?:ERROR|FATAL):\s+(.*)", str(error))
    if found is None:
        return "what was said may hold values, and is not shown"
    return _QUOTED.sub(lambda word: word[0] if word[1] in query.text else "…", _VALUE.sub("…", found[1]))


def _slower(before: Measure, after: Measure) -> bool:
    return after.median > TIMES * before.median and after.median - before.median > MORE_MS


def _more(measure: Measure, other: Measure) -> Measure:
    return Measure(other.plan, measure.times + other.times, min(measure.buffers, other.buffers), other.temporary)


def _with(finding: Finding, accepted: str) -> Finding:
    return Finding(
        finding.query, finding.parameters, finding.rule, finding.text, finding.before, finding.after, accepted
    )


def _shape(finding: Finding) -> str:
    return finding.after.shape if finding.after is not None else ""


def _sizes(database: Database) -> dict[str, int]:
    rows = database.ask(
        "SELECT relname AS name, max(reltuples)::bigint AS rows FROM pg_class WHERE relkind = 'r' GROUP BY 1"
    )
    return {row["name"]: row["rows"] for row in rows}


def _placeholders(text: str) -> int:
    return max((int(number) for number in re.findall(r"\$(\d+)", text)), default=0)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
