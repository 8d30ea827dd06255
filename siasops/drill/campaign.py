"""Campaigns: many drills in random order, for hours, that go on where they stopped when their process dies.

A campaign's folder holds its plan (plan.json) and one line per run (runs.jsonl), both on the disk before the next run
starts. The order is drawn from the seed, in rounds: every drill once per round, so that a campaign that is stopped
early has still run each of them about as often.

A lab is made anew, and its folders go with it. What its campaigns found is kept beside the records (`keep`), a line per
run, so that the figures of many short campaigns add up.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from siasops.console import Progress, clock
from siasops.drill import active, matrix, registry
from siasops.drill.faults import Stage
from siasops.drill.history import pack
from siasops.drill.run import heal_on, once
from siasops.errors import USAGE, UserError
from siasops.inventory import ROOT, Inventory

COULD_NOT_RUN = "could not run"
KEPT = ROOT / "runbooks" / "records" / "drills.jsonl"
"""Runs of campaigns whose figures are kept, a JSON object per line."""
FIGURES = (*matrix.MEASURES, "writes_acknowledged", "writes_lost", "documents_acknowledged", "documents_lost", "held_for",
           "converged", "write_gap_at", "read_gap_at")  # fmt: skip
"""What is kept of a run's figures: what `matrix` shows."""
FIRST_GUESS = 35.0
"""Seconds that a run of which nothing is known is taken to last."""


@dataclass
class Plan:
    """What a campaign does. `skipped`: drills that cannot be done here, with the reason."""

    name: str
    environment: str
    seed: int
    runs: int
    drills: list[str]
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def order(self) -> list[str]:
        """Every run, in its order: the same for the same seed."""
        dice = random.Random(self.seed)  # noqa: S311 - an order that can be drawn again, not a secret
        rounds = []
        for _ in range(self.runs):
            turn = list(self.drills)
            dice.shuffle(turn)
            rounds.extend(turn)
        return rounds


@dataclass(frozen=True)
class Done:
    """One run of a campaign: the name of its folder, or why there is none."""

    drill: str
    verdict: str
    seconds: float
    run: str = ""
    why: str = ""


def home(inventory: Inventory) -> Path:
    """Return where campaigns keep their state and reports; made when absent."""
    path = active.folder(inventory) / "campaigns"
    path.mkdir(exist_ok=True)
    return path


def plan(stage: Stage, names: Sequence[str], *, runs: int, seed: int) -> Plan:
    """Make a plan of these drills (all when none is named); what cannot be done here is skipped by name.

    Raises:
        UserError: a name is unknown, or nothing is left to do.
    """
    faults = [registry.find(name) for name in dict.fromkeys(names or registry.DRILLS)]
    skipped = {fault.name: why for fault in faults if (why := fault.unable(stage))}
    drills = [fault.name for fault in faults if fault.name not in skipped]
    if not drills:
        raise UserError("Nothing can be done here: " + "; ".join(f"{n}: {why}" for n, why in skipped.items()), USAGE)
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return Plan(name, stage.inventory.environment, seed, runs, drills, skipped)


def record(inventory: Inventory, made: Plan) -> Path:
    """Write a plan down; returns the campaign's folder."""
    folder = home(inventory) / made.name
    folder.mkdir()
    _durably(folder / "plan.json", json.dumps(asdict(made), indent=2) + "\n")
    return folder


def all_of(inventory: Inventory) -> list[Path]:
    """Folders of this environment's campaigns, the latest first."""
    found = sorted((p.parent for p in home(inventory).glob("*/plan.json")), reverse=True)
    return [folder for folder in found if read(folder).environment == inventory.environment]


def find(inventory: Inventory, name: str | None = None) -> Path:
    """Return a campaign's folder: of that name, or the latest.

    Raises:
        UserError: there is none.
    """
    known = all_of(inventory)
    if not known:
        raise UserError("No campaign has been started here: `sias drill campaign`.", USAGE)
    if name is None:
        return known[0]
    for folder in known:
        if folder.name == name:
            return folder
    raise UserError(f"There is no campaign “{name}”. The last ones: {', '.join(f.name for f in known[:5])}.", USAGE)


def read(folder: Path) -> Plan:
    """Read a campaign's plan."""
    return Plan(**json.loads((folder / "plan.json").read_text(encoding="utf-8")))


