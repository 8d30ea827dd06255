"""A release: shipped to all, its migrations judged and done, one host watched, then the others; and the way back.

The schema is expanded before any host runs the release, and never taken back: what is added, the former release does not
see. What a release no longer uses is dropped by a later one, when the gate finds that nothing that runs uses it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from siasops.calendar.due import due
from siasops.change.procedure import Act, GoBack, Phase, Plan, Procedure
from siasops.change.state import State
from siasops.cluster.check import Line, check, together
from siasops.cluster.client import Asker
from siasops.cluster.view import View, look
from siasops.drill.faults import Stage
from siasops.errors import USAGE, UserError
from siasops.inventory import ROOT, Inventory
from siasops.release import canary, gate
from siasops.release import host as hosts
from siasops.release.gate import Objection
from siasops.release.host import Standing

ROOM = 1 << 30
"""Bytes that a host must have free: a release with its environment takes about a fifth of it."""


class Release(Procedure):
    """See the module."""

    kind: ClassVar[str] = "release"
    command: ClassVar[str] = "sias release"

    def plan(self, stage: Stage, wanted: Mapping[str, Any]) -> Plan:
        """See `Procedure.plan`. Wants `source`, the application's folder."""
        source = Path(wanted["source"] or ROOT / "app").resolve()
        version = hosts.version_of(source)
        standings = hosts.look(stage)
        former = {s.name: s.running or s.current for s in standings.values()}
        facts = {"version": version, "source": str(source), "order": hosts.order(stage.inventory), "former": former}
        if all(s.runs(version) for s in standings.values()):
            return Plan("", facts, f"Every application host runs {version} already: there is nothing to do.")
        return Plan(f"release {version} instead of {_names(former.values())}", facts)

    def check(self, stage: Stage, plan: Plan) -> Sequence[Line]:
        """See `Procedure.check`."""
        standings, view = hosts.look(stage), look(stage.inventory, stage.fleet)
        cluster = check(view)
        return [
            together(
                "The cluster is healthy, and each room serves its users",
                cluster,
                "Mend that first: a planned change never starts from a wounded cluster.",
            ),
            _relief(standings),
            _room(standings),
            _content(stage.inventory, Path(plan.facts["source"])),
            _former(standings),
            _migrations(stage, plan, standings, view),
            due(stage.inventory, self.kind, cluster),
        ]

    def phases(self, plan: Plan) -> Sequence[Phase]:
        """See `Procedure.phases`."""
        first, *rest = plan.facts["order"]
        return [
            Phase("ship", f"Ship {plan.facts['version']} to every application host", 45.0, _ship),
            Phase("gate", "Judge what its migrations would lock, and what the running release still uses", 5.0, _judge),
            Phase("expand", "Add to the schema what it needs", 5.0, _expand),
            _forward(first, "the canary"),
            Phase("watch", f"Watch {first}", 22.0, _watch),
            *(_forward(name, f"host {n} of {len(rest) + 1}") for n, name in enumerate(rest, start=2)),
        ]

    def back(self, plan: Plan) -> Sequence[Phase]:
        """See `Procedure.back`."""
        return [
            *(_backward(name) for name in reversed(plan.facts["order"])),
            Phase("back", "See that every host is back", 2.0, _all_back),
        ]

    def verify(self, stage: Stage, plan: Plan) -> Sequence[Line]:
        """See `Procedure.verify`."""
        version, standings = plan.facts["version"], hosts.look(stage)
        first = plan.facts["order"][0]
        wanted = hosts.schema(stage.fleet, first, version) if version in standings[first].releases else None
        lacking = None if wanted is None else [*(m["name"] for m in wanted["pending"]), *wanted["missing"]]
        drained = {s.name: s.drained for s in standings.values() if s.drained}
        return [
            *(_runs(stage.inventory, s, version) for s in standings.values()),
            Line(
                not drained,
                "No host is left out",
                "; ".join(f"{name} sends nothing to {', '.join(d)}" for name, d in drained.items())
                or "none is drained",
                "`sias release run` or `sias release rollback` sends requests there again." if drained else "",
            ),
            Line(
                lacking == [],
                "The schema is what the release needs",
                f"{version} cannot say"
                if lacking is None
                else ", ".join(lacking) or "nothing pending, nothing missing",
                "" if lacking == [] else "`sias release run` does the migrations that are left.",
            ),
        ]

    def plan_back(self, stage: Stage, last: State | None, wanted: Mapping[str, Any]) -> Plan:
        """See `Procedure.plan_back`. Wants `to`, a kept release; the one before the last release when it is None."""
        standings, to = hosts.look(stage), wanted["to"]
        if to is None and last is None:
            raise UserError(
                "No release was made here by `sias release run`: say which one to go back to, --to VERSION."
            )
        former = dict.fromkeys(standings, to) if to else dict(last.facts["former"]) if last else {}
        if lacking := [s.name for s in standings.values() if former.get(s.name) not in s.releases]:
            kept = set.intersection(*(set(s.releases) for s in standings.values()))
            raise UserError(
                f"{', '.join(lacking)} no longer holds {_names(former.values())}. Kept everywhere: "
                f"{', '.join(sorted(kept)) or 'none'}. `sias release run --source` ships any version again.", USAGE
            )  # fmt: skip
        if all(s.runs(former[s.name]) for s in standings.values()):
            return Plan(
                "", nothing=f"Every application host runs {_names(former.values())} already: there is nothing to do."
            )
        if to:
            _still_possible(stage, to)
        now = _names(s.current for s in standings.values())
        facts = {"version": now, "source": "", "order": hosts.order(stage.inventory), "former": former}
        return Plan(f"go back from {now} to {_names(former.values())}", facts)


