"""Plans and their stages on rings small enough to check by eye, and the hard cases that transitions exist for."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from quorate.core.errors import CallerError
from quorate.core.quorum.joint_put_tally import JointPutTally
from quorate.core.quorum.put_tally import FAIL, SUCCEED, WAIT
from quorate.core.ring.advance import Quorum, Waiting, may_advance, sources_awaited
from quorate.core.ring.create import create_ring
from quorate.core.ring.joint import JointPlacements
from quorate.core.ring.plan import Plan, plan_join, plan_leave, plan_replace, plan_weight, start
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed, Stage, StagedRing, abort, next_stage, settle, staged
from tests.property.transition_model import Model, State, chain, member

DEFAULT = Quorum(3, 2, 2)


def ring_of(count: int, partitions: int = 16) -> StagedRing:
    return staged(create_ring("c" * 32, [member(number) for number in range(1, count + 1)], partitions))


def through(ring: StagedRing) -> StagedRing:
    while ring.transition is not None:
        ring = next_stage(ring)
    return ring


def joined(ring: StagedRing, number: int) -> StagedRing:
    return through(start(ring, plan_join(ring, [member(number)], [DEFAULT])))


# Stages.


def test_a_join_goes_through_three_versions() -> None:
    ring = ring_of(3)
    plan = plan_join(ring, [member(4)], [DEFAULT])
    first = start(ring, plan)
    assert first.transition is not None
    assert (first.version, first.transition.stage, first.owners) == (2, Stage.READ_OLD, ring.owners)
    assert (first.transition.began, first.transition.since) == (2, 2)
    assert [one.number for one in first.members] == [1, 2, 3, 4]
    second = next_stage(first)
    assert second.transition is not None
    assert (second.version, second.transition.stage, second.owners) == (3, Stage.READ_NEW, plan.after.owners)
    assert (second.transition.began, second.transition.since) == (2, 3)
    third = next_stage(second)
    assert (third.version, third.transition, third.owners) == (4, None, plan.after.owners)
    assert (third.last_number, third.departed) == (4, [])


def test_a_staged_ring_travels_and_is_stored_whole() -> None:
    ring = start(ring_of(4), plan_leave(ring_of(4), [2], [DEFAULT], stopped=True))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ring), type=StagedRing) == ring


def test_a_leaver_takes_part_until_the_end_and_has_departed_then() -> None:
    ring = ring_of(4)
    first = start(ring, plan_leave(ring, [2], [DEFAULT]))
    assert [one.number for one in first.members] == [1, 2, 3, 4]
    last = through(first)
    assert [one.number for one in last.members] == [1, 3, 4]
    assert last.departed == [Departed(2, f"{2:032x}")]
    assert 2 not in last.owners


def test_a_number_is_not_given_again_after_its_member_has_left() -> None:
    ring = ring_of(4)
    gone = through(start(ring, plan_leave(ring, [4], [DEFAULT])))
    heavier = through(start(gone, plan_weight(gone, [1], 2, [DEFAULT])))
    assert heavier.last_number == 4
    with pytest.raises(CallerError, match="the next free one is 5"):
        plan_join(heavier, [clone(member(4), id="f" * 32)], [DEFAULT])


def test_an_aborted_plan_leaves_the_ring_as_it_was() -> None:
    ring = ring_of(3)
    back = abort(start(ring, plan_join(ring, [member(4)], [DEFAULT])))
    assert (back.version, back.members, back.owners, back.transition) == (3, ring.members, ring.owners, None)
    assert back.departed == [], "the joiner may try again"
    with pytest.raises(CallerError, match="the next free one is 5"):
        plan_join(back, [member(4)], [DEFAULT])
    assert plan_join(back, [member(5)], [DEFAULT])


def test_a_plan_that_is_read_already_only_goes_forward() -> None:
    ring = ring_of(3)
    reading_new = next_stage(start(ring, plan_join(ring, [member(4)], [DEFAULT])))
    with pytest.raises(CallerError, match="only go forward"):
        abort(reading_new)
    with pytest.raises(CallerError, match="no plan is under way"):
        abort(ring)


def test_a_change_that_moves_no_replica_is_one_version() -> None:
    ring = ring_of(3)
    plan = plan_weight(ring, [2], 1, [DEFAULT])
    after = start(ring, plan)
    assert (after.version, after.transition, after.owners) == (2, None, ring.owners)
    assert plan.moves == [] and plan.copied == {3: 0}


def test_owners_that_move_where_all_are_replicas_go_through_stages_all_the_same() -> None:
    """With n = 3 nothing moves in three nodes; but somebody may make a bucket with n = 1 at any time."""
    ring = ring_of(3)
    plan = plan_weight(ring, [2], 2, [DEFAULT])
    assert plan.moves and plan.copied == {3: 0}
    first = start(ring, plan)
    assert first.transition is not None
    assert may_advance(JointPlacements(first), {}, {}, [DEFAULT]) is None, "nobody has to be waited for"


# Plans.


def test_a_plan_says_what_moves() -> None:
    ring = ring_of(3, 64)
    plan = plan_join(ring, [member(4)], [DEFAULT, Quorum(1, 1, 1)])
    assert plan.fewest_moves == len(plan.moves) == 16
    assert {move.target for move in plan.moves} == {4}
    assert plan.copied[1] == 16 and plan.copied[3] >= 48
    shares = {share.number: share for share in plan.shares}
    assert (shares[4].owned_before, shares[4].owned_after) == (0, 16)
    assert shares[1].owned_before in (21, 22) and shares[1].owned_after == 16
    assert shares[4].copies[1] == (0, 16) and plan.warnings == []


def test_equal_wishes_are_one_plan_and_others_are_not() -> None:
    ring = ring_of(4)
    ids = [
        plan_leave(ring, [2], [DEFAULT]).id,
        plan_leave(ring, [3], [DEFAULT]).id,
        plan_leave(ring, [2], [DEFAULT], stopped=True).id,
        plan_leave(msgspec.structs.replace(ring, version=2), [2], [DEFAULT]).id,
    ]
    assert len(dict.fromkeys(ids)) == 4
    assert plan_leave(ring, [2], [DEFAULT]).id == ids[0]


def test_a_plan_holds_for_one_version_of_the_ring() -> None:
    """Two joins at once: the second is planned again when the first has finished."""
    ring = ring_of(3)
    one, other = plan_join(ring, [member(4)], [DEFAULT]), plan_join(ring, [member(5)], [DEFAULT])
    under_way = start(ring, one)
    with pytest.raises(CallerError, match="is under way"):
        start(under_way, other)
    with pytest.raises(CallerError, match="is under way"):
        plan_join(under_way, [member(5)], [DEFAULT])
    done = through(under_way)
    with pytest.raises(CallerError, match="plan again"):
        start(done, other)
    assert len(joined(done, 5).members) == 5


def test_a_newcomer_of_the_same_weight_takes_exactly_the_tokens_of_the_one_it_replaces() -> None:
    ring = ring_of(4)
    plan = plan_replace(ring, [2], [member(5)], [DEFAULT])
    assert plan.after.owners == [5 if owner == 2 else owner for owner in ring.owners]


def on_host(number: int, host: str) -> Member:
    return msgspec.structs.replace(member(number), host=host)


def test_what_is_refused() -> None:
    ring = ring_of(3)
    four = joined(ring, 4)
    gone = through(start(four, plan_leave(four, [2], [DEFAULT])))
    lone = ring_of(1)
    refusals: list[tuple[str, Callable[[], Plan]]] = [
        ("2 members would be left, and there are buckets with n=3", lambda: plan_leave(ring, [2], [DEFAULT])),
        ("2 hosts would be left", lambda: plan_replace(ring, [2], [on_host(4, "h1")], [DEFAULT])),
        ("was removed from this cluster", lambda: plan_join(gone, [clone(member(5), id=f"{2:032x}")], [DEFAULT])),
        ("never used twice", lambda: plan_join(gone, [clone(member(2), id="f" * 32)], [DEFAULT])),
        ("is a member already", lambda: plan_join(ring, [clone(member(4), id=f"{2:032x}")], [DEFAULT])),
        ("exists; give the new one another", lambda: plan_replace(ring, [2], [clone(member(4), name="n2")], [DEFAULT])),
        ("no member has the number 9", lambda: plan_leave(ring, [9], [DEFAULT])),
        ("the only member", lambda: plan_leave(lone, [1], [Quorum(1, 1, 1)])),
        ("weight is from 1 to 1000", lambda: plan_weight(ring, [1], 0, [DEFAULT])),
        ("weight is from 1 to 1000", lambda: plan_weight(ring, [1], 1_001, [DEFAULT])),
    ]
    for text, plan in refusals:
        with pytest.raises(CallerError, match=text):
            plan()


def clone(original: Member, **changes: str) -> Member:
    return msgspec.structs.replace(original, **changes)


def test_a_small_cluster_may_grow_although_it_is_short_of_hosts() -> None:
    ring = ring_of(2)
    assert len(joined(ring, 3).members) == 3
    assert plan_join(ring, [on_host(3, "h1")], [DEFAULT]).moves


def test_what_only_a_stopped_member_has_is_told() -> None:
    ring = ring_of(4)
    plan = plan_replace(ring, [2], [member(5)], [Quorum(1, 1, 1), DEFAULT], stopped=True)
    assert plan.warnings == [f"in buckets with n=1, all that is in {ring.owners.count(2)} partitions is lost with n2"]


def test_a_plan_says_what_goes_from_whom_to_whom() -> None:
    ring = ring_of(3, 64)
    flows = plan_join(ring, [member(4)], [DEFAULT]).flows()
    assert list(flows) == [(1, 4), (2, 4), (3, 4)] and sum(flows.values()) == 16
    assert plan_replace(ring, [2], [member(4)], [DEFAULT]).flows() == {(2, 4): ring.owners.count(2)}


def test_other_wishes_upon_one_ring_are_other_plans() -> None:
    ring = ring_of(4)
    elsewhere = msgspec.structs.replace(member(5), peer_address="p:2")
    ids = [
        plan_join(ring, [member(5)], [DEFAULT]).id,
        plan_join(ring, [elsewhere], [DEFAULT]).id,
        plan_replace(ring, [4], [member(5)], [DEFAULT]).id,
        plan_replace(ring, [4], [member(5)], [DEFAULT], stopped=True).id,
        plan_weight(ring, [4], 2, [DEFAULT]).id,
        plan_weight(ring, [4], 3, [DEFAULT]).id,
    ]
    assert len(dict.fromkeys(ids)) == len(ids)


@pytest.mark.parametrize("count", [3, 8, 20])
def test_a_member_of_twice_the_weight_carries_twice_as_much(count: int) -> None:
    ring = ring_of(count, 1024)
    after = plan_weight(ring, [1], 2, [Quorum(1, 1, 1)]).after
    others = [after.owners.count(number) for number in range(2, count + 1)]
    share = after.owners.count(1) / (sum(others) / len(others))
    assert 1.9 <= share <= 2.1


# What the next stage waits for.


def test_what_is_waited_for_is_said() -> None:
    first, second = chain((1, 2, 3), (4, 1, 2))[1:3]
    names = {number: f"n{number}" for number in range(1, 5)}
    placements = JointPlacements(first)
    waiting = may_advance(placements, {1: 2, 2: 2}, {4: 1}, [DEFAULT])
    assert waiting is not None
    assert waiting.text(names) == "1 partition waits until n4 holds all that the replicas before hold"
    waiting = may_advance(placements, {1: 2}, {4: 2}, [DEFAULT])
    assert waiting is not None
    assert waiting.text(names) == "1 partition waits until 1 of n2, n3 confirms the ring"
    assert may_advance(placements, {1: 2, 3: 2}, {4: 2}, [DEFAULT]) is None
    waiting = may_advance(JointPlacements(second), {1: 3, 2: 2, 3: 2}, {4: 2}, [DEFAULT])
    assert waiting is not None and (waiting.members, waiting.missing) == ((2, 3), 1)


@pytest.mark.parametrize(
    ("waiting", "text"),
    [
        (Waiting("filling", (3,), 1, 7), "7 partitions wait until n3 holds all that the replicas before hold"),
        (Waiting("filling", (3, 5), 2, 7), "7 partitions wait until n3, n5 hold all that the replicas before hold"),
        (Waiting("confirmation", (3,), 1, 7), "7 partitions wait until n3 confirms the ring"),
        (Waiting("confirmation", (3, 5), 2, 1), "1 partition waits until n3, n5 confirm the ring"),
        (Waiting("confirmation", (3, 4, 5), 2, 7), "7 partitions wait until 2 of n3, n4, n5 confirm the ring"),
        (Waiting("confirmation", (3, 9), 1, 7), "7 partitions wait until 1 of n3, member 9 confirms the ring"),
    ],
)
def test_it_is_said_in_plain_words_of_one_and_of_several(waiting: Waiting, text: str) -> None:
    assert waiting.text({3: "n3", 4: "n4", 5: "n5"}) == text


def test_the_smallest_quorums_in_use_decide_and_readers_without_a_promise_do_not() -> None:
    second = JointPlacements(chain((1, 2, 3), (4, 1, 2))[2])
    confirmed = {1: 3, 2: 3}
    assert may_advance(second, confirmed, {}, [DEFAULT, Quorum(3, 1, 1)]) is None
    waiting = may_advance(second, confirmed, {}, [DEFAULT, Quorum(3, 1, 3)])
    assert waiting is not None and waiting.members == (3,)


def test_a_newcomer_is_compared_with_everybody_in_reach_and_waits_for_enough() -> None:
    placed = JointPlacements(chain((1, 2, 3), (4, 1, 2))[1]).of(0, 3)
    assert sources_awaited(placed, [], [], [], [DEFAULT]) == [1, 2, 3]
    assert sources_awaited(placed, [1, 2], [], [], [DEFAULT]) == [3], "3 can be asked, so it is"
    assert sources_awaited(placed, [1, 2], [], [3], [DEFAULT]) == []
    assert sources_awaited(placed, [1], [], [2, 3], [DEFAULT]) == [2, 3], "one is too few, and the others are down"
    assert sources_awaited(placed, [1, 2], [], [3], [Quorum(3, 3, 1)]) == [3]
    assert sources_awaited(placed, [1, 2], [3], [], [Quorum(3, 3, 1)]) == []


# Hard cases, as schedules of the model.


def play(model: Model, state: State, *steps: tuple[str, int, int]) -> State:
    """Every step must be possible, and no read may miss the writes after any of them."""
    for action in steps:
        reached = model.step(state, action)
        assert reached is not None, f"{action} cannot happen"
        assert model.missed(reached) == ""
        state = reached
    return state


DECIDE = ("decide", 0, 0)
TO_READ_NEW = [DECIDE, *[("adopt", node, 1) for node in (1, 2, 3, 4)], ("compare", 4, 1), ("compare", 4, 2), DECIDE]


def test_hard_case_11_a_write_that_is_late_ends_on_a_quorum_of_the_new_replicas_or_is_not_acknowledged() -> None:
    """scylladb#5252: a write sent by the old ring arrives during the switch, and counts where nobody reads."""
    model = Model(chain((1, 2, 3), (4, 1, 2)), DEFAULT)
    state = play(model, model.start((0, 0)), ("deliver", 0, 3), ("deliver", 0, 2), *TO_READ_NEW)
    _, accepted, held = state.writes[0]
    assert model.acknowledged(0, accepted)
    assert held == 1 << 2 | 1 << 3 | 1 << 4, "the newcomer has got it from 2"
    for node in (1, 2, 3):
        assert model.step(state, ("deliver", 1, node)) is None, "the late one is refused as stale"