def done(folder: Path) -> list[Done]:
    """Read what has been run; a torn last line was not."""
    path = folder / "runs.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [Done(**json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def left(folder: Path) -> list[str]:
    """Say which runs are still to do, in their order."""
    return read(folder).order[len(done(folder)) :]


def run(stage: Stage, folder: Path, progress: Progress, *, until: float = float("inf")) -> list[Done]:
    """Do what is left of a campaign.

    Args:
        stage: an open session.
        folder: the campaign's.
        progress: told every run, and how long the rest will take.
        until: monotonic time after which no further run starts.

    Returns:
        What has been run of it, now and earlier.

    Raises:
        UserError: the platform is not as before after a drill and does not become so: the campaign stops there, and can
            be resumed.
    """
    if active.read(stage.inventory) is not None:
        heal_on(stage, progress)  # the process that ran it before died half-way
    finished = done(folder)
    order = read(folder).order
    for number, name in enumerate(order[len(finished) :], len(finished) + 1):
        expected = _expected(finished, name)
        if time.monotonic() + expected > until:
            progress.say(
                f"{len(order) - number + 1} runs are left, and no time for another: resume the campaign later."
            )
            break
        rest = sum(_expected(finished, other) for other in order[number - 1 :])
        progress.say(f"run {number} of {len(order)}: {name}; about {clock(rest)} to go")
        one = _one(stage, name, progress)
        with (folder / "runs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(one)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        finished.append(one)
        if one.verdict == COULD_NOT_RUN:
            heal_on(stage, progress)
    return finished


def _one(stage: Stage, name: str, progress: Progress) -> Done:
    begin = time.monotonic()
    try:
        result = once(stage, registry.find(name), progress)
    except UserError as error:
        return Done(name, COULD_NOT_RUN, round(time.monotonic() - begin, 1), why=str(error))
    pack(active.folder(stage.inventory) / result.run)
    return Done(name, result.verdict, round(time.monotonic() - begin, 1), run=result.run)


def _expected(finished: Sequence[Done], name: str) -> float:
    """Seconds that a run of a drill may take, from the runs so far."""
    same = [d.seconds for d in finished if d.drill == name] or [d.seconds for d in finished]
    return sum(same) / len(same) if same else FIRST_GUESS


def results(inventory: Inventory, folder: Path) -> list[dict[str, Any]]:
    """Read the results of a campaign's runs, in their order; a run whose folder is gone is left out."""
    found = []
    for one in done(folder):
        path = active.folder(inventory) / one.run / "result.json"
        if one.run and path.exists():
            found.append({**json.loads(path.read_text(encoding="utf-8")), "folder": str(path.parent)})
    return found


def _durably(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def keep(inventory: Inventory, folder: Path, path: Path = KEPT) -> int:
    """Add a campaign's runs to those whose figures are kept, those that did not hold or could not run like the others.

    Args:
        inventory: the environment.
        folder: the campaign's.
        path: the file; one that is kept already is not added again.

    Returns:
        How many were added.
    """
    known = {(one["campaign"], one["number"]) for one in kept(path)}
    found = {one["run"]: one for one in results(inventory, folder)}
    lines = []
    for number, one in enumerate(done(folder), 1):
        if (folder.name, number) in known:
            continue
        line = {"campaign": folder.name, "number": number, "environment": inventory.environment, "name": one.drill,
                "run": one.run, "verdict": one.verdict}  # fmt: skip
        if one.run in found:
            result = found[one.run]
            line["broken"] = [promise["what"] for promise in result["promises"] if not promise["held"]]
            line["figures"] = {key: _rounded(result["figures"].get(key)) for key in FIGURES}
        else:
            line["why"] = one.why or "its folder is gone"
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    with path.open("a", encoding="utf-8") as file:
        file.writelines(lines)
    return len(lines)


def kept(path: Path = KEPT) -> list[dict[str, Any]]:
    """Read the runs whose figures are kept, in the order in which they were added; those that could not run have none.

    Raises:
        UserError: a line cannot be read; names it.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else [], 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise UserError(
                f"{path}, line {number} cannot be read ({error}): mend it, or take it back from git."
            ) from None
    return found


def _rounded(value: Any) -> Any:
    """Figures as they are read: a thousandth of a second is enough."""
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return round(value, 3) if isinstance(value, float) else value
