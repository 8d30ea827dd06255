"""Reports of a drill: result.json for machines, report.md for a ticket, report.html to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from siasops.drill.history import History
from siasops.drill.observer import Sight
from siasops.drill.plot import timeline
from siasops.drill.verdict import Result
from siasops.inventory import Inventory

WORDS = {"held": "Every promise held", "failed": "A promise did not hold", "invalid": "The load was not fully offered"}


def write(folder: Path, result: Result, history: History, sights: Sequence[Sight]) -> None:
    """Write the three forms into the run's folder."""
    (folder / "result.json").write_text(
        json.dumps(result.as_json(), ensure_ascii=False, indent=2, default=str) + "\n", encoding="utf-8"
    )
    (folder / "report.md").write_text(markdown(result), encoding="utf-8")
    (folder / "report.html").write_text(html(result, history, sights), encoding="utf-8")


def past(inventory: Inventory) -> list[dict[str, Any]]:
    """Return the results of the drills that came to a verdict here, the latest first."""
    found = []
    for path in sorted((inventory.var / "drills").glob("*/result.json"), reverse=True):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result.get("environment") == inventory.environment:
            found.append({**result, "folder": str(path.parent)})
    return found


def figure_rows(result: Result) -> list[tuple[str, str]]:
    """Name every figure that is worth a line."""
    f = result.figures
    rows = [
        ("Writes acknowledged / refused / unknown",
         f"{f['writes_acknowledged']} / {f['writes_refused']} / {f['writes_unknown']}"),
        ("Unknown writes that landed / did not", f"{f['unknown_landed']} / {f['unknown_absent']}"),
        ("Database hosts read back", f"{', '.join(f['nodes_read'])}: {f['rows']} rows each"),
        ("Longest time without a write, by home room", _by(f["write_gap_by_room"])),
        ("Longest time without a read, by home room and path", _by(f["read_gap_by_room"])),
        ("Oldest answer of a replica, of the primary",
         f"{f['replica_staleness']} s, {f['primary_staleness']} s behind the acknowledged writes"),
        ("Transfers, claims, writes of a node by itself",
         f"{f['transfers']}, {f['claims']}, {f['probes']}; {f['snapshots']} snapshots of the bank added up"),
        ("Who acknowledged writes, in order", ", ".join(f["leaders"]) or "nobody"),
        ("Documents acknowledged / unknown / read back",
         f"{f['documents_acknowledged']} / {f['documents_unknown']} / {f['documents_read_back']}"),
        ("Longest wait to store a document", _s(f["document_wait"])),
        (f"{result.event.capitalize()} lasted", _s(f["held_for"])),
        ("Longest time without any HTTP success", _s(f["http_gap"])),
    ]  # fmt: skip
    for kind, h in f["http"].items():
        rows.append((
            f"HTTP {kind}s: offered, failed, slow",
            f"{h['requests']} ({h['offered']:.1%} of the schedule), {h['failed']} failed, {h['slow']} slower than 1 s; "
            f"median {h['p50'] * 1000:.0f} ms, 95 % {h['p95'] * 1000:.0f} ms, worst {h['worst']:.2f} s",
        ))  # fmt: skip
    return rows


def markdown(result: Result) -> str:
    """Write the report for a ticket."""
    lines = [
        f"# {result.name}: {WORDS[result.verdict].lower()}",
        "",
        f"{result.environment}, {_when(result.run)}: {result.story}.",
        "",
        "| promise | found | objective | |",
        "|---|---|---|---|",
        *(
            f"| {p.what} | {p.found} | {p.objective} | {'held' if p.held else '**not held**'} |"
            for p in result.promises
        ),
        "",
    ]
    if result.findings:
        lines += ["## What did not hold", "", *(f"- {f.rule} ({f.count}): {f.text}" for f in result.findings), ""]
    if not result.valid:
        lines += ["The HTTP load was not fully offered: its figures say nothing.", ""]
    lines += [
        *_phases(result),
        "## Figures",
        "",
        "| figure | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in figure_rows(result)),
        "",
        "## Who acknowledged writes",
        "",
        *(
            f"- {t.node}, timeline {t.timeline}: {t.count} writes, from {t.first - result.moments.fault:+.2f} s to "
            f"{t.last - result.moments.fault:+.2f} s around the {result.event}"
            for t in result.terms
        ),
        "",
    ]
    return "\n".join(lines)


