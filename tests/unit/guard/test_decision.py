"""When the guard acts: every state it can reach, with everything it can see, and the figures of each rule."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from siasops.guard.decision import Action, Cluster, Do, Memory, Opinion, Phase, Rules, Sight, decide
from siasops.guard.wire import Answer

ROOMS = {"db-a1": "a", "db-a2": "a", "db-b1": "b"}
RULES = Rules()
CLUSTER = Cluster("db-a1", leader_revision=7, lease="5", sync_revision=3, status_revision=1, standbys=("db-b1",))


def opinion(at: float, *, leader: Answer = Answer.SILENT, hears: bool = False, fit: bool = True, fenced: bool = False,
            host: str = "db-b1") -> Opinion:  # fmt: skip
    return Opinion(host, at, leader, hears, fit, fenced)


def drive(
    seconds: float,
    *,
    leader: Answer = Answer.SILENT,
    cluster: Cluster | None = CLUSTER,
    hears: bool = False,
    renewed: bool = False,
    memory: Memory | None = None,
    start: float = 100.0,
) -> tuple[Memory, list[tuple[float, Action]]]:
    """Look every 0.2 s at a cluster that stays as it is; the fence is confirmed as soon as it is asked for."""
    memory, done, at = memory or Memory(), [], start
    while at < start + seconds:
        left = 20 if renewed and int(at * 5) % 2 else 19
        opinions = (opinion(at, hears=hears, fenced=memory.phase is Phase.FENCING),)
        memory, action = decide(memory, Sight(at, cluster, leader, left, opinions), RULES, ROOMS)
        done.append((at - start, action))
        at += 0.2
    return memory, done


def when(done: list[tuple[float, Action]], do: Do) -> float | None:
    return next((at for at, action in done if action.do is do), None)


def test_a_dead_primary_is_released_within_a_second_and_a_half() -> None:
    _, done = drive(3)
    fenced, released = when(done, Do.FENCE), when(done, Do.RELEASE)
    assert fenced is not None
    assert released is not None
    assert RULES.silence <= fenced < released < 1.5
    release = next(action for _, action in done if action.do is Do.RELEASE)
    assert release.candidate == "db-b1"
    assert release.cluster == CLUSTER


@pytest.mark.parametrize(
    ("hears", "renewed", "needed"),
    [(False, True, RULES.silence_renewed), (True, False, RULES.silence_heard), (True, True, None)],
    ids=["its Patroni renews the lease", "a standby receives WAL", "both: it lives"],
)
def test_signs_of_life_make_the_guard_wait_longer(hears: bool, renewed: bool, needed: float | None) -> None:
    _, done = drive(12, hears=hears, renewed=renewed)
    fenced = when(done, Do.FENCE)
    if needed is None:
        assert fenced is None
    else:
        assert fenced is not None
        assert needed <= fenced < needed + 0.5


def test_a_status_written_by_the_primary_counts_as_a_sign_of_life() -> None:
    memory, _ = drive(0.4)
    moved = replace(CLUSTER, status_revision=2)
    _, done = drive(1.5, cluster=moved, memory=memory, start=100.4)
    assert when(done, Do.FENCE) is None


@pytest.mark.parametrize("leader", [Answer.ANSWERS, Answer.REFUSED])
def test_one_answer_ends_a_suspicion(leader: Answer) -> None:
    memory, _ = drive(0.6)
    assert memory.phase is Phase.SUSPECTING
    memory, action = decide(memory, Sight(100.7, CLUSTER, leader, 18, (opinion(100.6),)), RULES, ROOMS)
    assert memory.phase is Phase.WATCHING
    assert action.do is Do.NOTHING


@pytest.mark.parametrize(
    "opinions",
    [(), (opinion(101.0, leader=Answer.ANSWERS),), (opinion(101.0, leader=Answer.REFUSED),), (opinion(101.0, fit=False),),
     (opinion(50.0),), (opinion(101.0, host="db-a2"),)],
    ids=["nobody was reached", "the standby hears it", "its machine says no", "the standby could not take over",
         "an old opinion", "no synchronous standby"],
)  # fmt: skip
def test_the_guard_never_acts_on_its_own_eyes_alone(opinions: tuple[Opinion, ...]) -> None:
    memory = Memory()
    for step in range(100):
        memory, action = decide(memory, Sight(100 + step / 5, CLUSTER, Answer.SILENT, 19, opinions), RULES, ROOMS)
        assert action.do in {Do.ASK, Do.NOTHING}


@pytest.mark.parametrize(
    "cluster",
    [None, Cluster(None), replace(CLUSTER, hindrance="Patroni is paused")],
    ids=["etcd is silent", "nobody leads", "hindered"],
)
def test_nothing_is_suspected_while_something_hinders(cluster: Cluster | None) -> None:
    memory, done = drive(10, cluster=cluster)
    assert {action.do for _, action in done} == {Do.NOTHING}
    assert memory.phase is Phase.WATCHING


def test_a_new_primary_is_left_alone() -> None:
    memory, _ = drive(1, leader=Answer.ANSWERS)
    new = replace(CLUSTER, leader="db-b1", leader_revision=9, standbys=("db-a1",))
    _, done = drive(RULES.settle - 0.3, cluster=new, memory=memory, start=101)
    assert {action.do for _, action in done} == {Do.NOTHING}


def test_it_rests_after_acting_and_longer_each_time() -> None:
    memory, done = drive(60)
    releases = [at for at, action in done if action.do is Do.RELEASE]
    assert len(releases) == 3
    assert releases[1] - releases[0] >= RULES.rest
    assert releases[2] - releases[1] >= 2 * RULES.rest
    assert memory.until - memory.acted == 4 * RULES.rest


def test_a_loss_long_after_the_last_one_is_acted_on_at_once() -> None:
    memory, _ = drive(1.4)
    memory, _ = drive(45, leader=Answer.ANSWERS, memory=memory, start=101.4)
    _, done = drive(2, memory=memory, start=146.4)
    assert when(done, Do.RELEASE) is not None


def test_a_fence_that_nobody_confirms_is_given_up_and_lifted() -> None:
    memory, at, done = Memory(), 100.0, []
    while at < 104:
        memory, action = decide(memory, Sight(at, CLUSTER, Answer.SILENT, 19, (opinion(at),)), RULES, ROOMS)
        done.append((at, action))
        at += 0.2
    fenced, lifted = when(done, Do.FENCE), when(done, Do.LIFT)
    assert fenced is not None
    assert lifted is not None
    assert RULES.fence_answer <= lifted - fenced < RULES.fence_answer + 0.4
    assert when(done, Do.RELEASE) is None
    assert next(action for _, action in done if action.do is Do.LIFT).hosts == ("db-b1",)


def test_a_primary_that_answers_after_the_fence_keeps_its_lease() -> None:
    memory, _ = drive(0.6)
    at = 100.6
    while memory.phase is not Phase.FENCING:
        memory, _ = decide(memory, Sight(at, CLUSTER, Answer.SILENT, 19, (opinion(at),)), RULES, ROOMS)
        at += 0.2
        assert memory.phase is not Phase.RESTING
    _, action = decide(memory, Sight(at, CLUSTER, Answer.ANSWERS, 19, (opinion(at, fenced=True),)), RULES, ROOMS)
    assert action.do is Do.LIFT


def test_a_standby_of_the_primarys_own_room_is_preferred() -> None:
    cluster = replace(CLUSTER, standbys=("db-b1", "db-a2"))
    memory, at = Memory(), 100.0
    for _ in range(20):
        fenced = memory.phase is Phase.FENCING
        both = (opinion(at, fenced=fenced), opinion(at, fenced=fenced, host="db-a2"))
        memory, action = decide(memory, Sight(at, cluster, Answer.SILENT, 19, both), RULES, ROOMS)
        if action.do is Do.RELEASE:
            assert action.candidate == "db-a2"
            return
        at += 0.2
    pytest.fail("never released")


def looks(at: float) -> list[Sight]:
    """Everything that can be seen at one moment, reduced to what makes a difference."""
    moved = [
        replace(CLUSTER, status_revision=2),
        replace(CLUSTER, sync_revision=4),
        replace(CLUSTER, leader_revision=8),
    ]
    clusters = [CLUSTER, None, Cluster(None), replace(CLUSTER, hindrance="paused"), *moved]
    said = [(), (opinion(at, leader=Answer.ANSWERS),), (opinion(at, fit=False),), (opinion(at, hears=True),),
            (opinion(at),), (opinion(at, fenced=True),), (opinion(at - 60, fenced=True),)]  # fmt: skip
    return [
        Sight(at, cluster, leader, left, opinions)
        for cluster, leader, left, opinions in product(clusters, [Answer.SILENT, Answer.ANSWERS], [18, 20], said)
    ]


def test_every_reachable_state_keeps_the_rules_of_the_argument() -> None:
    """Walk breadth first through all states, with every look, to a depth that includes two acts."""
    rules = Rules(
        misses=2, silence=1, silence_renewed=2, silence_heard=3, settle=1, fence_answer=2, rest=2, rest_most=2
    )
    frontier, released, lifted, acts = {Memory()}, 0, 0, 0
    for depth in range(1, 8):
        at = float(depth)
        following = set()
        sights = looks(at)
        for memory in frontier:
            for sight in sights:
                after, action = decide(memory, sight, rules, ROOMS)
                _hold(memory, sight, after, action, rules)
                released += action.do is Do.RELEASE
                lifted += action.do is Do.LIFT
                acts = max(acts, after.acts)
                following.add(after)
        frontier = following
    assert released > 0
    assert acts == 2
    assert lifted > 0
    assert len(frontier) > 50


def _hold(memory: Memory, sight: Sight, after: Memory, action: Action, rules: Rules) -> None:
    """Assert the rules of ARGUMENT.md for one step."""
    if action.do in {Do.FENCE, Do.RELEASE}:
        assert sight.cluster is not None
        assert not sight.cluster.hindrance
        assert sight.leader is Answer.SILENT  # the witness's own eyes, now
        silent = {o.host for o in sight.opinions if o.leader is Answer.SILENT and o.fit and o.at >= memory.since}
        assert silent & set(sight.cluster.standbys)  # and another pair, since
        assert memory.cluster is not None
        assert replace(sight.cluster, status_revision=0) == replace(memory.cluster, status_revision=0)
        assert sight.at - memory.since >= rules.silence
        assert memory.misses + 1 >= rules.misses
    if action.do is Do.RELEASE:
        assert memory.phase is Phase.FENCING  # never without having fenced
        confirmed = {o.host for o in sight.opinions if o.fenced and o.at >= memory.fencing}
        assert action.candidate in confirmed
        assert after.phase is Phase.RESTING
        assert after.until >= sight.at + rules.rest
        assert memory.acted == float("-inf") or sight.at - memory.acted >= rules.rest  # never twice without a rest
    if memory.phase is Phase.FENCING and after.phase is Phase.WATCHING:
        assert action.do is Do.LIFT  # a fence is never forgotten
