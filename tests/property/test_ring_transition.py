"""Transitions lose nothing: every order of events in small models, many in larger ones, and brute-force twins."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations, pairwise
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.errors import CallerError
from quorate.core.quorum.joint_put_tally import JointPutTally
from quorate.core.quorum.put_tally import FAIL, SUCCEED, WAIT
from quorate.core.ring.advance import Quorum, may_advance, sources_awaited
from quorate.core.ring.create import create_ring
from quorate.core.ring.joint import JointPlacements
from quorate.core.ring.plan import Plan, plan_force, plan_join, plan_leave, plan_replace, plan_weight, start
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Side, Stage, StagedRing, abort, begin, move_member, next_stage, staged
from tests.property.transition_model import RIGHT, Mistakes, Model, chain, explore, member, ring_of, wander

STATES_MAX = 60_000
DEFAULT = Quorum(3, 2, 2)


def planted(mistakes: Mistakes) -> str:
    return ", ".join(f"{name}={value}" for name, value in vars(mistakes).items() if value != getattr(RIGHT, name))


SMALL = [
    ([(1,), (2,)], Quorum(1, 1, 1), ()),
    ([(1, 2), (3, 1)], Quorum(2, 1, 2), ()),
    ([(1, 2), (3, 1)], Quorum(2, 2, 1), ()),
    ([(1, 2), (3, 1)], Quorum(2, 1, 1), ()),
    ([(1, 2), (3, 4)], Quorum(2, 2, 1), ()),
    ([(1, 2), (3, 4)], Quorum(2, 1, 2), ()),
    ([(1, 2), (1, 2, 3)], DEFAULT, ()),
    ([(1,), (1, 2), (1, 2, 3)], Quorum(3, 3, 1), ()),
    ([(1, 2), (3, 1), (3, 2)], Quorum(2, 1, 2), ()),
    ([(1, 2), (3, 1), (3, 2)], Quorum(2, 2, 1), ()),
    ([(1, 2), (3, 1), (3, 1)], Quorum(2, 1, 2), (0,)),
    ([(1, 2, 3), (4, 1, 2)], DEFAULT, ()),
    ([(1, 2, 3), (4, 1, 2)], Quorum(3, 3, 1), ()),
]
"""Replicas from plan to plan, and which plan is aborted."""


@pytest.mark.parametrize(("sets", "quorum", "aborted"), SMALL)
def test_every_order_of_events(sets: list[tuple[int, ...]], quorum: Quorum, aborted: tuple[int, ...]) -> None:
    """One write by a coordinator of any version, and everything else in any order: no read can miss it."""
    rings = chain(*sets, aborted=aborted)
    model = Model(rings, quorum)
    for version in range(len(rings)):
        wrong, last = explore(model, (version,), STATES_MAX)
        assert wrong == "", wrong
        assert last == len(rings) - 1, "the plan can go through"


@pytest.mark.parametrize(
    "mistakes",
    [
        Mistakes(write_only=0),
        Mistakes(write_only=1),
        Mistakes(read_either=True),
        Mistakes(one_source=True),
        Mistakes(sources_short=1),
        Mistakes(sources_unconfirmed=True),
        Mistakes(confirmations_short=1),
        Mistakes(unfenced=True),
        Mistakes(early_drop=True),
    ],
    ids=planted,
)
def test_each_mistake_is_found(mistakes: Mistakes) -> None:
    """So every part of the rule is needed, down to the last confirmation and the last source."""
    model = Model(chain((1, 2, 3), (4, 1, 2)), DEFAULT, mistakes)
    assert any(explore(model, (version,), STATES_MAX)[0] for version in range(4))


def test_a_copy_that_was_filled_for_an_aborted_plan_is_not_whole() -> None:
    rings = chain((1, 2), (3, 1), (3, 1), aborted=(0,))
    wrong, _ = explore(Model(rings, Quorum(2, 2, 1), Mistakes(stale_fill=True)), (0,), STATES_MAX)
    assert "misses the write" in wrong
    assert explore(Model(rings, Quorum(2, 2, 1)), (0,), STATES_MAX)[0] == ""


LARGE: list[list[tuple[int, ...]]] = [
    [(1, 2, 3), (4, 1, 2), (4, 1, 5)],
    [(1, 2, 3), (4, 5, 1), (2, 4, 5)],
    [(1, 2, 3), (4, 5, 6)],
    [(1, 2), (1, 2, 3), (2, 3, 4)],
    [(1, 2, 3), (4, 2, 3), (1, 2, 3)],
]
QUORUMS = [DEFAULT, Quorum(3, 1, 3), Quorum(3, 3, 1), Quorum(3, 2, 3), Quorum(3, 1, 1), Quorum(3, 1, 2)]


def test_random_schedules_of_larger_clusters() -> None:
    """15,000 schedules, three writes each, of up to six nodes and two plans, some of them aborted."""
    rng = Random(5)
    finished = 0
    for _ in range(50):
        sets = rng.choice(LARGE)
        rings = chain(*sets, aborted=(0,) if rng.random() < 0.2 and sets[0] == sets[-1] else ())
        model = Model(rings, rng.choice(QUORUMS))
        for _ in range(300):
            writes = tuple(rng.randrange(len(rings)) for _ in range(3))
            wrong, last = wander(model, writes, rng, 120)
            assert wrong == "", wrong
            finished += last.decided >= 3
    assert finished > 1_000, "schedules get to the end of plans"


@pytest.mark.parametrize("mistakes", [Mistakes(one_source=True), Mistakes(confirmations_short=1)], ids=planted)
def test_random_schedules_find_mistakes_too(mistakes: Mistakes) -> None:
    rng = Random(6)
    model = Model(chain((1, 2, 3), (4, 1, 2), (4, 1, 5)), DEFAULT, mistakes)
    assert any(wander(model, (rng.randrange(7),), rng, 200)[0] for _ in range(3_000))


@pytest.mark.parametrize("quorum", [DEFAULT, Quorum(3, 1, 3), Quorum(3, 3, 1)], ids=str)
def test_a_member_that_stopped_for_good_holds_nothing_up(quorum: Quorum) -> None:
    """3 acknowledged a write and was never heard of again. With W = 1 the write may be lost, and was given up."""
    model = Model(chain((1, 2, 3), (4, 1, 2), stopped=(3,)), quorum, dead=3)
    for version in range(4):
        if version == 0 and quorum.w == 1:
            continue
        wrong, last = explore(model, (version,), STATES_MAX)
        assert wrong == "" and last == 3, wrong


def test_without_the_word_that_it_stopped_a_dead_member_is_waited_for_where_it_may_matter() -> None:
    waits = Model(chain((1, 2, 3), (4, 1, 2)), Quorum(3, 3, 1), dead=3)
    assert explore(waits, (1,), STATES_MAX) == ("", 1)
    goes_on = Model(chain((1, 2, 3), (4, 1, 2)), DEFAULT, dead=3)
    assert explore(goes_on, (1,), STATES_MAX) == ("", 3)


# The rules against their definitions.


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_may_advance_equals_its_definition(data: st.DataObject) -> None:
    """READ_OLD waits while W nodes of the side before could acknowledge by the older ring, READ_NEW while R could
    answer by it."""
    n = data.draw(st.integers(1, 4))
    quorum = Quorum(n, data.draw(st.integers(1, n)), data.draw(st.integers(1, n)))
    before = tuple(data.draw(st.lists(st.integers(1, 6), min_size=n, max_size=n, unique=True)))
    after = tuple(data.draw(st.lists(st.integers(1, 6), min_size=n, max_size=n, unique=True)))
    stopped = data.draw(st.lists(st.sampled_from(before), max_size=1))
    ring = chain(before, after, stopped=tuple(stopped))[data.draw(st.sampled_from([1, 2]))]
    transition = ring.transition
    assert transition is not None
    placements = JointPlacements(ring)
    confirmed = {node: data.draw(st.integers(transition.since - 1, transition.since + 1)) for node in range(1, 7)}
    newcomers = [node for node in after if node not in before]
    filled = {node: data.draw(st.sampled_from([transition.began, transition.began - 2])) for node in newcomers}
    lagging = [node for node in before if confirmed[node] < transition.since and node not in stopped]
    changing = set(before) != set(after)
    if transition.stage == Stage.READ_OLD:
        living = [node for node in before if node not in stopped]
        by_the_newer = [node for node in living if node not in lagging]
        escapes = [
            nodes
            for nodes in combinations(before, quorum.w)
            if any(node in living for node in nodes) and not any(node in by_the_newer for node in nodes)
        ]
        waits = any(version != transition.began for version in filled.values()) or bool(escapes)
    else:
        waits = quorum.overlaps and len(lagging) >= quorum.r
    found = may_advance(placements, confirmed, filled, [quorum])
    assert (found is not None) == (changing and waits)
    assert found is None or (found.members and found.partitions == 1 and found.text({1: "n1"}))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_filled_copy_has_met_every_write_quorum(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 5))
    w = data.draw(st.integers(1, n))
    before = tuple(range(1, n + 1))
    stopped = data.draw(st.lists(st.sampled_from(before), max_size=n, unique=True))
    placed = JointPlacements(chain(before, (9, *before[1:]))[1]).of(0, n)
    compared = [node for node in data.draw(st.lists(st.sampled_from(before), unique=True)) if node not in stopped]
    down = data.draw(st.lists(st.sampled_from(before), unique=True))
    awaited = sources_awaited(placed, compared, stopped, down, [Quorum(n, 1, w)])
    living = [node for node in before if node not in stopped]
    met = all(
        any(node in compared for node in nodes)
        for nodes in combinations(before, w)
        if any(node in living for node in nodes)
    )
    all_in_reach = all(node in compared or node in down for node in living)
    assert (not awaited) == (met and all_in_reach)
    assert not any(node in compared or node in stopped for node in awaited)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_joint_tally_equals_counting(data: st.DataObject) -> None:
    sides = [(1, 2, 3), (4, 1, 2)]
    needed = data.draw(st.integers(1, 3))
    asked = {node: node for node in (1, 2, 3, 4)}
    for stand_in in (5, 6):
        if data.draw(st.booleans()):
            asked[stand_in] = data.draw(st.sampled_from([1, 2, 3, 4]))
    gone = data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), unique=True, max_size=2))
    for home in gone:
        asked.pop(home, None)
    tally = JointPutTally(needed, sides, asked, gone)
    borrowed = [sum(home in side for home in gone) for side in sides]

    def counted(acknowledged: Callable[[int], bool]) -> list[int]:
        """For each side: copies that are its own, and as many others as it may borrow."""
        found = []
        for side, most in zip(sides, borrowed, strict=True):
            own = sum(acknowledged(node) and home in side for node, home in asked.items())
            other = sum(acknowledged(node) and home not in side for node, home in asked.items())
            found.append(own + min(most, other))
        return found

    events = data.draw(st.lists(st.tuples(st.sampled_from(sorted(asked)), st.booleans()), max_size=12))
    heard: dict[int, bool] = {}
    decided = WAIT
    for node, acknowledged in events:
        heard.setdefault(node, acknowledged)
        verdict = tally.on_acknowledged(node) if acknowledged else tally.on_failed(node)
        got = counted(lambda other: heard.get(other, False))
        may_get = counted(lambda other: heard.get(other, True))
        expected = (
            SUCCEED if min(got) >= needed else FAIL if min(may_get) < needed and False in heard.values() else WAIT
        )
        if decided == WAIT:
            assert verdict == expected or (verdict == WAIT and acknowledged and expected == FAIL)
            decided = verdict
        else:
            assert verdict == WAIT
    assert sorted(tally.missing()) == sorted(node for node in asked if not heard.get(node, False))


# Real rings: plans one after the other, every stage.


def newcomer(ring: StagedRing, host: int, weight: int, place: int = 1) -> Member:
    number = ring.last_number + place
    return Member(number, f"{number:032x}", f"n{number}", f"h{host}", f"z{number % 2}", weight, "p:1", "c:1", "h:1")


def some_plan(ring: StagedRing, rng: Random, quorums: list[Quorum]) -> Plan:
    """Any change that is not refused, of one member or of several at once."""
    while True:
        several = rng.randrange(1, 3)
        numbers = [one.number for one in rng.sample(ring.members, min(several, len(ring.members)))]
        joiners = [newcomer(ring, rng.randrange(1, 9), rng.randrange(1, 4), place + 1) for place in range(several)]
        plans: list[Callable[[], Plan]] = [
            partial(plan_join, ring, joiners, quorums),
            partial(plan_leave, ring, numbers, quorums),
            partial(plan_replace, ring, numbers, joiners, quorums),
            partial(plan_weight, ring, numbers, rng.randrange(1, 4), quorums),
        ]
        try:
            return rng.choice(plans if len(ring.members) < 6 else plans[1:])()
        except CallerError:
            continue


def versions(rng: Random, plans: int, quorums: list[Quorum]) -> list[StagedRing]:
    members = [member(number) for number in range(1, rng.randrange(2, 5))]
    rings = [staged(create_ring("c" * 32, members, 16))]
    for _ in range(plans):
        rings.append(start(rings[-1], some_plan(rings[-1], rng, quorums)))
        while rings[-1].transition is not None:
            given_up = rings[-1].transition.stage == Stage.READ_OLD and rng.random() < 0.2
            rings.append(abort(rings[-1]) if given_up else next_stage(rings[-1]))
    return rings


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9))
def test_placements_of_every_stage(seed: int) -> None:
    """Hard cases 17 and 18: whatever the stage, nobody's list is empty or short, and replicas share no host."""
    rings = versions(Random(seed), 4, [DEFAULT, Quorum(2, 1, 2)])
    for ring in rings:
        placements = JointPlacements(ring)
        hosts = {one.number: one.host for one in ring.members}
        sides = (
            [ring.transition.before, ring.transition.after] if ring.transition else [Side(ring.members, ring.owners)]
        )
        read = sides[0] if ring.transition is None or ring.transition.stage == Stage.READ_OLD else sides[1]
        for n in (1, 2, 3):
            by_hand = [PreferenceLists(StagedRing("c", 1, side.members, side.owners)) for side in sides]
            for partition in range(ring.partitions):
                placed = placements.of(partition, n)
                replicas = [lists.of(partition, n).replicas for lists in by_hand]
                assert placed.replicas == replicas[sides.index(read)] and placed.replicas
                assert set(placed.homes) == {number for side in replicas for number in side}
                assert sorted([*placed.homes, *placed.fallbacks]) == sorted(hosts)
                assert placed.changing == (len({frozenset(side) for side in replicas}) > 1)
                assert placed.sides == (tuple(replicas) if placed.changing else (placed.replicas,))
                for side, members in zip(replicas, [made.members for made in sides], strict=True):
                    possible = min(n, len({one.host for one in members}))
                    assert len({hosts[number] for number in side}) >= possible


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from([DEFAULT, Quorum(3, 1, 3), Quorum(2, 2, 1)]))
def test_real_plans_lose_nothing(seed: int, quorum: Quorum) -> None:
    rng = Random(seed)
    rings = versions(rng, 2, [quorum])
    finished = False
    for partition in (0, 5, 11):
        model = Model(rings, quorum, partition=partition)
        for _ in range(20):
            wrong, last = wander(model, tuple(rng.randrange(len(rings)) for _ in range(3)), rng, 400)
            assert wrong == "", wrong
            finished |= last.decided == len(rings) - 1
    assert finished, "some schedule gets through both plans"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9))
