"""Every fault is a drill, and every drill is described and promised."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

from siasops import inventory
from siasops.drill import faults, registry
from siasops.drill.faults import Fault
from siasops.drill.matrix import MEASURES
from siasops.errors import UserError

OBJECTIVES = inventory.load(inventory.resolve("lab")).objectives
MODULES = [module.name for module in pkgutil.iter_modules(faults.__path__)]


@pytest.mark.parametrize("module", MODULES)
def test_every_fault_is_registered_under_its_files_name(module: str) -> None:
    name = module.replace("_", "-")
    assert name in registry.DRILLS
    assert registry.DRILLS[name].__module__ == f"siasops.drill.faults.{module}"


@pytest.mark.parametrize("fault", registry.DRILLS.values())
def test_every_fault_says_what_it_does(fault: type[Fault]) -> None:
    module = importlib.import_module(fault.__module__)
    assert module.__doc__
    assert len(module.__doc__) > 40
    assert fault.title
    assert len(fault.expected) > 40
    assert len(fault.spares) > 5
    assert 0 < fault.least <= fault.most
    assert not inspect.isabstract(fault)


@pytest.mark.parametrize(("name", "fault"), registry.DRILLS.items())
def test_every_drill_has_its_objectives(name: str, fault: type[Fault]) -> None:
    limits = OBJECTIVES["drills"][name.replace("-", "_")]
    writing = {"writes_back"} if fault.stops_writes else {"write_gap", "document_wait"}
    assert writing | {"read_gap", "redundancy_back"} <= set(limits)
    assert all(value > 0 for key, value in limits.items() if key != "http_failed")


def test_every_goal_is_of_a_drill_and_of_a_figure_that_is_measured() -> None:
    for key, goals in OBJECTIVES["drills_p95"].items():
        assert key in OBJECTIVES["drills"]
        assert set(goals) <= set(MEASURES)


def test_no_objective_stands_for_a_drill_that_is_gone() -> None:
    assert {key.replace("_", "-") for key in OBJECTIVES["drills"]} == set(registry.DRILLS)


@pytest.mark.parametrize("name", registry.DRILLS)
def test_every_drill_is_in_the_procedure(name: str) -> None:
    assert f"| `{name}` |" in (inventory.ROOT / "runbooks" / "procedures" / "drill.md").read_text()


def test_a_drill_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(UserError, match="room-loss"):
        registry.find("flood")
