"""The order of hosts, what each phase waits for, and where the way back begins."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from siasops import inventory as facts
from siasops import remote
from siasops.backup.archive import Gap
from siasops.change.procedure import Act, Plan
from siasops.change.state import State
from siasops.cluster.view import View
from siasops.console import Progress
from siasops.drill.faults import Stage
from siasops.errors import UserError
from siasops.inventory import Inventory
from siasops.remote import RemoteError, Result
from siasops.upgrade import procedure, rebuild
from siasops.upgrade.hosts import Found
from siasops.upgrade.procedure import Debian, order
from tests.unit.cluster.conftest import Hosts

LAB = ["app-b1", "db-b1", "app-a1", "db-a1", "witness"]
BASE = Found("x", "12", "x:1", "", (), 1 << 40, 1 << 40, False, (("bookworm", "Debian"),), "inactive", "", "")


def found(**debian: str) -> dict[str, Found | None]:
    """Hosts by their Debian; “silent” does not answer."""
    names = {name.replace("_", "-"): release for name, release in debian.items()}
    return {
        name: None if release == "silent" else replace(BASE, host=name, debian=release)
        for name, release in names.items()
    }


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> dict[str, Found | None]:
    now = found(db_a1="12", db_b1="12", app_a1="12", app_b1="12", witness="12")
    monkeypatch.setattr(procedure.hosts, "states", lambda _, names: {name: now[name] for name in names})
    return now


@pytest.fixture
def hosts(lab: Inventory, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    return Hosts(lab)


@pytest.fixture
def looked(view: View, monkeypatch: pytest.MonkeyPatch) -> list[View]:
    shown = [view]
    for module in (procedure, procedure.absence):
        monkeypatch.setattr(module, "look", lambda *_: shown[-1])
    return shown


@pytest.fixture
def act(lab: Inventory, hosts: Hosts, looked: list[View], tmp_path: Path) -> Act:
    plan = Plan("Debian 12 to 13", {"from": "12", "to": "13", "postgresql": "15", **order(lab, LAB, "a")})
    state = State("x", "debian", "lab", plan.story, plan.facts, "2026-12-01T00:00:00+00:00", folder=tmp_path)
    return Act(Stage(lab, hosts), plan, state, Progress(), lambda *_, **__: 0.0, None)  # type: ignore[arg-type]


def keys(phases: Any) -> list[str]:
    return [phase.key for phase in phases]


def test_the_primary_s_room_waits_until_the_primary_has_left_it(lab: Inventory) -> None:
    made = order(lab, LAB, "a")
    assert (made["early"], made["late"], made["last"]) == (["app-b1", "db-b1"], ["app-a1", "db-a1"], ["witness"])
    assert (made["from_room"], made["to_room"], made["move"]) == ("a", "b", True)
    other = order(lab, LAB, "b")
    assert (other["early"], other["late"]) == (["app-a1", "db-a1"], ["app-b1", "db-b1"])


def test_applications_go_before_databases_in_rooms_of_several() -> None:
    full = facts.load(facts.resolve("lab-full"))
    made = order(full, list(full.hosts), "b")
    assert made["early"] == ["app-a1", "app-a2", "db-a1", "db-a2"]
    assert made["late"] == ["app-b1", "app-b2", "db-b1", "db-b2"]


def test_nothing_moves_for_hosts_that_are_no_databases(lab: Inventory) -> None:
    assert not order(lab, ["app-a1", "witness"], "a")["move"]
    assert order(lab, ["db-b1"], "a")["late"] == []


def test_every_host_leaves_before_it_is_touched_and_is_whole_before_the_next(act: Act) -> None:
    listed = keys(Debian().phases(act.plan))
    assert listed[:2] == ["download", "documents"]
    assert listed[-3:] == ["archive", "backups", "text"]
    middle = listed[2:-3]
    wanted = []
    for host in LAB:
        wanted += [f"{host}:{step}" for step in ("leave", "upgrade", "reboot", "converge", "return")]
        wanted += ["primary"] if host == "db-b1" else []
    assert middle == wanted
    assert len(set(listed)) == len(listed)


def test_databases_go_back_before_the_repositories_that_speak_to_them(act: Act) -> None:
    listed = keys(Debian().back(act.plan))
    hosts_in_order = list(dict.fromkeys(key.split(":")[0] for key in listed if not key.startswith("back:")))
    assert hosts_in_order == ["witness", "db-a1", "db-b1", "app-a1", "app-b1"]
    assert listed.index("db-a1:in") < listed.index("back:primary") < listed.index("db-b1:out")
    assert listed[:2] == ["back:look", "back:wounded"]
    assert not set(listed) & set(keys(Debian().phases(act.plan)))  # each keeps its own time


def test_the_plan_names_what_is_left(act: Act, states: dict[str, Found | None]) -> None:
    states |= found(app_b1="13")
    made = Debian().plan(act.stage, {})
    assert made.facts["early"] == ["db-b1"]
    assert made.facts["to"] == "13"
    assert made.story == "Debian 12 to 13 on db-a1, db-b1, app-a1, witness"
    json.dumps(made.facts)
    states |= found(db_a1="13", db_b1="13", app_a1="13", app_b1="13", witness="13")
    assert "nothing to do" in Debian().plan(act.stage, {}).nothing


@pytest.mark.parametrize(
    ("change", "wanted", "said"),
    [
        ({"db_b1": "silent"}, None, "db-b1 did not say"),
        ({"db_b1": "11"}, None, "reached from 12 alone: db-b1 runs 11"),
        ({}, "12", "no road to Debian “12”"),
        ({}, "14", "no road to Debian “14”"),
    ],
)
def test_a_road_that_does_not_exist_is_refused(
    act: Act, states: dict[str, Found | None], *, change: dict[str, str], wanted: str | None, said: str
) -> None:
    states |= found(**change)
    with pytest.raises(UserError, match=said):
        Debian().plan(act.stage, {"to": wanted})


class Repositories:
    """What each repository holds at its end, in turn; the last one stands."""

    def __init__(self, *ends: list[str]) -> None:
        self.ends = list(ends)
        self.asked = 0

    def __call__(self, *_: Any) -> list[Any]:
        self.asked += 1
        ends = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        return [SimpleNamespace(wal_max=end or None) for end in ends]


OLD, LAST = "000000010000000000000007", "000000010000000000000008"


@pytest.fixture
def switched(act: Act, hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    rooms: list[str] = []

    def run(_: Inventory, room: str, **options: Any) -> Any:
        assert options["recorded"] is False
        rooms.append(room)
        return SimpleNamespace(held=True, sentence="db-b1 leads", assertions=[])

    monkeypatch.setattr(procedure.switch, "run", run)
    hosts.when("db-a1", "psql", lambda: LAST)
    return rooms


def test_the_primary_moves_only_when_a_repository_holds_its_last_segment(
    act: Act, switched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Room b's repository speaks another version already and hears nothing any more.
    repositories = Repositories([OLD, OLD], [OLD, ""], [LAST, OLD])
    monkeypatch.setattr(procedure, "read", repositories)
    procedure._primary(act, room="b")
    assert switched == ["b"]
    assert repositories.asked == 3


def test_it_stays_when_none_does(act: Act, switched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procedure, "read", Repositories([OLD, OLD]))
    monkeypatch.setattr(procedure, "ARCHIVE_LIMIT", 0.0)
    with pytest.raises(RemoteError, match=f"a repository holds {LAST}"):
        procedure._primary(act, room="b")
    assert switched == []


def test_it_is_not_moved_twice(act: Act, switched: list[str]) -> None:
    procedure._primary(act, room="a")
    assert switched == []


def test_a_switchover_that_is_refused_stops_the_roll(act: Act, hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = SimpleNamespace(held=False, sentence="Nothing was done, because this does not hold: it is healthy: no.")
    monkeypatch.setattr(procedure.switch, "run", lambda *_, **__: refused)
    monkeypatch.setattr(procedure, "read", Repositories([LAST]))
    hosts.when("db-a1", "psql", lambda: LAST)
    with pytest.raises(UserError, match=r"could not move to room b: .*it is healthy: no"):
        procedure._primary(act, room="b")


def test_a_repository_that_missed_log_is_begun_anew_and_the_other_is_not(
    act: Act, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procedure.archive, "gaps", lambda *_: {"app-a1": Gap(0, None), "app-b1": Gap(3, OLD)})
    monkeypatch.setattr(procedure, "_record_debian", lambda _: None)
    hosts.when("*", "sias-backup take", lambda: '{"label": "x", "seconds": 4.2}')
    procedure._backups(act)
    taken = {host: line.rsplit(" ", 1)[-1] for host, line in hosts.told("sias-backup take")}
    assert taken == {"app-a1": "diff", "app-b1": "full"}


def test_a_repository_that_does_not_say_what_it_misses_is_begun_anew(
    act: Act, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procedure.archive, "gaps", lambda *_: {})
    monkeypatch.setattr(procedure, "_record_debian", lambda _: None)
    hosts.when("*", "sias-backup take", lambda: '{"label": "x", "seconds": 4.2}')
    procedure._backups(act)
    assert all(line.endswith("full") for _, line in hosts.told("sias-backup take"))


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What collations say: `now` on the host, and what was done."""
    told: dict[str, Any] = {"now": {"sias c": "1 x"}, "done": []}
    monkeypatch.setattr(procedure.collation, "note", lambda _: {"sias c": "1 x"})
    monkeypatch.setattr(procedure.collation, "hashes", lambda _: told["now"])
    monkeypatch.setattr(procedure.collation, "whole", lambda place: told["done"].append(f"whole {place.host}") or 7)
    monkeypatch.setattr(
        procedure.collation, "reindex", lambda place, k: told["done"].append(f"reindex {place.host} {k}") or k
    )
    monkeypatch.setattr(
        procedure.collation, "refresh", lambda place: told["done"].append(f"refresh {place.host}") or []
    )
    return told


