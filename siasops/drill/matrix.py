"""Many runs side by side: drills x runs, distributions of their gaps, and what zero losses in n runs prove."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from siasops.drill.plot import CHARACTER, Plot
from siasops.drill.report import STYLE

MEASURES = {
    "write_gap": "no write",
    "read_gap": "no read",
    "document_wait": "document wait",
    "redundancy_back": "redundant again",
}
"""Figures of which a distribution is shown, and what they are called."""
COMPARED = "write_gap"


@dataclass(frozen=True)
class Spread:
    """A distribution, in seconds; nearest rank, so that every figure was really measured."""

    n: int
    p50: float
    p95: float
    worst: float


def spread(values: Sequence[float]) -> Spread | None:
    """Describe a distribution; None when there is nothing to describe."""
    if not values:
        return None
    ordered = sorted(values)

    def rank(q: float) -> float:
        return ordered[max(0, math.ceil(q * len(ordered)) - 1)]

    return Spread(len(ordered), rank(0.5), rank(0.95), ordered[-1])


@dataclass
class Row:
    """All runs of one drill."""

    drill: str
    verdicts: list[str] = field(default_factory=list)
    writes: int = 0
    lost: int = 0
    documents: int = 0
    documents_lost: int = 0
    bound: float | None = None
    """Highest rate of runs with a loss that zero losses in so many runs leave possible (95 %); None after a loss."""
    spreads: dict[str, Spread | None] = field(default_factory=dict)
    before: dict[str, Spread | None] = field(default_factory=dict)
    """The same in the campaign that it is compared with."""
    goals: dict[str, tuple[float, bool | None]] = field(default_factory=dict)
    """Goals for 95 % of the runs (measure to limit and whether it is met; None = not measured)."""


def rows(
    results: Sequence[Mapping[str, Any]], objectives: Mapping[str, Any], before: Sequence[Mapping[str, Any]] = ()
) -> list[Row]:
    """Gather results by drill, in the order of their names."""
    made = []
    for name in sorted({str(r["name"]) for r in results}):
        mine = [r for r in results if r["name"] == name]
        # A run whose load was not offered says nothing, except when it lost something.
        told = [r for r in mine if r["verdict"] != "invalid" or r["figures"]["writes_lost"]]
        figures = [r["figures"] for r in told]
        lost = sum(f["writes_lost"] for f in figures)
        gone = sum(f["documents_lost"] for f in figures)
        row = Row(
            drill=name,
            verdicts=[r["verdict"] for r in mine],
            writes=sum(f["writes_acknowledged"] for f in figures),
            lost=lost,
            documents=sum(f["documents_acknowledged"] for f in figures),
            documents_lost=gone,
            bound=min(1.0, 3 / len(told)) if told and not lost and not gone else None,
            spreads=_spreads(told),
            before=_spreads([r for r in before if r["name"] == name]),
        )
        for key, limit in objectives["drills_p95"].get(name.replace("-", "_"), {}).items():
            found = row.spreads.get(key)
            row.goals[key] = limit, None if found is None else found.p95 <= limit
        made.append(row)
    return made


def _spreads(results: Sequence[Mapping[str, Any]]) -> dict[str, Spread | None]:
    # A gap that did not end has no length: its run has failed, and is not hidden in a percentile.
    return {key: spread([r["figures"][key] for r in results if r["figures"].get(key) is not None]) for key in MEASURES}


def as_json(made: Sequence[Row]) -> list[dict[str, Any]]:
    """Plain data."""
    return [asdict(row) for row in made]


def cell(found: Spread | None) -> str:
    """Show a distribution in a table: median / 95 % / worst."""
    if found is None:
        return "-"
    return "/".join(f"{x:.1f}" if x >= 10 else f"{x:.2f}" for x in (found.p50, found.p95, found.worst))  # noqa: PLR2004


def change(row: Row) -> str:
    """Say how a drill's longest time without a write compares with the campaign before."""
    now, then = row.spreads.get(COMPARED), row.before.get(COMPARED)
    return "" if now is None or then is None else f"{now.p95 - then.p95:+.2f} s"


