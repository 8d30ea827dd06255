"""When the guard may act: a pure function from what is seen to what is done. ARGUMENT.md explains it.

`decide` is given what it remembers and one look, and returns what it remembers next and one action. It never asks a
clock, a socket or a file, so that tests can walk through every state it can be in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from siasops.guard.wire import Answer


@dataclass(frozen=True)
class Rules:
    """How long, how often. Seconds unless said."""

    misses: int = 3
    """Looks in a row in which the primary's host gave no answer."""
    silence: float = 0.8
    """From the first missed look to the fence, when a standby hears nothing either and the lease is not renewed."""
    silence_renewed: float = 2.5
    """The same when the lease was renewed meanwhile: its Patroni lives and only PostgreSQL and its host are silent."""
    silence_heard: float = 5.0
    """The same when a standby still receives WAL and the lease is not renewed: Patroni hangs and PostgreSQL goes on."""
    settle: float = 5.0
    """A primary that has just taken the lease is left alone for this long."""
    fence_answer: float = 1.5
    """A fence that is not confirmed within this is given up."""
    rest: float = 10.0
    """After acting; doubled for each act that follows within `quiet`, up to `rest_most`. A second loss needs a synchronous
    standby to act on in any case, which takes as long to come back."""
    rest_most: float = 600.0
    quiet: float = 30.0


@dataclass(frozen=True)
class Cluster:
    """What etcd says about the cluster, in one read. Revisions are those of each key's last change."""

    leader: str | None
    leader_revision: int = 0
    lease: str = "0"
    sync_revision: int = 0
    status_revision: int = 0
    standbys: tuple[str, ...] = ()
    """The synchronous standbys of this leader, whose confirmation every commit waits for."""
    hindrance: str = ""
    """Why nobody may act now: a maintenance, a planned switchover, no synchronous standby. Empty: nothing hinders."""


@dataclass(frozen=True)
class Opinion:
    """What an agent on a standby says about the primary. `at` is when the answer arrived, on the guard's clock."""

    host: str
    at: float
    leader: Answer
    hears: bool
    """WAL or a keepalive of the primary reached this host within the last second."""
    fit: bool
    """Its own PostgreSQL follows and answers: it could take over."""
    fenced: bool = False
    """It has cut the primary off, and confirmed it after looking again."""


@dataclass(frozen=True)
class Sight:
    """One look. `cluster` is None when etcd gave no linearizable answer; `lease_left` in whole seconds, None unknown."""

    at: float
    cluster: Cluster | None
    leader: Answer = Answer.ANSWERS
    lease_left: int | None = None
    opinions: tuple[Opinion, ...] = ()


class Phase(StrEnum):
    """What the guard is doing."""

    WATCHING = "watching"
    SUSPECTING = "suspecting"
    FENCING = "fencing"
    RESTING = "resting"


@dataclass(frozen=True)
class Memory:
    """What the guard remembers from look to look."""

    phase: Phase = Phase.WATCHING
    since: float = 0.0
    """When this phase began; for a suspicion, the first missed look."""
    cluster: Cluster | None = None
    """As it was at the first missed look."""
    misses: int = 0
    lease_left: int | None = None
    renewed: bool = False
    fencing: float = 0.0
    until: float = 0.0
    """When the rest ends."""
    acts: int = 0
    """Acts without `quiet` between them."""
    acted: float = float("-inf")
    led_since: float = float("-inf")
    led_by: tuple[str | None, int] = (None, 0)


class Do(StrEnum):
    """What is to be done after a look."""

    NOTHING = "nothing"
    ASK = "ask"
    """Ask the agents of the standbys what they see."""
    FENCE = "fence"
    """Have `hosts` cut the primary off."""
    RELEASE = "release"
    """End the primary's lease in favour of `candidate`, if etcd still says what `cluster` says."""
    LIFT = "lift"
    """Undo the fence: the primary lives, or it is no longer the question."""


@dataclass(frozen=True)
class Action:
    """One action, with the sentence that explains it."""

    do: Do
    why: str
    hosts: tuple[str, ...] = ()
    candidate: str | None = None
    cluster: Cluster | None = None


def decide(memory: Memory, sight: Sight, rules: Rules, rooms: dict[str, str]) -> tuple[Memory, Action]:
    """Judge one look.

    Args:
        memory: what `decide` returned before; `Memory()` at first.
        sight: this look.
        rules: how long, how often.
        rooms: database host to room; a candidate in the primary's own room is preferred.

    Returns:
        The next memory, and what to do now.
    """
    memory = _lead_of(memory, sight)
    hindrance = _hindrance(memory, sight, rules)
    if hindrance:
        return _forget(memory, sight.at, hindrance)
    cluster = sight.cluster
    assert cluster is not None  # noqa: S101 - a hindrance otherwise
    if memory.phase is Phase.RESTING and sight.at < memory.until:
        return memory, Action(Do.NOTHING, f"resting for {memory.until - sight.at:.0f} s after an act")
    if memory.phase in {Phase.WATCHING, Phase.RESTING}:
        return _watch(memory, sight, cluster)
    if cluster != memory.cluster and not _only_status_moved(memory, cluster):
        return _forget(memory, sight.at, f"etcd says something new about {cluster.leader}")
    if sight.leader is not Answer.SILENT:
        return _forget(memory, sight.at, f"{cluster.leader} {sight.leader}")
    return _suspect(memory, sight, rules, rooms)


