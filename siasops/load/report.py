"""Reports of a load test: result.json for machines, report.md for a ticket, report.html to look at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from siasops.drill.plot import LEFT, RIGHT, TICKS, WIDTH, Plot
from siasops.drill.report import STYLE
from siasops.load.resources import Usage
from siasops.load.samples import Sample, percentile

if TYPE_CHECKING:
    from siasops.load.run import Result
    from siasops.load.verdict import Verdict

WORDS = {"held": "every objective held", "failed": "an objective did not hold", "invalid": "the run says nothing"}
COLOURS = ("#2a6f97", "#e09f3e", "#2f855a", "#9b5de5", "#c53030", "#577590", "#bc6c25", "#43aa8b")
LATENCIES = (0.01, 0.1, 1.0, 10.0)
LABELLED = 4
"""Up to so many lines are told apart by a label."""
HIGH = 0.11
"""A scale reaches this share above its highest value."""
Series = Mapping[str, Sequence[tuple[float, float]]]


def write(
    folder: Path, result: Result, samples: Sequence[Sample], usages: Sequence[Usage], seen: Mapping[str, Series]
) -> None:
    """Write the three forms into the run's folder."""
    (folder / "result.json").write_text(
        json.dumps(result.as_json(), ensure_ascii=False, indent=2, default=str) + "\n", encoding="utf-8"
    )
    (folder / "report.md").write_text(markdown(result), encoding="utf-8")
    (folder / "report.html").write_text(html(result, samples, usages, seen), encoding="utf-8")


def rows(result: Result) -> list[tuple[str, str, str, str, str, str]]:
    """One row per kind: requests, failed, median, 95 %, worst."""
    return [
        (kind, f"{f['requests']}", f"{f['failed']}", ms(f["p50"]), ms(f["p95"]), ms(f["worst"]))
        for kind, f in result.verdict.figures.items()
    ]


def ms(seconds: float, digits: int = 0) -> str:
    """Seconds as milliseconds; a dash when there is no figure."""
    return "–" if math.isnan(seconds) else f"{seconds * 1000:.{digits}f} ms"


def costs(verdict: Verdict) -> list[tuple[str, str]]:
    """One row per group of processes, the dearest first: processor time per request."""
    return [(group, ms(used, 1)) for group, used in sorted(verdict.cost.items(), key=lambda item: -item[1])]


def markdown(result: Result) -> str:
    """Write the report for a ticket."""
    v = result.verdict
    lines = [
        f"# {result.scenario}: {WORDS[v.word]}", "",
        f"{result.environment}, {result.run}. {result.question}", "",
        *(f"**Invalid**: {c}." for c in v.complaints), "",
        "| objective | found | promised | |", "|---|---|---|---|",
        *(f"| {p.what} | {p.found} | {p.objective} | {'held' if p.held else '**not held**'} |" for p in v.promises), "",
        "| request | offered | failed | median | 95 % | worst |", "|---|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows(result)), "",
        "| phase | rate | requests | failed | limit |", "|---|---|---|---|---|",
        *(f"| {p['name']} | {p['rate']:g}/s | {p['requests']} | {p['failed']} | {p['limit']} |" for p in v.phases), "",
        *(("| processes | processor time per request |", "|---|---|") if v.cost else ()),
        *(f"| {group} | {used} |" for group, used in costs(v)), "",
        f"Limit: {v.limit}.", *(f"- {r}" for r in v.remarks), "",
    ]  # fmt: skip
    return "\n".join(lines)