def bound(row: Row) -> str:
    """Say what was lost, or what the runs leave possible."""
    if row.lost or row.documents_lost:
        return f"{row.lost} writes, {row.documents_lost} documents LOST"
    return "nothing" if row.bound is None or row.bound >= 1 else f"nothing; under {row.bound:.1%} of runs"


def goals(row: Row) -> str:
    """Say whether the goals are met."""
    return ", ".join(
        f"{MEASURES[key]} 95 % at most {limit:g} s: " + {True: "met", False: "not met", None: "not measured"}[met]
        for key, (limit, met) in row.goals.items()
    )


MORE = """
.matrix td.run { padding:4px 2px; min-width:20px; text-align:center } .matrix a { text-decoration:none; display:inline-block;
  width:16px; height:16px; border-radius:4px } .held { background:var(--good) } .failed { background:var(--bad) }
.invalid { background:var(--warn) } .none { background:var(--hush) } td.n { white-space:nowrap }
svg .dot { fill:var(--a); opacity:.75 } svg .old { fill:none; stroke:var(--hush) } svg .limit { stroke:var(--bad);
  stroke-dasharray:3 3 } svg .no-write { fill:var(--bad); opacity:.85 } svg .no-read { fill:var(--warn) }
"""


def html(
    title: str,
    made: Sequence[Row],
    results: Sequence[Mapping[str, Any]],
    *,
    objectives: Mapping[str, Any],
    notes: Sequence[str],
    before: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Write the page: self-contained, no script, no outside reference but the runs' own pages beside it."""
    verdicts = [v for row in made for v in row.verdicts]
    all_held = bool(verdicts) and all(v == "held" for v in verdicts)
    colour = "var(--good)" if all_held else "var(--bad)" if "failed" in verdicts else "var(--warn)"
    cards = [
        ("Runs", f"{len(verdicts)}", f"of {len(made)} drills"),
        (
            "Held",
            f"{verdicts.count('held')}",
            f"{verdicts.count('failed')} failed, {verdicts.count('invalid')} invalid",
        ),
        ("Writes lost", f"{sum(r.lost for r in made)}", f"of {sum(r.writes for r in made)} acknowledged"),
        ("Documents lost", f"{sum(r.documents_lost for r in made)}", f"of {sum(r.documents for r in made)}"),
    ]
    big = "".join(
        f"<div><dt>{escape(a)}</dt><dd>{escape(b)} <small>{escape(c)}</small></dd></div>" for a, b, c in cards
    )
    head = "".join(
        f"<th>{escape(name)}</th>" for name in ("Drill", "Runs", "Lost", *MEASURES.values(), "Goals", "Change")
    )
    body = "".join(
        f"<tr><td>{escape(r.drill)}</td><td>{r.verdicts.count('held')} of {len(r.verdicts)} held</td>"
        f'<td class="{"no" if r.lost or r.documents_lost else ""}">{escape(bound(r))}</td>'
        + "".join(f'<td class="n">{cell(r.spreads.get(key))}</td>' for key in MEASURES)
        + f'<td class="{"no" if any(met is False for _, met in r.goals.values()) else ""}">{escape(goals(r))}</td>'
        f'<td class="n">{escape(change(r))}</td></tr>'
        for r in made
    )
    grid = "".join(
        f"<tr><td>{escape(r.drill)}</td>"
        + "".join(
            f'<td class="run"><a class="{x["verdict"]}" href="../../{escape(x["run"])}/report.html" '
            f'title="{escape(x["run"])}: {escape(x["verdict"])}"></a></td>'
            for x in results
            if x["name"] == r.drill
        )
        + "</tr>"
        for r in made
    )
    said = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}{MORE}</style></head>
