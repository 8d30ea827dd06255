"""The timeline of a drill as inline SVG: everything on one axis of seconds, zero being the fault."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from siasops.drill.history import History, Outcome
from siasops.drill.observer import Sight
from siasops.drill.verdict import Result

WIDTH = 1120
LEFT, RIGHT = 150, 24
BIN = 0.5
"""Seconds per bar of writes and reads."""
HTTP_BIN = 1.0
CHARACTER = 7.5
"""Pixels that a letter of a label takes."""
LETTERS = 4
"""A phase with room for fewer is not labelled."""
TICKS = 18
"""How many labels fit below the axis."""
LATENCIES = (0.01, 0.1, 1.0, 10.0)
"""Lines of the latency lane, seconds, logarithmic."""
REDUNDANCY = {True: ("redundant", "redundant"), False: ("single", "not redundant"), None: ("unseen", "not seen")}
"""The class and the words of what a look saw."""


class Plot:
    """Collects SVG elements; x is time."""

    def __init__(self, start: float, end: float) -> None:
        self.start = start
        self.end = max(end, start + 1)
        self.y = 0.0
        self.parts: list[str] = []
        self.above: list[tuple[float, float, str, str, str]] = []
        """Labels that no bar may cover, drawn last."""

    def x(self, at: float) -> float:
        """Horizontal position of a time."""
        at = min(max(at, self.start), self.end)
        return LEFT + (at - self.start) / (self.end - self.start) * (WIDTH - LEFT - RIGHT)

    def rect(self, box: tuple[float, float, float, float], css: str, title: str = "") -> None:
        """Draw a rectangle from (time, y, time, height)."""
        begin, y, end, height = box
        left, right = self.x(begin), self.x(end)
        tip = f"<title>{escape(title)}</title>" if title else ""
        self.parts.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{max(right - left, 0.5):.1f}" height="{max(height, 0):.1f}" '
            f'class="{css}">{tip}</rect>'
        )

    def text(self, x: float, y: float, text: str, css: str = "label", anchor: str = "start") -> None:
        """Write at pixels."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(text)}</text>')

    def line(self, points: tuple[float, float, float, float], css: str) -> None:
        """Draw a line between pixels."""
        x1, y1, x2, y2 = points
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>')

    def dot(self, at: float, y: float, css: str, title: str = "") -> None:
        """Draw a dot."""
        tip = f"<title>{escape(title)}</title>" if title else ""
        self.parts.append(f'<circle cx="{self.x(at):.1f}" cy="{y:.1f}" r="2.2" class="{css}">{tip}</circle>')

    def lane(self, title: str, unit: str, height: float) -> tuple[float, float]:
        """Open a lane; returns its top and bottom."""
        top = self.y + 12
        bottom = top + height
        self.text(0, top + 12, title, "lane")
        self.text(0, top + 28, unit, "unit")
        self.line((LEFT, bottom, WIDTH - RIGHT, bottom), "base")
        self.y = bottom + 8
        return top, bottom

    def bars(
        self, lane: tuple[float, float], series: Sequence[tuple[str, str, Iterable[float]]], width: float
    ) -> float:
        """Draw stacked bars of counts per second; returns the top of the scale."""
        top, bottom = lane
        counts = [
            (css, name, Counter(math.floor((at - self.start) / width) for at in times if self.start <= at < self.end))
            for css, name, times in series
        ]
        bins = range(math.ceil((self.end - self.start) / width))
        highest = max((sum(c[b] for _, _, c in counts) for b in bins), default=0) / width
        scale = _round_up(highest * 1.08)
        for b in bins:
            y = bottom
            begin = self.start + b * width
            for css, name, count in counts:
                if not count[b]:
                    continue
                height = count[b] / width / scale * (bottom - top)
                y -= height
                self.rect(
                    (begin, y, begin + width * 0.92, height), css, f"{begin:+.1f} s: {count[b] / width:g}/s {name}"
                )
        for value in (scale, scale / 2):
            y = bottom - value / scale * (bottom - top)
            self.line((LEFT, y, WIDTH - RIGHT, y), "grid")
            self.text(LEFT - 8, y + 4, f"{value:g}", "tick", "end")
        return scale


