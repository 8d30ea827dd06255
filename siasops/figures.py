"""What only the controller knows, told to Prometheus: changes, drills and load tests, as a file the witness's exporter reads.

There alone, and every Prometheus reads it there: an old copy elsewhere would raise alerts. Pushed when one begins or ends. A
witness that does not answer hinders nothing: the next push brings everything.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from siasops import remote
from siasops.calendar import records
from siasops.change import state as changes
from siasops.console import err
from siasops.drill import report
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.load import compare

PATH = "/var/lib/prometheus/node-exporter/sias-operations.prom"
LIMIT = 15.0
"""Seconds for the push."""


def render(
    inventory: Inventory, drills: list[dict[str, Any]], loads: list[dict[str, Any]], ended: dict[str, float]
) -> str:
    """Write the figures in the exposition format.

    Args:
        inventory: the environment, for its records.
        drills: results as in result.json, the latest first.
        loads: the same of load tests.
        ended: when each run ended, by its name, seconds since 1970.
    """
    registry = CollectorRegistry()

    def gauge(name: str, text: str, labels: list[str]) -> Gauge:
        return Gauge(name, text, labels, registry=registry)

    under = gauge("sias_change_under_way_since_seconds", "When the change that is under way began", ["kind", "what"])
    done = gauge("sias_change_last_ended_seconds", "When the last change of a kind ended", ["kind", "what", "outcome"])
    if current := records.under_way(inventory):
        under.labels(current["kind"], current["what"]).set(datetime.fromisoformat(current["started"]).timestamp())
    half_way = gauge(
        "sias_change_half_way_since_seconds", "When work on an unfinished change stopped", ["kind", "what"]
    )
    if not current and (stopped := changes.unfinished(inventory)):
        half_way.labels(stopped.kind, stopped.story).set((stopped.folder / "state.json").stat().st_mtime)
    latest = {record.kind: record for record in records.read(inventory)}
    for record in latest.values():
        done.labels(record.kind, record.what, record.outcome).set(record.ended.timestamp())
    broken = gauge("sias_drill_last_findings", "Rules about data that the last run saw broken", ["drill"])
    for result in reversed(drills):
        broken.labels(result["name"]).set(len(result["findings"]))
    for word, key, results in (("drill", "name", drills), ("load", "scenario", loads)):
        label = "drill" if word == "drill" else "scenario"
        held = gauge(f"sias_{word}_last_held", "1 when the last run's promises all held", [label])
        when = gauge(f"sias_{word}_last_ended_seconds", "When the last run ended", [label])
        for result in reversed(results):
            held.labels(result[key]).set(result["verdict"] == "held")
            when.labels(result[key]).set(ended[result["run"]])
    return generate_latest(registry).decode()


def push(inventory: Inventory) -> None:
    """Bring the figures to the witness; says in one line when that fails, and goes on."""
    drills, loads, ended = _results(inventory)
    text = render(inventory, drills, loads, ended)
    draft = shlex.quote(f"{PATH}.new")
    command = f"printf %s {shlex.quote(text)} > {draft} && chmod 644 {draft} && mv {draft} {shlex.quote(PATH)}"
    try:
        with remote.connect(inventory) as fleet:
            answers = fleet.run_all(command, hosts=[inventory.watchers()[0].name], timeout=LIMIT)
        wrong = [f"{name}: {a.stderr.strip() or 'no answer'}" for name, a in answers.items() if not a.ok]
    except UserError as error:
        wrong = [str(error)]
    if wrong:
        err.print(
            f"[dim]Prometheus was not told of this ({'; '.join(wrong)}); `sias calendar publish` does it later.[/dim]"
        )


@contextmanager
def recording(inventory: Inventory, *, kind: str, what: str, change: str | None = None) -> Iterator[records.Entry]:
    """Do what `records.recording` does, and tell Prometheus at the beginning and at the end."""
    try:
        with records.recording(inventory, kind=kind, what=what, change=change) as entry:
            push(inventory)
            yield entry
    finally:
        push(inventory)


def _results(inventory: Inventory) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, float]]:
    drills, loads = report.past(inventory), compare.past(inventory)
    ended = {r["run"]: (Path(r["folder"]) / "result.json").stat().st_mtime for r in (*drills, *loads)}
    return drills, loads, ended
