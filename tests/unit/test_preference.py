"""Preference lists on rings small enough to check by eye, and what a ring refuses."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.errors import CallerError
from quorate.core.limits import MEMBERS_MAX, SLOTS
from quorate.core.ring.claim import claim
from quorate.core.ring.create import create_ring
from quorate.core.ring.placement import check_ring
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.ring import Member, Ring


def member(number: int, host: str = "", zone: str = "z", weight: int = 1) -> Member:
    return Member(
        number=number,
        id=f"{number:032x}",
        name=f"n{number}",
        host=host or f"h{number}",
        zone=zone,
        weight=weight,
        peer_address=f"127.0.0.1:{7600 + number}",
        client_address=f"127.0.0.1:{7400 + number}",
        http_address=f"127.0.0.1:{7500 + number}",
    )


def lists(owners: list[int], members: list[Member]) -> PreferenceLists:
    return PreferenceLists(Ring("c" * 32, 1, members, owners))


def test_the_walk_goes_clockwise_and_closes_the_ring() -> None:
    walked = lists([1, 2, 3, 4], [member(number) for number in (1, 2, 3, 4)])
    assert walked.of(0, 3).replicas == (1, 2, 3)
    assert walked.of(0, 3).fallbacks == (4,)
    assert walked.of(3, 3).replicas == (4, 1, 2)
    assert walked.of(3, 3).fallbacks == (3,)


def test_replicas_skip_a_host_that_has_one_already() -> None:
    walked = lists([1, 2, 3, 1], [member(1, "a"), member(2, "a"), member(3, "b")])
    assert walked.of(0, 2).replicas == (1, 3)
    assert walked.of(0, 2).fallbacks == (2,)
    assert walked.of(1, 2).replicas == (2, 3)


def test_members_on_shared_hosts_fill_up_when_hosts_are_too_few() -> None:
    walked = lists([1, 2, 3, 4], [member(1, "a"), member(2, "a"), member(3, "b"), member(4, "b")])
    assert walked.of(0, 3).replicas == (1, 3, 2)
    assert walked.of(0, 3).fallbacks == (4,)


def test_replicas_span_as_many_zones_as_they_can() -> None:
    members = [member(1, zone="x"), member(2, zone="x"), member(3, zone="y"), member(4, zone="y")]
    walked = lists([1, 2, 3, 4], members)
    assert walked.of(0, 2).replicas == (1, 3)
    assert walked.of(0, 3).replicas == (1, 3, 2)
    assert walked.of(0, 2).fallbacks == (2, 4)


def test_a_cluster_smaller_than_n_has_all_its_members_as_replicas() -> None:
    walked = lists([1, 2, 1, 2], [member(1), member(2)])
    assert walked.of(1, 3).replicas == (2, 1)
    assert walked.of(1, 3).fallbacks == ()


def test_a_member_without_a_token_still_stands_in() -> None:
    walked = lists([1, 1], [member(1), member(2), member(3)])
    assert walked.of(0, 2).replicas == (1, 2)
    assert walked.of(0, 2).fallbacks == (3,)


def test_a_list_is_made_once() -> None:
    walked = lists([1, 2], [member(1), member(2)])
    assert walked.of(1, 2) is walked.of(1, 2)
    assert walked.of(1, 1) is not walked.of(1, 2)


def test_nonsense_is_our_bug() -> None:
    walked = lists([1, 2], [member(1), member(2)])
    for partition, n in ((2, 1), (-1, 1), (0, 0), (0, 17)):
        with pytest.raises((AssertionError, IndexError)):
            walked.of(partition, n)


def test_the_first_ring_has_version_one_and_deals_evenly() -> None:
    ring = create_ring("c" * 32, [member(1), member(2), member(3), member(4)], 16)
    assert ring.version == 1
    assert sorted(ring.owners) == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4


def test_three_hosts_and_three_replicas_leave_only_the_rotation() -> None:
    owners = create_ring("c" * 32, [member(1), member(2), member(3)], 16).owners
    assert all(len(set(owners[place : place + 3])) == 3 for place in range(14))


@pytest.mark.parametrize(
    ("members", "partitions", "n", "message"),
    [
        ([], 8, 3, "from 1 to 1024 members; got 0"),
        ([member(number) for number in range(1, MEMBERS_MAX + 2)], SLOTS, 3, "got 1025"),
        ([member(1)], 12, 3, "power of two"),
        ([member(1)], 0, 3, "power of two"),
        ([member(1)], SLOTS * 2, 3, "power of two"),
        ([member(1), member(2), member(3)], 2, 3, "3 members need at least as many partitions"),
        ([member(1)], 8, 0, "n must be from 1"),
        ([member(1)], 8, 17, "n must be from 1"),
        ([member(0)], 8, 3, "a member's number is from 1"),
        ([member(1 << 16)], 8, 3, "a member's number is from 1"),
        ([member(1), msgspec.structs.replace(member(2), number=1)], 8, 3, "two members have the number 1"),
        ([member(1), msgspec.structs.replace(member(2), id=member(1).id)], 8, 3, "two members have the id"),
        ([member(1), msgspec.structs.replace(member(2), name="n1")], 8, 3, "two members are called 'n1'"),
        ([member(1, weight=0)], 8, 3, "weight is from 1 to 1000; 'n1' has 0"),
        ([member(1, weight=1_001)], 8, 3, "weight is from 1 to 1000; 'n1' has 1001"),
    ],
)
def test_a_ring_that_cannot_be_is_refused_with_the_reason(
    members: list[Member], partitions: int, n: int, message: str
) -> None:
    with pytest.raises(CallerError, match=message):
        create_ring("c" * 32, members, partitions, n)


def test_the_number_of_partitions_never_changes() -> None:
    with pytest.raises(CallerError, match="the ring has 8 partitions, for ever"):
        claim([1] * 8, [member(1)], 16, 3)


@pytest.mark.parametrize(
    ("owners", "message"),
    [
        ([1, 2, 3, 1, 2, 3, 1, 1], "'n1' would own 4 of 8 partitions"),
        ([1, 2, 3, 1, 2, 3, 1, 9], "numbers that no member has: \\[9\\]"),
    ],
)
def test_a_plan_out_of_balance_is_refused_with_the_reason(owners: list[int], message: str) -> None:
    members = [member(1), member(2), member(3)]
    with pytest.raises(CallerError, match=message):
        check_ring(Ring("c" * 32, 2, members, owners), 3)