def test_hard_case_12_who_reads_by_the_old_ring_sees_what_was_written_by_the_new_or_gets_no_answer() -> None:
    """scylladb#6128."""
    model = Model(chain((1, 2, 3), (4, 1, 2)), DEFAULT)
    state = play(model, model.start((3,)), *TO_READ_NEW)
    assert model.step(state, DECIDE) is None, "nobody has confirmed READ_NEW"
    state = play(model, state, ("adopt", 1, 1))
    assert model.step(state, DECIDE) is None, "2 and 3 would still answer by READ_OLD"
    state = play(model, state, ("adopt", 2, 1), DECIDE, ("deliver", 0, 4), ("deliver", 0, 1))
    assert model.acknowledged(3, state.writes[0][1])
    assert state.versions[3] == 1, "3 alone lags, and is no read quorum"


def joint_put(strict: bool, dead: tuple[int, ...]) -> int:
    """The verdict of a put in READ_OLD of {1, 2, 3} to {4, 1, 2}, of five nodes of which some are dead."""
    placed = JointPlacements(chain((1, 2, 3, 5), (4, 1, 2, 5))[1]).of(0, 3)
    assert placed.sides == ((1, 2, 3), (4, 1, 2)) and placed.fallbacks == (5,)
    asked = {home: home for home in placed.homes if home not in dead or strict}
    gone = [home for home in placed.homes if home in dead]
    if gone and not strict:
        asked[5] = gone[-1]
    tally = JointPutTally(2, placed.sides, asked)
    verdicts = [tally.on_failed(node) if node in dead else tally.on_acknowledged(node) for node in asked]
    return next((verdict for verdict in verdicts if verdict != WAIT), WAIT)