def timeline(result: Result, history: History, sights: Sequence[Sight]) -> str:
    """Draw the whole run; returns an `<svg>` element without any outside reference."""
    zero = result.moments.fault
    plot = Plot(result.moments.baseline - zero - 1, result.moments.end - zero + 1)
    _phases(plot, result)
    _spans(plot, result)
    bodies_from = plot.y
    _writes(plot, result, history)
    _reads(plot, result, history)
    _http(plot, result, history)
    _documents(plot, result, history)
    _leaders(plot, result, sights)
    _axis(plot, result.event)
    zero_x = plot.x(0.0)
    plot.line((zero_x, bodies_from, zero_x, plot.y - 24), "fault-line")
    for label in plot.above:
        plot.text(*label)
    title = f"Timeline of {result.run}: writes, reads, requests, documents and leaders around the {result.event}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {plot.y:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(plot.parts)}</svg>'
    )


def _phases(plot: Plot, result: Result) -> None:
    moments, zero = result.moments, result.moments.fault
    bounds = [
        ("baseline", moments.baseline - zero, 0.0, "phase"),
        (
            f"{result.event} {'under way' if result.spans else 'in force'}",
            0.0,
            moments.healed - zero,
            "phase phase-fault",
        ),
        (
            "converging" if result.spans else "healed, converging",
            moments.healed - zero,
            moments.converged - zero,
            "phase phase-heal",
        ),
        ("", moments.converged - zero, moments.end - zero, "phase"),
    ]
    for name, begin, end, css in bounds:
        plot.rect((begin, 4, end, 22), css, f"{name or 'aftermath'}: {end - begin:.1f} s")
        middle = (plot.x(begin) + plot.x(end)) / 2
        if name and plot.x(end) - plot.x(begin) > CHARACTER * len(name):
            plot.text(middle, 19, name, "phase-label", "middle")
    plot.y = 30


def _spans(plot: Plot, result: Result) -> None:
    """Draw a change's phases, each with its whole title on hover and as much of it as fits."""
    if not result.spans:
        return
    top, _ = plot.lane("Phases", "of the change", 26)
    for number, span in enumerate(result.spans):
        begin, end = span.begin - result.moments.fault, span.end - result.moments.fault
        plot.rect((begin, top + 2, end, 22), f"span-{number % 2}", f"{span.title}: {end - begin:.1f} s")
        room = int((plot.x(end) - plot.x(begin)) / CHARACTER)
        if room > LETTERS:
            label = span.title if len(span.title) <= room else f"{span.title[: room - 1]}…"
            plot.text((plot.x(begin) + plot.x(end)) / 2, top + 17, label, "phase-label", "middle")


def _shade(plot: Plot, lane: tuple[float, float], span: tuple[float, float], label: str) -> None:
    begin, end = span
    plot.rect((begin, lane[0], end, lane[1] - lane[0]), "gap", label)
    inside = plot.x(end) - plot.x(begin) > CHARACTER * len(label)
    at = (plot.x(begin) + plot.x(end)) / 2 if inside else plot.x(end) + 6
    plot.above.append((at, lane[0] + 14, label, "gap-label", "middle" if inside else "start"))


def _writes(plot: Plot, result: Result, history: History) -> None:
    zero = result.moments.fault
    homes = sorted({op.home for op in history.ledger})
    lane = plot.lane("Writes", "acknowledged per second", 130)
    good = [op for op in history.ledger if op.outcome is Outcome.OK and op.ended is not None]
    if result.write_gap and result.write_gap.seconds > BIN:
        gap = result.write_gap
        _shade(plot, lane, (gap.start - zero, gap.end - zero), f"{gap.seconds:.2f} s without a write")
    plot.bars(
        lane,
        [
            (f"room-{home}", f"by users of room {home}", [(op.ended or 0) - zero for op in good if op.home == home])
            for home in homes
        ],
        BIN,
    )
    for op in history.ledger:
        if op.outcome is not Outcome.OK and op.ended is not None:
            css = "unknown" if op.outcome is Outcome.UNKNOWN else "refused"
            plot.dot(
                op.ended - zero, lane[1] - 3, css, f"client {op.client} sequence {op.sequence}: {op.outcome}, {op.why}"
            )


def _reads(plot: Plot, result: Result, history: History) -> None:
    zero = result.moments.fault
    lane = plot.lane("Reads", "answered per second", 60)
    if result.read_gap and result.read_gap.seconds > BIN:
        gap = result.read_gap
        _shade(plot, lane, (gap.start - zero, gap.end - zero), f"{gap.seconds:.2f} s, worst room")
    plot.bars(
        lane,
        [
            (
                f"room-{home}",
                f"by users of room {home}",
                [r.ended - zero for r in history.reads if r.outcome is Outcome.OK and r.home == home],
            )
            for home in sorted({r.home for r in history.reads})
        ],
        HTTP_BIN,
    )


