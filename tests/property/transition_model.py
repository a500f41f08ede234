"""A small model of a cluster that changes its ring: one partition, few nodes, every order of events.

The rules come from the code under test: who is read and written, what an acknowledgement counts for, when a copy is
filled and when a stage may follow. The model adds what a cluster does around them, and nothing that would help: nodes
take over versions when they like and skip some; a coordinator goes by any version, however old; messages arrive late or
never; a node drops its copy, without handing anything over, the moment that it may.

A read is not an event. Whether one *could* miss a write is asked of every state: is there a decided version by which R
replicas would answer, of which none has the write? Replies that come later can only know more, and refuse more.

`Mistakes` are planted to see that the model finds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from quorate.core.ring.advance import Quorum, may_advance, sources_awaited
from quorate.core.ring.joint import Change, JointPlacement, JointPlacements
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Side, Stage, StagedRing, abort, begin, next_stage


@dataclass(frozen=True)
class Mistakes:
    """What is done wrong. By default, nothing."""

    write_only: int | None = None
    """Only this side (0: before, 1: after) must acknowledge."""
    read_either: bool = False
    """Readers ask whom they like of both sides."""
    sources_short: int = 0
    """A newcomer counts as filled from so many replicas fewer."""
    one_source: bool = False
    sources_unconfirmed: bool = False
    """A newcomer is compared with replicas that still go by the older ring."""
    confirmations_short: int = 0
    """The last stage is decided with so many confirmations fewer."""
    unfenced: bool = False
    """Replicas carry out requests of older versions."""
    early_drop: bool = False
    """A node that goes drops its copy at once."""
    stale_fill: bool = False
    """That a newcomer was filled for an earlier plan is good enough."""


RIGHT = Mistakes()

Action = tuple[str, int, int]
"""(what, node or write, node)."""


def member(number: int) -> Member:
    return Member(number, f"{number:032x}", f"n{number}", f"h{number}", "z", 1, "p:1", "c:1", "h:1")


def ring_of(replicas: tuple[int, ...], version: int = 1) -> StagedRing:
    """A ring of one partition with these replicas."""
    members = [member(number) for number in sorted(replicas)]
    return StagedRing("c" * 32, version, members, [replicas[0]], last_number=9)


def chain(*sets: tuple[int, ...], aborted: tuple[int, ...] = (), stopped: tuple[int, ...] = ()) -> list[StagedRing]:
    """The versions that lead from one set of replicas to the next; those plans are `aborted` whose index is given."""
    rings = [ring_of(sets[0])]
    for index, replicas in enumerate(sets[1:]):
        side = Side([member(number) for number in sorted(replicas)], [replicas[0]])
        living = [number for number in stopped if number in sets[0]]
        rings.append(begin(rings[-1], f"plan {index}", side, living if index == 0 else []))
        if index in aborted:
            rings.append(abort(rings[-1]))
        else:
            rings.append(next_stage(rings[-1]))
            rings.append(next_stage(rings[-1]))
    return rings


def mask(numbers: tuple[int, ...] | list[int]) -> int:
    return sum(1 << number for number in numbers)


@dataclass(frozen=True)
class State:
    decided: int
    """Index of the newest version that exists."""
    versions: tuple[int, ...]
    """Of each node: the index of the version it goes by. Number 0 is nobody."""
    compared: tuple[int, ...]
    """Of each node: whom it was compared with for the plan it goes by, as a mask."""
    filled: tuple[int, ...]
    """Of each node: the version of the plan that it last was filled for."""
    writes: tuple[tuple[int, int, int], ...]
    """Index of its version, who has accepted it, who has it."""


class OnePartition(JointPlacements):
    """The placements of a ring as if no other partition changed: what those wait for is not modelled."""

    def __init__(self, ring: StagedRing, partition: int) -> None:
        super().__init__(ring)
        self._partition = partition

    def changes(self, n: int) -> dict[Change, int]:
        placed = self.of(self._partition, n)
        before, after = (tuple(sorted(placed.sides[end])) for end in (0, -1))
        return {(before, after): 1} if placed.changing else {}


class Model:
    """One partition under a chain of rings."""

    def __init__(
        self, rings: list[StagedRing], quorum: Quorum, mistakes: Mistakes = RIGHT, partition: int = 0, dead: int = 0
    ) -> None:
        """`dead` took its part in writes of the first version, and has not been heard of since."""
        self.rings = rings
        self.quorum = quorum
        self.mistakes = mistakes
        self.dead = 1 << dead if dead else 0
        self.placements = [OnePartition(ring, partition) for ring in rings]
        self.served: list[JointPlacement] = [made.of(partition, quorum.n) for made in self.placements]
        self.nodes = tuple(sorted({number for placed in self.served for number in placed.homes}))
        self.homes = [mask(placed.homes) for placed in self.served]
        self.read = [mask(self._readers(placed)) for placed in self.served]
        self.sides = [[mask(side) for side in self._sides(placed)] for placed in self.served]
        self.began = [ring.transition.began if ring.transition else 0 for ring in rings]
        self._advances: dict[tuple[int, tuple[int, ...], tuple[int, ...]], bool] = {}

    def start(self, writes: tuple[int, ...]) -> State:
        """Everybody by the first version, and writes that are under way at the versions with these indices."""
        size = max(self.nodes) + 1
        nothing = (0,) * size
        taken = [self.dead if version == 0 else 0 for version in writes]
        return State(
            0, nothing, nothing, nothing, tuple((at, dead, dead) for at, dead in zip(writes, taken, strict=True))
        )

    def actions(self, writes: int) -> list[Action]:
        """Everything that can ever happen; `step` says whether it can now."""
        found: list[Action] = [("decide", 0, 0)]
        found += [("adopt", node, skip) for node in self.nodes for skip in (1, 2, 3)[: len(self.rings) - 1]]
        found += [("compare", node, other) for node in self.nodes for other in self.nodes if node != other]
        found = [action for action in found if not (self.dead >> action[1] | self.dead >> action[2]) & 1]
        living = [node for node in self.nodes if not self.dead >> node & 1]
        return found + [("deliver", write, node) for write in range(writes) for node in living]

    def step(self, state: State, action: Action) -> State | None:
        """The state after `action`; None if it cannot happen, or changes nothing."""
        what, first, second = action
        if what == "decide":
            return self._decide(state)
        if what == "adopt":
            return self._adopt(state, first, state.versions[first] + second)
        if what == "compare":
            return self._compare(state, first, second)
        return self._deliver(state, first, second)

    def missed(self, state: State) -> str:
        """What is wrong with this state; empty if nothing is."""
        for version, accepted, held in state.writes:
            if not self.acknowledged(version, accepted):
                continue
            if not held & ~self.dead:
                return f"the write of version {version} is lost"
            for reader in range(state.decided + 1):
                ignorant = [
                    node
                    for node in self.nodes
                    if self.read[reader] >> node & 1
                    and not (held | self.dead) >> node & 1
                    and (state.versions[node] <= reader or self.mistakes.unfenced)
                ]
                if len(ignorant) >= self.quorum.r and self.quorum.overlaps:
                    return f"a read of version {reader} at {ignorant} misses the write of version {version}"
        return ""

    def acknowledged(self, version: int, accepted: int) -> bool:
        return all((side & accepted).bit_count() >= self.quorum.w for side in self.sides[version])

    def _readers(self, placed: JointPlacement) -> list[int]:
        return list(placed.homes if self.mistakes.read_either else placed.replicas)

    def _sides(self, placed: JointPlacement) -> list[tuple[int, ...]]:
        only = self.mistakes.write_only
        return list(placed.sides) if only is None or not placed.changing else [placed.sides[only]]

    def _adopt(self, state: State, node: int, version: int) -> State | None:
        if version > state.decided:
            return None
        versions = list(state.versions)
        compared = list(state.compared)
        if self.began[version] != self.began[versions[node]]:
            compared[node] = 0
        versions[node] = version
        keeps = mask(self.served[version].sides[-1]) if self.mistakes.early_drop else self.homes[version]
        writes = state.writes
        if not keeps >> node & 1:
            writes = tuple((at, accepted, held & ~(1 << node)) for at, accepted, held in writes)
        return State(state.decided, tuple(versions), tuple(compared), state.filled, writes)

    def _compare(self, state: State, node: int, source: int) -> State | None:
        version = state.versions[node]
        transition = self.rings[version].transition
        placed = self.served[version]
        if transition is None or not placed.changing or state.compared[node] >> source & 1:
            return None
        before, after = placed.sides
        confirmed = self.mistakes.sources_unconfirmed or self.began[state.versions[source]] == transition.began
        if node in before or node not in after or source not in before or not confirmed:
            return None
        compared = list(state.compared)
        compared[node] |= 1 << source
        filled = list(state.filled)
        if self._whole(placed, compared[node], transition.stopped):
            filled[node] = transition.began
        writes = tuple((at, accepted, held | (held >> source & 1) << node) for at, accepted, held in state.writes)
        return State(state.decided, state.versions, tuple(compared), tuple(filled), writes)

    def _whole(self, placed: JointPlacement, compared: int, stopped: list[int]) -> bool:
        """Would the newcomer say that it is filled? Everybody else is down, which demands the least of it."""
        known = [number for number in placed.sides[0] if compared >> number & 1]
        if self.mistakes.one_source:
            return bool(known)
        known += [number for number in placed.sides[0] if number not in known][: self.mistakes.sources_short]
        return not sources_awaited(placed, known, stopped, placed.sides[0], [self.quorum])

    def _deliver(self, state: State, write: int, node: int) -> State | None:
        version, accepted, held = state.writes[write]
        bit = 1 << node
        if version > state.decided or accepted & bit or not self.homes[version] & bit:
            return None
        if state.versions[node] > version and not self.mistakes.unfenced:
            return None
        caught_up = state
        if state.versions[node] < version:
            caught_up = self._adopt(state, node, version) or state
        writes = list(caught_up.writes)
        writes[write] = (version, accepted | bit, held | bit)
        return State(state.decided, caught_up.versions, caught_up.compared, state.filled, tuple(writes))

    def _decide(self, state: State) -> State | None:
        now = state.decided
        if now + 1 == len(self.rings) or not self._may_follow(state, now):
            return None
        return State(now + 1, state.versions, state.compared, state.filled, state.writes)

    def _may_follow(self, state: State, now: int) -> bool:
        transition = self.rings[now].transition
        following = self.rings[now + 1].transition
        if transition is None or (transition.stage == Stage.READ_OLD and following is None):
            return True  # A plan begins, or is aborted.
        key = (now, state.versions, state.filled)
        known = self._advances.get(key)
        if known is None:
            confirmed = {node: self.rings[state.versions[node]].version for node in self.nodes}
            if transition.stage == Stage.READ_NEW:
                lagging = [node for node in self.served[now].sides[0] if confirmed[node] < transition.since]
                confirmed.update(dict.fromkeys(lagging[: self.mistakes.confirmations_short], transition.since))
            filled = {node: state.filled[node] for node in self.nodes}
            if self.mistakes.stale_fill:
                filled = {node: transition.began if version else 0 for node, version in filled.items()}
            known = may_advance(self.placements[now], confirmed, filled, [self.quorum]) is None
            self._advances[key] = known
        return known


def explore(model: Model, writes: tuple[int, ...], states_max: int) -> tuple[str, int]:
    """(what is wrong in some state that can be reached, the last version that is). Bounded by `states_max`."""
    first = model.start(writes)
    actions = model.actions(len(writes))
    seen = {first: True}
    frontier = [first]
    while frontier:
        following = []
        for state in frontier:
            for action in actions:
                reached = model.step(state, action)
                if reached is None or reached in seen:
                    continue
                seen[reached] = True
                wrong = model.missed(reached)
                if wrong:
                    return wrong, reached.decided
                following.append(reached)
        frontier = following
        assert len(seen) <= states_max, "this model is too large to be explored"
    return "", max(state.decided for state in seen)


def wander(model: Model, writes: tuple[int, ...], rng: Random, tries: int) -> tuple[str, State]:
    """(what is wrong, the last state) of one random schedule, in which now and then some nodes rest for a while."""
    state = model.start(writes)
    actions = model.actions(len(writes))
    while tries > 0:
        asleep = mask([node for node in model.nodes if rng.random() < 0.2])
        some = [action for action in actions if not (asleep >> action[1] | asleep >> action[2]) & 1]
        for _ in range(20):
            tries -= 1
            reached = model.step(state, some[int(rng.random() * len(some))])
            if reached is None:
                continue
            state = reached
            wrong = model.missed(state)
            if wrong:
                return wrong, state
    return "", state
