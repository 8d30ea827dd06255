"""Every fault of the catalogue, once, in random order: the platform keeps its promises and heals by itself."""

from __future__ import annotations

import pytest

from siasops.console import Progress
from siasops.drill import campaign, registry
from siasops.drill.run import session
from siasops.inventory import Inventory

pytestmark = [pytest.mark.lab, pytest.mark.drill, pytest.mark.long]


@pytest.fixture(scope="module")
def done(lab: Inventory) -> dict[str, campaign.Done]:
    """A campaign over everything that can be done here."""
    with session(lab) as stage:
        folder = campaign.record(lab, campaign.plan(stage, [], runs=1, seed=1))
        campaign.run(stage, folder, Progress())
    print(f"\n{folder}\nskipped: {campaign.read(folder).skipped}")
    return {one.drill: one for one in campaign.done(folder)}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", registry.DRILLS)
def test_every_promise_holds(name: str, done: dict[str, campaign.Done]) -> None:
    if name not in done:
        pytest.skip("cannot be done here: its reason stands in the campaign's plan")
    assert (done[name].verdict, done[name].why) == ("held", "")