def test_plans_tell_the_truth(seed: int) -> None:
    rng = Random(seed)
    rings = versions(rng, 1, [DEFAULT])
    ring = rings[-1]
    plan = some_plan(ring, rng, [DEFAULT])
    assert len(plan.moves) <= plan.fewest_moves * 1.05
    owners = list(ring.owners)
    for move in plan.moves:
        assert owners[move.partition] == move.source
        owners[move.partition] = move.target
    assert owners == plan.after.owners
    begun = begin(ring, plan.id, plan.after, plan.stopped)
    placements = JointPlacements(begun)
    placed = [placements.of(partition, 3) for partition in range(16)]
    assert plan.copied[3] == sum(len(one.homes) - len(one.sides[0]) for one in placed)
    for share in plan.shares:
        assert share.owned_before == ring.owners.count(share.number)
        assert share.owned_after == owners.count(share.number)
        assert share.copies[3] == tuple(sum(share.number in one.sides[end] for one in placed) for end in (0, -1))


def test_one_ring_has_one_side() -> None:
    placements = JointPlacements(ring_of((1, 2, 3)))
    assert placements.changes(3) == {}
    assert placements.of(0, 3).sides == ((1, 2, 3),)


# Any sequence of changes, over 1 to 50 members (hard case 17).


def drawn_member(number: int, rng: Random, hosts: int, zones: int, heavy: int) -> Member:
    host, weight = rng.randrange(hosts), rng.randrange(1, heavy + 1)
    return Member(number, f"{number:032x}", f"n{number}", f"h{host}", f"z{host % zones}", weight, "p:1", "c:1", "h:1")


