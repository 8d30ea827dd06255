"""What the observer makes of the hosts' answers, and when redundancy is back."""

import pytest

from siasops import inventory as facts
from siasops.drill.observer import Observer, Sight, judge

LAB = facts.load(facts.resolve("lab"))
FOLLOWS = {"role": "replica", "state": "running", "replication_state": "streaming", "timeline": 3}


def leads(state: str = "streaming", sync: str = "quorum") -> dict[str, object]:
    standby = {"application_name": "db-b1", "state": state, "sync_state": sync}
    return {"role": "primary", "state": "running", "timeline": 3, "replication": [standby]}


@pytest.mark.parametrize(
    ("a1", "b1", "leader", "redundant"),
    [
        (leads(), FOLLOWS, "db-a1", True),
        (leads(), FOLLOWS | {"timeline": 2}, "db-a1", False),
        (leads(state="catchup"), FOLLOWS, "db-a1", False),
        (leads(sync="async"), FOLLOWS, "db-a1", False),
        (leads(), None, "db-a1", None),
        (leads(sync="async"), None, "db-a1", False),
        (leads() | {"replication": []}, None, "db-a1", False),
        (None, FOLLOWS, None, None),
        (None, None, None, None),
        (FOLLOWS, FOLLOWS, None, False),
        (leads(), leads(), None, False),
    ],
)
def test_a_host_that_does_not_answer_is_not_seen_rather_than_gone(a1, b1, leader, redundant):
    sight = judge(LAB, 1.0, {"db-a1": a1, "db-b1": b1})
    assert (sight.leader, sight.redundant) == (leader, redundant)


@pytest.mark.parametrize(
    ("looks", "since"),
    [
        ("RRRRRRRRRRRRRRRR", 0.0),
        ("RRR----RRRRRRRRR", 3.5),
        ("RR.RR..RRRRRRRRR", 0.0),  # late answers of a busy host
        ("RRRRRRRRRRRR...R", 0.0),
        ("RRRRRRRRRRRRRRR.", 0.0),
        ("RRR-...RRRRRRRRR", 3.5),
        ("RRR......RRRRRRR", 4.5),  # silent for three seconds and more: it was dead
        ("RRRRRRRR........", None),
        ("RRRRRRRRRRRRRRR-", None),
        ("................", None),
    ],
)
def test_redundancy_is_back_since_the_last_look_that_missed_it(looks, since):
    seen = {"R": True, "-": False, ".": None}
    observer = Observer.__new__(Observer)
    observer.sights = [Sight(at / 2, "db-a1", 3, seen[look]) for at, look in enumerate(looks)]
    assert observer.redundant_since(0.0) == since