def _forward(host: str, what: str) -> Phase:
    def act(a: Act) -> None:
        version, standings = a.plan.facts["version"], hosts.look(a.stage)
        _nobody_away(standings)
        if not standings[host].runs(version):
            if not set(standings[host].sees) - {host}:
                raise UserError(f"No other host would answer the users of {host} meanwhile: see `sias cluster check`.")
            a.progress.say(f"{host}: {hosts.switch(a.stage, host, version)}")
        hosts.settle(a.fleet, standings)

    return Phase(f"switch {host}", f"Switch {host}, {what}", 12.0, act, (host,))


def _backward(host: str) -> Phase:
    def act(a: Act) -> None:
        standings = hosts.look(a.stage, absent=True)
        if host in standings and not standings[host].away:
            _bring_back(a, standings, host)
        else:
            # Users of the others come first; the last phase wants it.
            a.progress.say(f"{host} {'is away' if host in standings else 'does not answer'}: it is left for later")

    return Phase(f"back {host}", f"Bring {host} back to its former release; the schema stays", 12.0, act, (host,))


def _all_back(act: Act) -> None:
    standings = hosts.look(act.stage)
    _nobody_away(standings)
    for host in standings:
        _bring_back(act, standings, host)


def _nobody_away(standings: Mapping[str, Standing]) -> None:
    """Refuse to switch hosts while one is out of service: it would come back with another release.

    Raises:
        UserError: names it.
    """
    for standing in standings.values():
        if standing.away:
            raise UserError(
                f"{standing.name} is away: `sias host return {standing.name} --yes`, then the same command again."
            )


def _bring_back(act: Act, standings: Mapping[str, Standing], host: str) -> None:
    former = act.plan.facts["former"][host]
    if standings[host].runs(former):
        act.progress.say(f"{host} runs {former}")
    else:
        if not set(standings[host].sees) - {host}:
            act.progress.say(f"no other host answers the users of {host} meanwhile: they wait for it")
        act.progress.say(f"{host}: {hosts.switch(act.stage, host, former)}")
    hosts.settle(act.fleet, standings, host)


def _ship(act: Act) -> None:
    facts = act.plan.facts
    hosts.settle(act.fleet, hosts.look(act.stage))
    if not hosts.ship(act.stage, Path(facts["source"]), facts["version"], act.progress.say):
        act.progress.say("it lies there already")


def _judge(act: Act) -> None:
    found = _objections(act.stage, act.plan, look(act.inventory, act.fleet))
    for objection in (o for o in found if o.accepted):
        act.progress.say(f"accepted by its author: {objection}: {objection.accepted}")
    if refused := [o for o in found if not o.accepted]:
        raise GoBack("; ".join(str(o) for o in refused))


def _expand(act: Act) -> None:
    done = hosts.migrate(act.fleet, act.plan.facts["order"][0], act.plan.facts["version"])
    act.progress.say(", ".join(done) or "the schema has it all")
    act.journal("migrated", migrations=done)


def _watch(act: Act) -> None:
    first, limits = act.plan.facts["order"][0], act.inventory.objectives["changes"]["release"]["canary"]
    hosts.settle(act.fleet, hosts.look(act.stage))
    act.progress.say(canary.watch(act, first, limits))


def _objections(stage: Stage, plan: Plan, view: View) -> list[Objection]:
    """What speaks against the release's migrations; it must lie on the first host."""
    first, version = plan.facts["order"][0], plan.facts["version"]
    wanted = hosts.schema(stage.fleet, first, version)
    if wanted is None:
        raise UserError(f"{version} has no `sias-manage schema`: it is too old to be released by this command.")
    if not wanted["pending"]:
        return []
    if wanted.get("frozen"):
        return [
            Objection(
                ", ".join(migration["name"] for migration in wanted["pending"]),
                "schema-frozen",
                "a migration to another PostgreSQL holds the schema still",
                "`sias migrate postgres settle` or `rollback`, then the same command again",
            )
        ]
    # Former releases by the host that runs them: it has them for certain.
    running = {former: name for name, former in plan.facts["former"].items() if former}
    uses = [hosts.schema(stage.fleet, name, former) for former, name in running.items()]
    leader = view.leader
    if leader is None:
        raise UserError("Nobody leads: no migration can be judged. See `sias cluster check`.")
    return gate.judge(
        wanted["pending"], wanted["tables"], gate.used_by(uses, wanted["tables"]), postgres=leader.version
    )