<body style="--verdict:{colour}"><main>
<header><h1>{escape(title)}</h1></header>
<dl class="big">{big}</dl>
<section><h2>Drills</h2><div class="scroll"><table><tr>{head}</tr>{body}</table></div>
<p>Seconds: median / 95 % / worst, each of them measured in a run. “Under x % of runs”: with no loss in n runs the rate of
runs with a loss is below 3/n with 95 % confidence. Change: the 95 % without a write, against the campaign before.</p></section>
<section><h2>Time without a write</h2><div class="scroll">{distributions(made, results, before, objectives)}</div></section>
<section><h2>Drills x runs</h2><div class="scroll"><table class="matrix">{grid}</table></div></section>
<section><h2>Timelines</h2><div class="scroll">{timelines(results)}</div></section>
{f"<section><h2>Notes</h2><ul>{said}</ul></section>" if said else ""}
</main></body></html>
"""


def distributions(
    made: Sequence[Row],
    results: Sequence[Mapping[str, Any]],
    before: Sequence[Mapping[str, Any]],
    objectives: Mapping[str, Any],
) -> str:
    """Draw every run's longest time without a write: a dot each, hollow ones from the campaign before."""

    def of(runs: Sequence[Mapping[str, Any]], name: str) -> list[float]:
        return [r["figures"][COMPARED] for r in runs if r["name"] == name and r["figures"].get(COMPARED) is not None]

    highest = max((value for r in made for value in of(results, r.drill)), default=1.0)
    plot = Plot(0.0, max(1.0, highest * 1.05))
    for row in made:
        top, bottom = plot.lane(row.drill, "", 18)
        key = row.drill.replace("-", "_")
        goal = {**objectives["drills"].get(key, {}), **objectives["drills_p95"].get(key, {})}.get(COMPARED)
        if goal is not None and goal <= plot.end:
            plot.line((plot.x(goal), top, plot.x(goal), bottom), "limit")
        for value in of(before, row.drill):
            plot.dot(value, top + 6, "old", f"before: {value:.2f} s")
        for value in of(results, row.drill):
            plot.dot(value, top + 12, "dot", f"{value:.2f} s")
    _ticks(plot, " s")
    return _svg(plot, "Longest time without an acknowledged write, each run a dot")


def timelines(results: Sequence[Mapping[str, Any]]) -> str:
    """Draw every run as a line: when the fault was in force, when nobody could write, when a room could not read."""
    shown = sorted(results, key=lambda r: (r["name"], r["run"]))
    plot = Plot(-2.0, max((r["figures"].get("converged", 0.0) for r in shown), default=1.0) + 2)
    last = ""
    for r in shown:
        f = r["figures"]
        top = plot.y + 2
        if r["name"] != last:
            top += 6
            plot.text(0, top + 9, r["name"])
            last = r["name"]
        tip = f"{r['run']}: {r['verdict']}"
        plot.rect((0.0, top, f.get("converged", 0.0), 9), "phase", tip)
        plot.rect((0.0, top, f.get("held_for", 0.0), 9), "phase-fault phase", tip)
        for key, css, at in (("write_gap_at", "no-write", top + 1), ("read_gap_at", "no-read", top + 5)):
            span = f.get(key)
            if span and span[1] - span[0] > 0.2:  # noqa: PLR2004 - what the eye can see
                plot.rect((span[0], at, span[1], 3), css, f"{key.removesuffix('_at')} {span[1] - span[0]:.2f} s")
        plot.y = top + 9
    _ticks(plot, " s")
    return _svg(plot, "Every run on one axis, zero being the fault")


def _ticks(plot: Plot, unit: str) -> None:
    span = plot.end - plot.start
    pixels: Callable[[float], float] = plot.x
    step = next(
        s for s in (0.5, 1, 2, 5, 10, 20, 50, 100, 1000) if pixels(plot.start + s) - pixels(plot.start) > 6 * CHARACTER
    )
    plot.y += 12
    for n in range(math.ceil(plot.start / step), math.floor((plot.start + span) / step) + 1):
        plot.line((plot.x(n * step), plot.y - 8, plot.x(n * step), plot.y - 3), "base")
        plot.text(plot.x(n * step), plot.y + 10, f"{n * step:g}{unit}", "tick", "middle")
    plot.y += 18


def _svg(plot: Plot, title: str) -> str:
    return (
        f'<svg viewBox="0 0 1120 {plot.y:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(plot.parts)}</svg>'
    )