def _phases(result: Result) -> list[str]:
    if not result.spans:
        return []
    zero = result.moments.fault
    rows = (f"| {s.title} | {s.begin - zero:+.1f} s | {s.end - s.begin:.1f} s |" for s in result.spans)
    return ["## Phases", "", "| phase | began | took |", "|---|---|---|", *rows, ""]


STYLE = """
:root { --ink:#1d2433; --soft:#5b6475; --paper:#ffffff; --page:#f4f5f8; --rule:#dde1e8; --a:#2a6f97; --b:#e09f3e;
  --good:#2f855a; --bad:#c53030; --warn:#d69e2e; --gap:#c5303022; --hush:#94a0b4; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e9f0; --soft:#9aa4b8; --paper:#1b202b; --page:#12161f;
  --rule:#2e3646; --a:#61a5c2; --b:#f2b85b; --good:#68d391; --bad:#fc8181; --warn:#f6c453; --gap:#fc818133;
  --hush:#66718a; } }
* { box-sizing:border-box } body { margin:0; background:var(--page); color:var(--ink);
  font:16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
main { max-width:1240px; margin:0 auto; padding:32px 24px 64px }
header { border-left:8px solid var(--verdict); padding:4px 0 4px 20px; margin-bottom:28px }
h1 { margin:0; font-size:30px; line-height:1.2 } h2 { font-size:19px; margin:0 0 12px }
header p { margin:6px 0 0; color:var(--soft) } .verdict { color:var(--verdict); font-weight:700 }
section { background:var(--paper); border:1px solid var(--rule); border-radius:10px; padding:22px 24px; margin:0 0 22px }
.big { display:grid; grid-template-columns:repeat(auto-fit,minmax(145px,1fr)); gap:14px; margin:0 0 22px; padding:0 }
.big div { background:var(--paper); border:1px solid var(--rule); border-radius:10px; padding:14px 18px }
.big dt { color:var(--soft); font-size:13px } .big dd { margin:2px 0 0; font-size:26px; font-weight:650;
  font-variant-numeric:tabular-nums } .big small { display:block; font-size:13px; font-weight:400; color:var(--soft) }
table { width:100%; border-collapse:collapse; font-size:15px } th { text-align:left; color:var(--soft); font-weight:600 }
th,td { padding:8px 12px 8px 0; border-bottom:1px solid var(--rule); vertical-align:top }
tr:last-child td { border-bottom:0 } td { font-variant-numeric:tabular-nums }
.yes { color:var(--good); font-weight:650 } .no { color:var(--bad); font-weight:700 }
.scroll { overflow-x:auto } svg { display:block; width:100%; min-width:820px; height:auto }
svg text { font:12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill:var(--ink) }
svg .lane { font-weight:650; font-size:13px } svg .unit, svg .tick { fill:var(--soft); font-size:11px }
svg .base { stroke:var(--hush) } svg .grid { stroke:var(--rule) } svg .fault-line { stroke:var(--bad); stroke-width:1.5;
  stroke-dasharray:4 3 }
svg .room-a { fill:var(--a) } svg .room-b { fill:var(--b) } svg .gap { fill:var(--gap) }
svg .gap-label { fill:var(--bad); font-weight:650; paint-order:stroke; stroke:var(--paper); stroke-width:4px }
svg .phase { fill:var(--rule) } svg .phase-fault { fill:var(--bad); opacity:.8 } svg .phase-heal { fill:var(--warn); opacity:.75 }
svg .span-0 { fill:var(--a); opacity:.55 } svg .span-1 { fill:var(--b); opacity:.55 }
svg .phase-label { font-size:12px; font-weight:600 }
svg .http-ok { fill:var(--hush) } svg .http-slow { fill:var(--warn) } svg .http-failed { fill:var(--bad) }
svg .doc-ok { fill:var(--good) } svg .unknown { fill:var(--warn) } svg .refused { fill:var(--bad) }
svg .leader { opacity:.85 } svg .leader-0 { fill:var(--a) } svg .leader-1 { fill:var(--b) } svg .leader-2 { fill:var(--good) }
svg .leader-3 { fill:var(--hush) } svg .redundant { fill:var(--good) } svg .single { fill:var(--warn) }
svg .unseen { fill:var(--rule) }
.key { display:flex; flex-wrap:wrap; gap:6px 20px; margin:14px 0 0; padding:0; list-style:none; font-size:13px;
  color:var(--soft) } .key i { display:inline-block; width:12px; height:12px; border-radius:3px; margin-right:6px;
  vertical-align:-1px }
footer { color:var(--soft); font-size:13px }
@media print { body { background:#fff } section, .big div { break-inside:avoid } }
"""