def test_a_host_that_sorts_as_before_is_proven_index_by_index(act: Act, text: dict[str, Any]) -> None:
    act.remember(text={"db-b1": {"sias c": "1 x"}})
    procedure._prove(act, "db-b1")
    assert text["done"] == ["whole db-b1"]
    procedure._reindex(act)
    assert text["done"] == ["whole db-b1"]


def test_one_that_sorts_otherwise_is_not_read_from_until_its_indexes_are_built_anew(
    act: Act, hosts: Hosts, looked: list[View], text: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    act.remember(text={"db-b1": {"sias c": "1 x"}})
    text["now"] = {"sias c": "1 y"}
    procedure._prove(act, "db-b1")
    assert text["done"] == []
    monkeypatch.setattr(procedure.absence, "come_back", lambda *_: [])
    monkeypatch.setattr(procedure.absence, "DRAIN_LIMIT", 0.0)
    procedure._return(act, host="db-b1")
    assert {host for host, _ in hosts.told("pg_replicas/db-b1 state drain")} == {"app-a1", "app-b1"}
    procedure._reindex(act)
    assert text["done"] == [], "the primary still runs the former release"
    view = looked[-1]
    swap = {m.host: m for m in view.members}
    looked.append(
        replace(
            view,
            members=(replace(swap["db-a1"], role="replica"), replace(swap["db-b1"], role="primary", state="running")),
        )
    )
    procedure._reindex(act)
    assert text["done"] == ["reindex db-b1 ['sias c']", "whole db-b1"]
    assert {host for host, _ in hosts.told("pg_replicas/db-b1 state ready")} == {"app-a1", "app-b1"}


def test_patroni_runs_on_the_new_python_when_its_host_is_deployed(
    act: Act, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procedure, "_prove", lambda *_: None)
    monkeypatch.setattr(procedure.deploy, "playbook", lambda _i, name, **o: hosts.run("x", f"{name} {o['arguments']}"))
    procedure._converge(act, host="db-b1")
    assert hosts.position("db-b1", r"= /usr/bin/python3\.13 \|\| systemctl stop patroni") < hosts.position("x", "site")
    assert hosts.told("site") == [("x", "site ('--limit', 'db-b1')")]


def test_text_is_noted_once_before_a_database_host_leaves(
    act: Act, text: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []
    monkeypatch.setattr(procedure.absence, "leave", lambda _i, _f, host, _p: left.append(host))
    procedure._leave(act, host="db-b1")
    assert act.state.notes["text"] == {"db-b1": {"sias c": "1 x"}}
    monkeypatch.setattr(procedure.collation, "note", lambda _: pytest.fail("it may be down by now"))
    procedure._leave(act, host="db-b1")
    procedure._leave(act, host="app-b1")
    assert left == ["db-b1", "db-b1", "app-b1"]


def test_a_host_that_was_rebooted_is_not_rebooted_again(act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = ["x:1"], []
    monkeypatch.setattr(procedure.hosts, "state", lambda *_: replace(BASE, boot=now[0]))
    monkeypatch.setattr(procedure.hosts, "reboot", lambda _f, _h, boot: asked.append(boot) or 1.0)
    procedure._reboot(act, host="db-b1")
    now[0] = "x:2"  # it was, and this process was interrupted
    procedure._reboot(act, host="db-b1")
    assert asked == ["x:1", "x:1"]


# --- Back ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done with hosts on the way back."""
    told: list[str] = []

    def note(what: str) -> Callable[..., Any]:
        return lambda *arguments, **_: told.append(f"{what} {next(a for a in arguments if isinstance(a, str))}") or []

    monkeypatch.setattr(procedure.absence, "leave", note("leave"))
    monkeypatch.setattr(procedure.absence, "come_back", note("come back"))
    monkeypatch.setattr(procedure.rebuild, "make_anew", note("make anew"))
    for name in ("mark_away", "restore", "fill"):
        monkeypatch.setattr(procedure.documents, name, note(name))
    monkeypatch.setattr(procedure.deploy, "playbook", lambda _i, _n, **o: told.append(f"deploy {o['arguments'][1]}"))
    return told


def go_back(act: Act, *skip: str) -> None:
    for phase in Debian().back(act.plan):
        if not phase.key.startswith(("back:archive", "back:backups", "back:primary", *skip)):
            phase.act(act)


def test_only_hosts_that_went_are_made_anew(act: Act, states: dict[str, Found | None], anew: list[str]) -> None:
    states |= found(app_b1="13")
    states["db-b1"] = replace(BASE, result="failed")
    go_back(act)
    assert [line for line in anew if line.startswith("make anew")] == ["make anew db-b1", "make anew app-b1"]
    mine = [line.removesuffix(" app-b1") for line in anew if line.endswith("app-b1")]
    assert mine == ["leave", "make anew", "mark_away", "restore", "deploy", "fill", "come back"]
    assert not any("db-a1" in line or "witness" in line for line in anew)


def test_a_host_that_is_away_comes_first_so_that_another_may_leave(
    act: Act, hosts: Hosts, states: dict[str, Found | None], anew: list[str]
) -> None:
    states |= found(app_b1="13", db_b1="13", app_a1="silent")
    go_back(act)
    made = [line for line in anew if line.startswith(("make anew", "come back"))]
    assert made[:2] == ["make anew app-a1", "come back app-a1"]
    assert made.count("make anew app-a1") == 1
    assert "leave app-a1" not in anew, "a dead host has nothing to leave"


def test_one_that_had_only_left_is_called_back(
    act: Act, hosts: Hosts, states: dict[str, Found | None], anew: list[str]
) -> None:
    hosts.when("app-b1", "^test -e", lambda: Result("app-b1", 0, "", ""))
    go_back(act)
    assert anew == ["come back app-b1"]


def test_a_machine_is_made_anew_once(act: Act, states: dict[str, Found | None], anew: list[str]) -> None:
    states |= found(witness="13")
    act.remember(anew=["witness"], wounded=[], made=[])
    procedure._if_anew(act, host="witness", step=procedure._anew)
    procedure._if_anew(act, host="witness", step=procedure._anew)
    procedure._if_anew(act, host="witness", step=procedure._out)
    assert anew == ["make anew witness"]


def test_a_settled_upgrade_has_no_way_back(act: Act, states: dict[str, Found | None]) -> None:
    states |= found(db_a1="13")
    assert not Debian().plan_back(act.stage, act.state, {}).nothing
    act.state.notes["settled"] = "2026-12-02"
    with pytest.raises(UserError, match="was settled on 2026-12-02"):
        Debian().plan_back(act.stage, act.state, {})


def test_there_is_nothing_to_go_back_from_twice(act: Act, states: dict[str, Found | None]) -> None:
    assert "nothing to go back from" in Debian().plan_back(act.stage, act.state, {}).nothing


@pytest.fixture
def bare(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> dict[str, Found | None]:
    now = found(db_b1="13")
    monkeypatch.setattr(rebuild.hosts, "states", lambda _, names: {name: now[name] for name in names})
    return now


def test_outside_a_lab_people_make_the_host_anew_and_are_told_how(
    lab: Inventory, hosts: Hosts, bare: dict[str, Found | None]
) -> None:
    production = replace(lab, facts={k: v for k, v in lab.facts.items() if k != "lab_bridge"})
    with pytest.raises(
        UserError, match=r"db-b1 must be made anew: a bare Debian 12.*192\.168\.56\.12.*rollback. goes on"
    ):
        rebuild.make_anew(production, hosts, "db-b1", "12", Progress())  # type: ignore[arg-type]
    bare |= found(db_b1="12")
    rebuild.make_anew(production, hosts, "db-b1", "12", Progress())  # type: ignore[arg-type]
    hosts.when("db-b1", "test ! -e /etc/sias", lambda: Result("db-b1", 1, "", ""))
    with pytest.raises(UserError, match="must be made anew"):
        rebuild.make_anew(production, hosts, "db-b1", "12", Progress())  # type: ignore[arg-type]