def html(result: Result, samples: Sequence[Sample], usages: Sequence[Usage], seen: Mapping[str, Series]) -> str:
    """Write the page: self-contained, no script, no outside reference."""
    v = result.verdict
    colour = {"held": "var(--good)", "failed": "var(--bad)", "invalid": "var(--warn)"}[v.word]
    good = [s for s in samples if s.ok]
    cards = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)} <small>{escape(note)}</small></dd></div>"
        for name, value, note in (
            ("Offered", f"{result.rate:.0f}/s", f"{len(samples)} requests in all"),
            ("Failed", f"{len(samples) - len(good)}", f"of {len(samples)}"),
            ("95 % of all", ms(percentile((s.latency for s in good), 0.95)), "from the intended start"),
            ("Knee", "–" if v.knee is None else f"{v.knee:.0f}/s", "every objective held"),
        )
    )
    promises = "".join(
        f"<tr><td>{escape(p.what)}</td><td>{escape(p.found)}</td><td>{escape(p.objective)}</td>"
        f'<td class="{"yes" if p.held else "no"}">{"held" if p.held else "not held"}</td></tr>'
        for p in v.promises
    )
    figures = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows(result))
    phases = "".join(
        f"<tr><td>{escape(p['name'])}</td><td>{p['rate']:.1f}/s</td><td>{p['requests']}</td><td>{p['failed']}</td>"
        f"<td>{ms(p['p95'])}</td><td>{escape(p['limit'])}</td></tr>"
        for p in v.phases
    )
    trouble = "".join(f"<p>{escape(c)}</p>" for c in v.complaints)
    why = "".join(
        f"<tr><td>{escape(kind)}</td><td>{count}</td><td>{escape(reason)}</td></tr>"
        for kind, f in v.figures.items()
        for reason, count in sorted(f["why"].items(), key=lambda item: -item[1])[:5]
    )
    groups = sorted({g for u in usages for g in u.cores}, key=lambda g: -sum(u.cores.get(g, 0) for u in usages))[:8]
    key = "".join(f'<li><i style="background:{c}"></i>{escape(g)}</li>' for g, c in zip(groups, COLOURS, strict=False))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(result.scenario)}: {escape(v.word)}</title><style>{STYLE}