def _watch(memory: Memory, sight: Sight, cluster: Cluster) -> tuple[Memory, Action]:
    """Begin a suspicion with the first look that has no answer."""
    if sight.leader is not Answer.SILENT:
        return replace(memory, phase=Phase.WATCHING), Action(Do.NOTHING, f"{cluster.leader} answers")
    suspicion = replace(
        memory, phase=Phase.SUSPECTING, since=sight.at, cluster=cluster, misses=1, renewed=False, lease_left=None
    )
    return suspicion, Action(Do.ASK, f"{cluster.leader} gives no answer", cluster.standbys)


def _lead_of(memory: Memory, sight: Sight) -> Memory:
    """Remember since when the present leader leads."""
    if sight.cluster is None:
        return memory
    led_by = sight.cluster.leader, sight.cluster.leader_revision
    if led_by == memory.led_by:
        return memory
    known = memory.led_by != (None, 0)
    return replace(memory, led_by=led_by, led_since=sight.at if known else float("-inf"))


def _hindrance(memory: Memory, sight: Sight, rules: Rules) -> str:
    """Why no suspicion may even begin."""
    if sight.cluster is None:
        return "etcd gives no linearizable answer"
    if sight.cluster.leader is None:
        return "nobody holds the primary's lease"
    if sight.cluster.hindrance:
        return sight.cluster.hindrance
    if sight.at - memory.led_since < rules.settle:
        return f"{sight.cluster.leader} has only just taken the lease"
    return ""


def _forget(memory: Memory, at: float, why: str) -> tuple[Memory, Action]:
    """Drop the suspicion; lift the fence when there may be one."""
    if memory.phase is Phase.RESTING and at < memory.until:
        return memory, Action(Do.NOTHING, why)
    was_fencing = memory.phase is Phase.FENCING
    hosts = memory.cluster.standbys if was_fencing and memory.cluster else ()
    fresh = replace(memory, phase=Phase.WATCHING, since=at, cluster=None, misses=0)
    return fresh, Action(Do.LIFT if was_fencing else Do.NOTHING, why, hosts)


def _only_status_moved(memory: Memory, cluster: Cluster) -> bool:
    """Tell whether the primary has only reported its position since: its Patroni reaches etcd."""
    return (
        memory.cluster is not None
        and replace(cluster, status_revision=memory.cluster.status_revision) == memory.cluster
    )


def _suspect(memory: Memory, sight: Sight, rules: Rules, rooms: dict[str, str]) -> tuple[Memory, Action]:
    """Weigh another look without an answer."""
    cluster = sight.cluster
    assert cluster is not None  # noqa: S101 - checked by the caller
    assert memory.cluster is not None  # noqa: S101 - set with the suspicion
    renewed = (
        memory.renewed
        or cluster.status_revision != memory.cluster.status_revision
        or (sight.lease_left is not None and memory.lease_left is not None and sight.lease_left > memory.lease_left)
    )
    memory = replace(
        memory,
        misses=memory.misses + 1,
        renewed=renewed,
        lease_left=sight.lease_left if sight.lease_left is not None else memory.lease_left,
    )
    fresh = [o for o in sight.opinions if o.host in cluster.standbys and o.at >= memory.since]
    if memory.phase is Phase.FENCING:
        return _fencing(memory, sight, rules, rooms, fresh)
    against = [o.host for o in fresh if o.leader is not Answer.SILENT]
    if against:
        return memory, Action(Do.ASK, f"{', '.join(against)} still reaches {cluster.leader}", cluster.standbys)
    agreeing = tuple(o.host for o in fresh if o.fit)
    if not agreeing:
        return memory, Action(Do.ASK, "no synchronous standby confirms it", cluster.standbys)
    heard = any(o.hears for o in fresh)
    if heard and renewed:
        return memory, Action(Do.ASK, f"{cluster.leader} sends WAL and renews its lease", cluster.standbys)
    needed = rules.silence_heard if heard else rules.silence_renewed if renewed else rules.silence
    if memory.misses < rules.misses or sight.at - memory.since < needed:
        return memory, Action(Do.ASK, f"silent for {sight.at - memory.since:.1f} s of {needed} s", cluster.standbys)
    return (
        replace(memory, phase=Phase.FENCING, fencing=sight.at),
        Action(Do.FENCE, f"{cluster.leader} is silent to the witness and to {', '.join(agreeing)}", agreeing),
    )


def _fencing(
    memory: Memory, sight: Sight, rules: Rules, rooms: dict[str, str], fresh: list[Opinion]
) -> tuple[Memory, Action]:
    """Release once a standby that every commit waits for has cut the primary off; give up when none does in time."""
    cluster = sight.cluster
    assert cluster is not None  # noqa: S101 - checked by the caller
    assert cluster.leader is not None  # noqa: S101 - checked by the caller
    fenced = [o.host for o in fresh if o.fenced and o.fit and o.at >= memory.fencing]
    if not fenced:
        if sight.at - memory.fencing < rules.fence_answer:
            return memory, Action(Do.NOTHING, "waiting for the fence")
        return _forget(memory, sight.at, "no standby confirmed the fence")
    own_room = [host for host in fenced if rooms.get(host) == rooms.get(cluster.leader)]
    candidate = (own_room or fenced)[0]
    acts = memory.acts + 1 if sight.at - memory.acted < rules.quiet else 1
    rest = min(rules.rest * 2 ** (acts - 1), rules.rest_most)
    resting = replace(
        memory, phase=Phase.RESTING, since=sight.at, until=sight.at + rest, acts=acts, acted=sight.at, misses=0
    )
    return resting, Action(
        Do.RELEASE, f"{cluster.leader} is cut off by {', '.join(fenced)}", tuple(fenced), candidate, cluster
    )