def html(result: Result, history: History, sights: Sequence[Sight]) -> str:
    """Write the page: self-contained, no script, no outside reference."""
    f = result.figures
    colour = {"held": "var(--good)", "failed": "var(--bad)", "invalid": "var(--warn)"}[result.verdict]
    failed = sum(h["failed"] for h in f["http"].values())
    requests = sum(h["requests"] for h in f["http"].values())
    big = [
        ("Writes lost", f"{f['writes_lost']}", f"of {f['writes_acknowledged']} acknowledged"),
        ("Without a write", _s(f["write_gap"]), "longest, either room"),
        ("Without a read", _s(f["read_gap"]), "longest, worst room"),
        ("Documents lost", f"{f['documents_lost']}", f"of {f['documents_acknowledged']}"),
        ("Document wait", _s(f["document_wait"]), "longest, to store one"),
        ("Requests failed", f"{failed}", f"of {requests}"),
        ("Redundancy back", _s(f["redundancy_back"]), "both rooms hold all"),
    ]
    promises = "".join(
        f"<tr><td>{escape(p.what)}</td><td>{escape(p.found)}</td><td>{escape(p.objective)}</td>"
        f'<td class="{"yes" if p.held else "no"}">{"held" if p.held else "not held"}</td></tr>'
        for p in result.promises
    )
    findings = "".join(
        f"<tr><td>{escape(x.rule)}</td><td>{x.count}</td><td>{escape(x.text)}</td></tr>" for x in result.findings
    )
    trouble = (
        f"<section><h2>What did not hold</h2><table><tr><th>Rule</th><th>Times</th><th>Found</th></tr>{findings}"
        "</table></section>"
        if findings
        else ""
    )
    starved = "" if result.valid else "<section><h2>Invalid</h2><p>The HTTP load was not fully offered.</p></section>"
    figures = "".join(f"<tr><td>{escape(n)}</td><td>{escape(v)}</td></tr>" for n, v in figure_rows(result))
    key = "".join(
        f'<li><i style="background:var({var})"></i>{escape(name)}</li>'
        for var, name in (
            ("--a", "users of room a"),
            ("--b", "users of room b"),
            ("--hush", "answered"),
            ("--warn", "slower than 1 s, or unknown"),
            ("--bad", "failed or refused"),
            ("--good", "stored, redundant"),
        )
    )
    cards = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)} <small>{escape(note)}</small></dd></div>"
        for name, value, note in big
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(result.name)}: {escape(result.verdict)}</title><style>{STYLE}</style></head>
<body style="--verdict:{colour}"><main>
<header><h1>{escape(result.name)}: <span class="verdict">{escape(WORDS[result.verdict].lower())}</span></h1>
<p>{escape(result.environment)}, {escape(_when(result.run))}. {escape(result.story)}.</p></header>
<dl class="big">{cards}</dl>
<section><h2>Timeline</h2><div class="scroll">{timeline(result, history, sights)}</div><ul class="key">{key}</ul></section>
<section><h2>Promises</h2><table><tr><th>Promise</th><th>Found</th><th>Objective</th><th></th></tr>{promises}</table></section>
{trouble}{starved}
<section><h2>Figures</h2><table>{figures}</table></section>
<footer>Run {escape(result.run)}, {result.seconds:.0f} s in all. Clients ran outside both rooms; times are theirs.
Raw operations stand beside this page.</footer>
</main></body></html>
"""


def _by(gaps: dict[str, float | None]) -> str:
    return ", ".join(f"{name}: {_s(gap)}" for name, gap in gaps.items())


def _s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s"  # noqa: PLR2004


def _when(run: str) -> str:
    stamp = datetime.strptime(run[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    return f"{stamp:%Y-%m-%d %H:%M:%S} UTC"
