"""Hard case 17: claim put two replicas of a partition on one node (first seen in riak_core, PR 913).

There the owners alone decided who holds the replicas, and a claim whose ring closed badly, or whose node count did not
divide the ring's size, left one node twice among N consecutive owners: an acknowledged write had fewer copies than
promised. Here every size of cluster from 1 to 50 joins and leaves its way through several ring sizes; and so it does by
plans, where both sides of every stage have to be in order.
"""

from __future__ import annotations

import pytest

from quorate.core.ring.advance import Quorum
from quorate.core.ring.claim import claim
from quorate.core.ring.create import create_ring
from quorate.core.ring.joint import JointPlacements
from quorate.core.ring.placement import check_ring
from quorate.core.ring.plan import Plan, plan_join, plan_leave, plan_replace, start
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.ring import Member, Ring
from quorate.core.ring.transition import StagedRing, next_stage, staged

N = 3


def make_member(number: int, members_per_host: int) -> Member:
    host = (number - 1) // members_per_host
    return Member(number, f"{number:032x}", f"n{number}", f"h{host}", f"z{host % 3}", 1, "p:1", "c:1", "h:1")


def assert_placed(owners: list[int], members: list[Member]) -> None:
    ring = Ring("c" * 32, 1, members, owners)
    check_ring(ring, N)
    lists = PreferenceLists(ring)
    hosts = len({member.host for member in members})
    for partition in range(ring.partitions):
        replicas = lists.of(partition, N).replicas
        assert len(set(replicas)) == min(N, len(members)), f"partition {partition} has a member twice: {replicas}"
        assert len({ring.member(number).host for number in replicas}) == min(N, hosts)


@pytest.mark.parametrize("partitions", [64, 128])
@pytest.mark.parametrize("members_per_host", [1, 2])
def test_no_partition_has_two_replicas_on_one_node_or_host(partitions: int, members_per_host: int) -> None:
    pool = [make_member(number, members_per_host) for number in range(1, 51)]
    owners: list[int] | None = None
    for size in range(1, 51):
        owners = claim(owners, pool[:size], partitions, N)
        assert_placed(owners, pool[:size])
        assert_placed(create_ring("c" * 32, pool[:size], partitions, N).owners, pool[:size])
    for leavers in range(1, 50):
        owners = claim(owners, pool[leavers:], partitions, N)
        assert_placed(owners, pool[leavers:])


def test_the_seam_of_the_ring_has_no_owner_twice() -> None:
    """64 tokens, 7 members: a plain rotation would end 1 2 and begin again 1 2 3."""
    members = [make_member(number, 1) for number in range(1, 8)]
    owners = create_ring("c" * 32, members, 64, N).owners
    assert all(len({owners[(place + step) % 64] for step in range(N)}) == N for place in range(64))


def assert_joint_placed(ring: StagedRing) -> None:
    """In one stage: each side has N replicas on different nodes, and everybody is a home or a fallback, once."""
    placements = JointPlacements(ring)
    assert ring.transition is not None
    sides = (ring.transition.before, ring.transition.after)
    everybody = sorted(member.number for member in ring.members)
    for partition in range(ring.partitions):
        placement = placements.of(partition, N)
        for replicas in (placement.replicas, *placement.sides):
            assert len(set(replicas)) == len(replicas), f"partition {partition} has a member twice: {replicas}"
        assert placement.replicas in placement.sides
        assert sorted((*placement.homes, *placement.fallbacks)) == everybody
        for side, replicas in zip(sides, placement.sides, strict=True) if placement.changing else ():
            assert len(replicas) == min(N, len(side.members))
            assert set(replicas) <= {member.number for member in side.members}, "nobody stands for the other side"


def carried_out(ring: StagedRing, plan: Plan) -> StagedRing:
    """The ring after a plan, every stage of which was looked at."""
    ring = start(ring, plan)
    while ring.transition is not None:
        assert_joint_placed(ring)
        before, after = ring.transition.before, ring.transition.after
        assert_placed(before.owners, before.members)
        assert_placed(after.owners, after.members)
        ring = next_stage(ring)
    assert_placed(ring.owners, ring.members)
    return ring


@pytest.mark.parametrize("members_per_host", [1, 2])
def test_nor_has_it_in_any_stage_of_plans_that_make_one_node_fifty_and_few_again(members_per_host: int) -> None:
    quorums = [Quorum(N, 2, 2)]
    ring = staged(create_ring("c" * 32, [make_member(1, members_per_host)], 64, N))
    for number in range(2, 51):
        ring = carried_out(ring, plan_join(ring, [make_member(number, members_per_host)], quorums))
    for number in range(1, 47, 2):
        ring = carried_out(ring, plan_leave(ring, [number], quorums, stopped=number % 4 == 1))
        newcomer = make_member(ring.last_number + 1, members_per_host)
        ring = carried_out(ring, plan_replace(ring, [number + 1], [newcomer], quorums))
    assert len(ring.members) == 50 - 23
    assert len(ring.departed) == 2 * 23