def joint_put_of_four(dead: tuple[int, ...]) -> int:
    """The same of four nodes, all of which are homes; those that are dead are known to be."""
    placed = JointPlacements(chain((1, 2, 3), (4, 1, 2))[1]).of(0, 3)
    assert placed.fallbacks == ()
    tally = JointPutTally(2, placed.sides, {home: home for home in placed.homes if home not in dead}, dead)
    if not tally.possible():
        return FAIL
    return max(tally.on_acknowledged(node) for node in list(tally.awaited))


def test_hard_case_13_the_joiner_dies_and_writes_go_on() -> None:
    """scylladb#4488."""
    for strict in (True, False):
        assert joint_put(strict, dead=()) == SUCCEED
        assert joint_put(strict, dead=(4,)) == SUCCEED
        assert joint_put(strict, dead=(3,)) == SUCCEED
        assert joint_put(strict, dead=(3, 4)) == SUCCEED
    assert joint_put(False, dead=(1, 4)) == SUCCEED, "a stand-in for the joiner counts for its side"
    assert joint_put(True, dead=(1, 4)) == FAIL, "what a strict bucket gives up until the plan is aborted"
    for dead in ((1, 4), (2, 4), (1, 3), (1,), (4,)):
        assert joint_put_of_four(dead) == SUCCEED, "where nobody is left to stand in, a side borrows from the other"
    assert joint_put_of_four((1, 2)) == SUCCEED, "two nodes hold it"
    assert joint_put_of_four((1, 2, 3)) == FAIL
    joint = chain((1, 2, 3, 5), (4, 1, 2, 5))[1]
    waiting = may_advance(JointPlacements(joint), dict.fromkeys((1, 2, 3, 5), 2), {}, [DEFAULT])
    assert waiting is not None and waiting.members == (4,), "no stage comes that would read the dead joiner"
    assert JointPlacements(abort(joint)).of(0, 3).sides == ((1, 2, 3),)