def _still_possible(stage: Stage, version: str) -> None:
    """Refuse to go to a release whose tables or columns are no longer there.

    Raises:
        UserError: names them.
    """
    found = hosts.schema(stage.fleet, hosts.order(stage.inventory)[0], version)
    if found and found["missing"]:
        raise UserError(f"{version} needs what the schema no longer has: {', '.join(found['missing'][:8])}.")


def _names(versions: Any) -> str:
    return " and ".join(sorted({v for v in versions if v})) or "nothing"


# --- Lines of `check` and `verify` ------------------------------------------------------------------------------------


def _relief(standings: Mapping[str, Standing]) -> Line:
    alone = [s.name for s in standings.values() if not set(s.sees) - {s.name}]
    return Line(
        not alone,
        "Another host can answer while one is switched",
        f"nobody would answer for {', '.join(alone)}"
        if alone
        else f"{len(standings)} application hosts see one another",
        "See `sias cluster check`, and whether a drain was left: `sias release list`." if alone else "",
    )


def _room(standings: Mapping[str, Standing]) -> Line:
    short = [f"{s.name} has {s.free >> 20} MiB" for s in standings.values() if s.free < ROOM]
    return Line(
        not short,
        "There is room for it",
        "; ".join(short) or f"at least {min(s.free for s in standings.values()) >> 20} MiB free on every host",
        f"{ROOM >> 20} MiB are needed: see runbooks/procedures/disk-full.md." if short else "",
    )


def _content(inventory: Inventory, source: Path) -> Line:
    """What is released is what stands in the repository; in a lab, whatever somebody is working on may be tried."""
    done = subprocess.run(
        ["git", "-C", str(source), "-c", f"safe.directory={source}", "-c", f"safe.directory={source.parent}", "status",
         "--porcelain", "--", "."],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    loose = done.stdout.splitlines()
    found = "not under git" if done.returncode else f"{len(loose)} files are not committed" if loose else "as committed"
    ok = found == "as committed" or inventory.is_lab
    return Line(
        ok,
        "It is built from a known content",
        found + (", which a lab accepts" if ok and found != "as committed" else "") + f" ({source})",
        "" if ok else "Commit it first: nobody could say later what was released.",
    )


def _former(standings: Mapping[str, Standing]) -> Line:
    wrong = [
        f"{s.name} points to {s.current or 'nothing'} and runs {s.running or 'something else'}"
        for s in standings.values()
        if s.current != s.running or s.current not in s.releases
    ]
    return Line(
        not wrong,
        "The way back is there",
        "; ".join(wrong) or f"{_names(s.current for s in standings.values())}, ready on every host's disk",
        "Bring these hosts to what the playbook says first: `sias lab up`, or playbooks/site.yml." if wrong else "",
    )


def _migrations(stage: Stage, plan: Plan, standings: Mapping[str, Standing], view: View) -> Line:
    what = "Its migrations lock nothing for long, and leave what the running release uses"
    if any(plan.facts["version"] not in s.releases for s in standings.values()):
        return Line(
            True, what, "judged once it is shipped, before the schema is touched (`sias release ship`, to know now)"
        )
    found = _objections(stage, plan, view)
    refused, accepted = [o for o in found if not o.accepted], [o for o in found if o.accepted]
    said = [f"{o.migration}: {o.found} ({o.rule})" for o in refused]
    said += [f"{o.migration}: {o.rule} accepted: {o.accepted}" for o in accepted]
    return Line(not refused, what, "; ".join(said) or "nothing speaks against them",
                "; ".join(dict.fromkeys(f"instead of {o.rule}: {o.instead}" for o in refused)))  # fmt: skip


def _runs(inventory: Inventory, standing: Standing, version: str) -> Line:
    with Asker(inventory) as asker:
        answer = asker.get(inventory.hosts[standing.name].address, inventory.ports["https"], "/healthz/ready")
    told = {key: answer.headers.get(f"X-SIAS-{key}", "") if answer is not None else "" for key in ("Host", "Version")}
    ok = standing.runs(version) and told == {"Host": standing.name, "Version": version}
    return Line(
        ok,
        f"{standing.name} runs {version}",
        f"{told['Host'] or 'nobody'} answers there, with {told['Version'] or 'nothing'}; its link leads to {standing.current}",
        "" if ok else f"See `journalctl -u sias-web` on {standing.name}; `sias release list` says what lies there.",
    )