def sides_of(ring: StagedRing) -> list[Side]:
    if ring.transition is None:
        return [Side(ring.members, ring.owners)]
    return [ring.transition.before, ring.transition.after]


def assert_balanced(side: Side) -> None:
    """Everybody owns what its weight says, within 5%, or within one token where that is more."""
    weight = sum(one.weight for one in side.members)
    for one in side.members:
        fair = len(side.owners) * one.weight / weight
        assert abs(side.owners.count(one.number) - fair) <= max(1.0, 0.05 * fair)


def assert_apart(ring: StagedRing, n: int) -> None:
    """No two replicas of a side share a host or a zone while there are enough of them."""
    placements = JointPlacements(ring)
    for index, side in enumerate(sides_of(ring)):
        host_of = {one.number: one.host for one in side.members}
        zone_of = {one.number: one.zone for one in side.members}
        hosts, zones = min(n, len(set(host_of.values()))), min(n, len(set(zone_of.values())))
        for partition in range(ring.partitions):
            sides = placements.of(partition, n).sides
            replicas = sides[index] if len(sides) > index else sides[0]
            assert len(replicas) == min(n, len(side.members))
            assert len({host_of[number] for number in replicas}) == hosts
            assert len({zone_of[number] for number in replicas}) == zones


def assert_few_moves(before: Side, after: Side) -> None:
    """No more tokens move than must until everybody has its fair share, and 5%."""
    weight, size = sum(one.weight for one in after.members), len(after.owners)
    shares = {one.number: (size * one.weight // weight, -(-size * one.weight // weight)) for one in after.members}
    held = {number: before.owners.count(number) for number in {*before.owners, *shares}}
    given = sum(max(0, count - shares.get(number, (0, 0))[1]) for number, count in held.items())
    taken = sum(max(0, least - held[number]) for number, (least, _) in shares.items())
    moved = sum(old != new for old, new in zip(before.owners, after.owners, strict=True))
    assert moved <= 1.05 * max(given, taken)


def changed(
    ring: StagedRing, kind: str, joiners: list[Member], old: list[int], weight: int, quorum: Quorum, rng: Random
) -> StagedRing:
    """The version that begins a change of this kind, of one member or of several; raises `CallerError`."""
    if kind == "force":
        lost = rng.sample(ring.members, rng.randrange(1, max(2, len(ring.members))))
        return plan_force(ring, [one.number for one in lost], [quorum])[0]
    if kind == "move":
        return move_member(ring, msgspec.structs.replace(ring.member(old[0]), peer_address=f"p:{ring.version + 1}"))
    if kind == "join":
        return start(ring, plan_join(ring, joiners, [quorum]))
    if kind == "leave":
        return start(ring, plan_leave(ring, old, [quorum]))
    if kind == "replace":
        return start(ring, plan_replace(ring, old, joiners, [quorum]))
    return start(ring, plan_weight(ring, old, weight, [quorum]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 50), st.sampled_from([1, 3, 100]), st.sampled_from([1, 2, 3, 5]))
def test_any_sequence_of_changes_keeps_rings_even_apart_and_moves_little(
    seed: int, size: int, heavy: int, n: int
) -> None:
    rng = Random(seed)
    hosts, zones, quorum = rng.randrange(1, 51), rng.randrange(1, 5), Quorum(n, 1, n)
    members = [drawn_member(number, rng, hosts, zones, heavy) for number in range(1, size + 1)]
    rings = [staged(create_ring("c" * 32, members, 128, n))]
    for _ in range(5):
        ring = rings[-1]
        numbers = range(ring.last_number + 1, ring.last_number + rng.randrange(2, 5))
        joiners = [drawn_member(number, rng, hosts, zones, heavy) for number in numbers]
        old = [one.number for one in rng.sample(ring.members, min(len(ring.members), rng.randrange(1, 4)))]
        weight = rng.randrange(1, heavy + 1)
        kind = rng.choice(["join", "leave", "replace", "weight", "force", "move"])
        try:
            rings.append(changed(ring, kind, joiners, old, weight, quorum, rng))
        except CallerError:
            continue
        while rings[-1].transition is not None:
            given_up = rings[-1].transition.stage == Stage.READ_OLD and rng.random() < 0.1
            rings.append(abort(rings[-1]) if given_up else next_stage(rings[-1]))
    for earlier, later in pairwise(rings):
        assert later.version > earlier.version and later.last_number >= earlier.last_number
        assert later.departed[: len(earlier.departed)] == earlier.departed
    for ring in rings:
        for side in sides_of(ring):
            assert_balanced(side)
        if ring.transition is not None:
            assert_few_moves(ring.transition.before, ring.transition.after)
        assert_apart(ring, n)
        assert not {one.number for one in ring.members} & {gone.number for gone in ring.departed}