def test_hard_case_17_no_two_replicas_on_one_host_at_any_stage() -> None:
    ring = staged(create_ring("c" * 32, [on_host(number, f"h{(number + 1) // 2}") for number in range(1, 7)], 32))
    plan = plan_replace(ring, [1], [on_host(7, "h1")], [DEFAULT])
    reading_old = start(ring, plan)
    for stage in (ring, reading_old, next_stage(reading_old), through(reading_old)):
        hosts = {one.number: one.host for one in stage.members}
        placements = JointPlacements(stage)
        for partition in range(32):
            for side in placements.of(partition, 3).sides:
                assert len({hosts[number] for number in side}) == 3


def test_hard_case_18_lists_are_full_at_every_step_of_a_join_and_nobody_coordinates_unfilled() -> None:
    """riak_core#228: the preference list was empty just after a join."""
    ring = ring_of(3)
    reading_old = start(ring, plan_join(ring, [member(4)], [DEFAULT]))
    for stage in (ring, reading_old, next_stage(reading_old), through(reading_old)):
        placements = JointPlacements(stage)
        for partition in range(16):
            placed = placements.of(partition, 3)
            assert len(placed.replicas) == 3
            if stage is reading_old:
                assert not placed.coordinates(4)
                assert placed.stores(4) == placed.changing
                assert placed.changing or 4 in placed.fallbacks


def test_a_joiner_does_not_fill_up_a_side_that_is_short() -> None:
    """Two nodes, n = 3: the newcomer is no replica of the side before, although a place is free there."""
    ring = ring_of(2)
    placements = JointPlacements(start(ring, plan_join(ring, [member(3)], [DEFAULT])))
    for partition in range(16):
        placed = placements.of(partition, 3)
        assert (sorted(placed.sides[0]), sorted(placed.sides[1])) == ([1, 2], [1, 2, 3])


def test_settling_an_ordinary_ring_keeps_its_history() -> None:
    ring = msgspec.structs.replace(ring_of(3), departed=[Departed(9, "9" * 32)])
    side = plan_weight(ring, [1], 3, [DEFAULT]).after
    assert settle(ring, side).departed == ring.departed
