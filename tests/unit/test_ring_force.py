"""Changes of the ring that are no ordinary plans: a member that moves, and a ring that an operator forces."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.errors import CallerError
from quorate.core.ring.advance import Quorum, may_advance
from quorate.core.ring.joint import JointPlacements
from quorate.core.ring.metadata import voters
from quorate.core.ring.plan import plan_force, plan_leave, plan_replace, plan_weight, start
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import FORCED_VERSIONS, Departed, Side, Stage, abort, move_member, next_stage
from tests.property.transition_model import member
from tests.unit.test_ring_transition import DEFAULT, ring_of, through

# Addresses.


def moved(number: int, **changes: str) -> Member:
    return msgspec.structs.replace(member(number), **{"peer_address": "elsewhere:7600", **changes})


def test_hard_case_21_a_member_moves_in_one_version_and_nothing_else_changes() -> None:
    ring = ring_of(3)
    after = move_member(ring, moved(2, name="new"))
    assert (after.version, after.owners, after.transition) == (2, ring.owners, None)
    assert after.members == [member(1), moved(2, name="new"), member(3)]
    assert (after.departed, after.last_number) == ([], 3)


def test_a_member_moves_while_a_plan_is_under_way_and_the_plan_goes_on() -> None:
    ring = ring_of(3)
    first = start(ring, plan_weight(ring, [2], 3, [DEFAULT]))
    there = msgspec.structs.replace(first.member(2), peer_address="elsewhere:7600")
    after = move_member(first, there)
    assert after.version == 3 and after.member(2) == there
    assert first.transition is not None and after.transition is not None
    assert (after.transition.began, after.transition.since) == (2, 2)
    assert after.transition.plan == first.transition.plan
    assert through(after).member(2) == there
    assert abort(after).member(2) == msgspec.structs.replace(there, weight=1), "what the plan gave is taken back"


def test_a_move_is_refused_if_it_is_another_change() -> None:
    ring = ring_of(3)
    refusals = [
        ("name and these addresses already", member(2)),
        ("another member is called 'n1'", moved(2, name="n1")),
        ("the host of 'n2' is h2", moved(2, host="h9")),
        ("the zone of 'n2'", moved(2, zone="y")),
        ("the id of 'n2'", moved(2, id="f" * 32)),
        ("the weight of 'n2'", msgspec.structs.replace(moved(2), weight=2)),
        ("no member has the number 9", moved(9)),
    ]
    for text, wanted in refusals:
        with pytest.raises(CallerError, match=text):
            move_member(ring, wanted)


# Force.


def test_a_forced_ring_goes_on_without_those_that_are_lost() -> None:
    ring = ring_of(5)
    forced, warnings = plan_force(ring, [5, 4, 3], [DEFAULT])
    version = ring.version + FORCED_VERSIONS
    assert forced.transition is not None and forced.version == version
    assert (forced.transition.stage, forced.transition.began, forced.transition.since) == (
        Stage.READ_OLD,
        version,
        version,
    )
    assert forced.transition.stopped == [3, 4, 5]
    assert voters(forced) == (1, 2)
    lists = JointPlacements(ring)
    orphaned = sum(not set(lists.of(partition, 3).replicas) & {1, 2} for partition in range(16))
    assert orphaned and warnings == [
        f"in buckets with n=3, all that is in {orphaned} partitions is lost with n3, n4, n5"
    ]
    last = through(forced)
    assert [one.number for one in last.members] == [1, 2]
    assert [gone.number for gone in last.departed] == [3, 4, 5]
    assert last.last_number == 5


def test_force_says_which_buckets_nobody_can_serve_then() -> None:
    _, warnings = plan_force(ring_of(3), [2, 3], [DEFAULT, Quorum(1, 1, 1), Quorum(3, 1, 1)])
    assert [text for text in warnings if "ask for more replicas" in text] == [
        "buckets with n=3, r=2, w=2 ask for more replicas than there are members left: lower r and w, or add members"
    ]


def test_nobody_waits_for_those_that_a_forced_ring_leaves_out() -> None:
    forced, _ = plan_force(ring_of(5, 64), [4, 5], [DEFAULT])
    numbers = (1, 2, 3)
    at = forced.version
    assert may_advance(JointPlacements(forced), dict.fromkeys(numbers, at), {}, [DEFAULT]) is not None
    filled = dict.fromkeys(numbers, at)
    assert may_advance(JointPlacements(forced), dict.fromkeys(numbers, at), filled, [DEFAULT]) is None
    second = next_stage(forced)
    assert may_advance(JointPlacements(second), dict.fromkeys(numbers, at + 1), filled, [DEFAULT]) is None


def test_a_plan_under_way_ends_with_the_side_that_is_read_when_a_ring_is_forced() -> None:
    ring = ring_of(4)
    first = start(ring, plan_replace(ring, [4], [member(5)], [DEFAULT]))
    early, _ = plan_force(first, [3, 5], [DEFAULT])
    late, _ = plan_force(next_stage(first), [3, 4], [DEFAULT])
    assert early.transition is not None and late.transition is not None
    assert early.transition.before == Side(ring.members, ring.owners)
    assert early.transition.stopped == [3] and early.departed == [], "5 never came"
    assert late.transition.before == first.transition.after if first.transition else False
    assert late.transition.stopped == [3] and late.departed == [Departed(4, f"{4:032x}")]
    assert (early.version, late.version) == (first.version + FORCED_VERSIONS, first.version + 1 + FORCED_VERSIONS)
    assert early.last_number == late.last_number == 5
    assert [one.number for one in through(late).members] == [1, 2, 5]


def test_who_had_stopped_for_good_before_is_lost_as_well() -> None:
    ring = ring_of(5)
    first = start(ring, plan_leave(ring, [2], [DEFAULT], stopped=True))
    forced, _ = plan_force(first, [3], [DEFAULT])
    assert forced.transition is not None and forced.transition.stopped == [2, 3]
    assert voters(forced) == (1, 4, 5)


def test_a_forced_ring_that_nobody_would_be_left_for_is_refused() -> None:
    ring = ring_of(3)
    for text, lost in (("all members would be lost", [1, 2, 3]), ("number 9", [2, 9]), ("name the members", [])):
        with pytest.raises(CallerError, match=text):
            plan_force(ring, lost, [DEFAULT])