svg .trace {{ fill:none; stroke-width:1.6 }} {"".join(f"svg .c{i} {{ fill:{c}; stroke:{c} }}" for i, c in enumerate(COLOURS))}
svg .trace {{ fill:none }}</style></head>
<body style="--verdict:{colour}"><main>
<header><h1>{escape(result.scenario)}: <span class="verdict">{escape(WORDS[v.word])}</span></h1>
<p>{escape(result.question)}</p><p>{escape(result.environment)}, {escape(result.run)}. Limit: {escape(v.limit)}.</p></header>
{f"<section><h2>Invalid</h2>{trouble}</section>" if trouble else ""}
<dl class="big">{cards}</dl>
<section><h2>Timeline</h2><div class="scroll">{timeline(result, samples, usages, seen, groups)}</div>
<ul class="key"><li><i style="background:var(--hush)"></i>answered</li>
<li><i style="background:var(--warn)"></i>slower than 1 s</li>
<li><i style="background:var(--bad)"></i>failed</li>{key}</ul></section>
<section><h2>Objectives</h2><table><tr><th>Objective</th><th>Found</th><th>Promised</th><th></th></tr>{promises}</table></section>
<section><h2>Phases</h2><table><tr><th>Phase</th><th>Rate</th><th>Requests</th><th>Failed</th><th>95 %</th><th>Limit</th></tr>
{phases}</table></section>
<section><h2>Requests</h2><table><tr><th>Request</th><th>Offered</th><th>Failed</th>
<th>Median</th><th>95 %</th><th>Worst</th></tr>
{figures}</table></section>
{_costs(v)}{_reasons(why)}
<footer>{"".join(f"<p>{escape(r)}.</p>" for r in v.remarks)}{_missing(seen)}
Raw samples stand beside this page.
Latency counts from the time at which somebody came, not from when the request was sent.</footer>
</main></body></html>
"""


def _costs(verdict: Verdict) -> str:
    lines = "".join(f"<tr><td>{escape(group)}</td><td>{used}</td></tr>" for group, used in costs(verdict))
    head = "<tr><th>Processes</th><th>Per request</th></tr>"
    return f"<section><h2>Processor time</h2><table>{head}{lines}</table></section>" if lines else ""


def _reasons(rows_of_reasons: str) -> str:
    head = "<tr><th>Request</th><th>Times</th><th>Why</th></tr>"
    return (
        f"<section><h2>Why requests failed</h2><table>{head}{rows_of_reasons}</table></section>"
        if rows_of_reasons
        else ""
    )


def _missing(seen: Mapping[str, Series]) -> str:
    return (
        "" if seen else "<p>The platform's own figures are missing: its Prometheus was not asked or did not answer.</p>"
    )


def timeline(
    result: Result,
    samples: Sequence[Sample],
    usages: Sequence[Usage],
    seen: Mapping[str, Series],
    groups: Sequence[str],
) -> str:
    """Draw requests, latencies and resources on one axis of seconds."""
    end = max(p["begin"] + p["seconds"] for p in result.verdict.phases)
    plot = Plot(0.0, end)
    for p in result.verdict.phases:
        plot.rect((p["begin"], 4, p["begin"] + p["seconds"], 22), "phase", f"{p['name']}: {p['rate']:.1f}/s")
        if plot.x(p["begin"] + p["seconds"]) - plot.x(p["begin"]) > 7 * len(p["name"]):
            plot.text(plot.x(p["begin"] + p["seconds"] / 2), 19, p["name"], "phase-label", "middle")
    plot.y = 30
    width = max(1.0, round(end / 200))
    lane = plot.lane("Requests", "per second, when due", 90)
    plot.bars(
        lane,
        [
            ("http-ok", "answered", [s.intended for s in samples if s.ok and s.latency <= 1]),
            ("http-slow", "slow", [s.intended for s in samples if s.ok and s.latency > 1]),
            ("http-failed", "failed", [s.intended for s in samples if not s.ok]),
        ],
        width,
    )
    _latencies(plot, samples)
    if result.fault:
        plot.rect((result.fault.begin, 30, result.fault.end, plot.y - 30), "gap", f"drill {result.fault.name}")
    _traces(plot, "Processor", "cores in use", {g: [(u.at, u.cores.get(g, 0.0)) for u in usages] for g in groups}, 90)
    machine = {"processor": [(u.at, u.busy) for u in usages], "waiting for it": [(u.at, u.queued) for u in usages],
               "memory": [(u.at, u.memory) for u in usages],
               "waiting for disk": [(u.at, u.iowait) for u in usages]}  # fmt: skip
    _traces(plot, "Machine", "share in use", machine, 50)
    for what, series in seen.items():
        words = what.split(" ")
        _traces(plot, " ".join(words[:2]), " ".join(words[2:]), series, 50)
    step = next((s for s in (5, 10, 20, 60, 120, 300, 600) if end / s < TICKS), 3600)
    for second in range(0, int(end) + 1, step):
        plot.line((plot.x(second), plot.y - 8, plot.x(second), plot.y - 3), "base")
        plot.text(plot.x(second), plot.y + 10, f"{second} s", "tick", "middle")
    plot.y += 18
    return (
        f'<svg viewBox="0 0 {WIDTH} {plot.y:.0f}" role="img" aria-label="Requests, latencies and resources of '
        f'{escape(result.run)}" xmlns="http://www.w3.org/2000/svg">{"".join(plot.parts)}</svg>'
    )


def _latencies(plot: Plot, samples: Sequence[Sample]) -> None:
    top, bottom = plot.lane("Latency", "s, from the intended start", 130)
    low, high = math.log10(LATENCIES[0]), math.log10(LATENCIES[-1])

    def height(seconds: float) -> float:
        share = (math.log10(min(max(seconds, LATENCIES[0]), LATENCIES[-1])) - low) / (high - low)
        return bottom - share * (bottom - top)

    for value in LATENCIES:
        plot.line((LEFT, height(value), WIDTH - RIGHT, height(value)), "grid")
        plot.text(LEFT - 8, height(value) + 4, f"{value:g}", "tick", "end")
    # A page with a hundred thousand dots does not open: every failure is drawn, of the answers a fair sample.
    answered = [s for s in samples if s.ok]
    for s in [*answered[:: max(1, len(answered) // 4000)], *[s for s in samples if not s.ok][:2000]]:
        css = "http-ok" if s.ok and s.latency <= 1 else "http-slow" if s.ok else "http-failed"
        plot.dot(
            s.intended,
            height(s.latency),
            css,
            f"{s.kind}, room {s.room}, {s.latency * 1000:.0f} ms {s.why or s.served_by}",
        )


def _traces(plot: Plot, title: str, unit: str, series: Series, tall: float) -> None:
    top, bottom = plot.lane(title, unit, tall)
    scale = max((v for points in series.values() for _, v in points), default=0.0) * (1 + HIGH) or 1.0
    for number, (name, points) in enumerate(series.items()):
        path = " ".join(f"{plot.x(at):.1f},{bottom - v / scale * (bottom - top):.1f}" for at, v in points)
        plot.parts.append(
            f'<polyline class="trace c{number % len(COLOURS)}" points="{path}"><title>{escape(name)}</title></polyline>'
        )
        if points and len(series) <= LABELLED:
            plot.text(WIDTH - RIGHT - 4, top + 12 + 13 * number, name, f"tick c{number % len(COLOURS)}", "end")
    plot.text(LEFT - 8, top + 8, f"{scale:.3g}", "tick", "end")