def _http(plot: Plot, result: Result, history: History) -> None:
    zero = result.moments.fault
    slow = 1.0
    lane = plot.lane("Requests", "per second, when due", 90)
    kinds = [
        ("http-ok", "answered", [r.intended - zero for r in history.http if r.ok and r.latency <= slow]),
        ("http-slow", "slow", [r.intended - zero for r in history.http if r.ok and r.latency > slow]),
        ("http-failed", "failed", [r.intended - zero for r in history.http if not r.ok]),
    ]
    plot.bars(lane, kinds, HTTP_BIN)
    lane = plot.lane("Latency", "seconds, each request", 90)
    top, bottom = lane
    low, high = math.log10(LATENCIES[0]), math.log10(LATENCIES[-1])

    def height(seconds: float) -> float:
        share = (math.log10(min(max(seconds, LATENCIES[0]), LATENCIES[-1])) - low) / (high - low)
        return bottom - share * (bottom - top)

    for value in LATENCIES:
        plot.line((LEFT, height(value), WIDTH - RIGHT, height(value)), "grid")
        plot.text(LEFT - 8, height(value) + 4, f"{value:g}", "tick", "end")
    for request in history.http:
        css = "http-ok" if request.ok and request.latency <= slow else "http-slow" if request.ok else "http-failed"
        said = (
            f"{request.kind} at room {request.room}, {request.latency * 1000:.0f} ms {request.why or request.served_by}"
        )
        plot.dot(request.intended - zero, height(request.latency), css, said)


def _documents(plot: Plot, result: Result, history: History) -> None:
    zero = result.moments.fault
    top, bottom = plot.lane("Documents", "stored, and read back", 34)
    for op in history.documents:
        css = {Outcome.OK: "doc-ok", Outcome.UNKNOWN: "unknown", Outcome.FAILED: "http-failed"}[op.outcome]
        end = op.ended if op.ended is not None else result.moments.end
        plot.rect(
            (op.invoked - zero, top + 6, max(end - zero, op.invoked - zero + 0.25), 9),
            css,
            f"document {op.number} through room {op.room}: {op.outcome} after {end - op.invoked:.2f} s {op.why}",
        )
    for read in history.document_reads:
        if not read.final:
            said = f"document {read.number} through room {read.room}: {'same' if read.sha256 else read.why}"
            plot.dot(read.ended - zero, bottom - 8, "http-ok" if read.sha256 else "http-failed", said)


def _leaders(plot: Plot, result: Result, sights: Sequence[Sight]) -> None:
    zero = result.moments.fault
    top, _ = plot.lane("Who led", "acknowledged writes", 26)
    order = sorted({term.node for term in result.terms})
    for term in result.terms:
        css = f"leader leader-{order.index(term.node) % 4}"
        begin, end = term.first - zero, term.last - zero
        plot.rect((begin, top + 2, end, 22), css, f"{term.node}, timeline {term.timeline}: {term.count} writes")
        for label in (f"{term.node} · timeline {term.timeline}", term.node):
            if plot.x(end) - plot.x(begin) > CHARACTER * len(label):
                plot.text((plot.x(begin) + plot.x(end)) / 2, top + 17, label, "phase-label", "middle")
                break
    top, _ = plot.lane("Redundancy", "of the database", 16)
    changes = [s for i, s in enumerate(sights) if i == 0 or s.redundant != sights[i - 1].redundant]
    for now, after in pairwise([*changes, *sights[-1:]]):
        css, said = REDUNDANCY[now.redundant]
        if plot.start < after.at - zero and now.at - zero < plot.end:
            plot.rect((now.at - zero, top + 2, after.at - zero, 12), css, f"{said} from {now.at - zero:+.1f} s")


def _axis(plot: Plot, zero: str) -> None:
    span = plot.end - plot.start
    step = next(s for s in (5, 10, 20, 60, 300) if span / s < TICKS or s == 300)  # noqa: PLR2004 - the coarsest
    for second in range(math.ceil(plot.start / step) * step, math.floor(plot.end) + 1, step):
        plot.line((plot.x(second), plot.y - 8, plot.x(second), plot.y - 3), "base")
        plot.text(plot.x(second), plot.y + 10, f"{second:+d} s" if second else zero, "tick", "middle")
    plot.y += 18


def _round_up(value: float) -> float:
    """Return a round number at or above the value: 1, 2, 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if m * power >= value)
