"""The ring's promises over 1 to 50 members, any weights, hosts and zones, and any joins and leaves."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.ring.claim import claim
from quorate.core.ring.create import create_ring
from quorate.core.ring.placement import check_ring
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.ring import Member, Ring

CLUSTER = "c" * 32


def make_member(number: int, host: int, zone: int, weight: int) -> Member:
    return Member(number, f"{number:032x}", f"n{number}", f"h{host}", f"z{zone}", weight, "p:1", "c:1", "h:1")


@st.composite
def member_lists(draw: st.DrawFn, size_max: int = 50) -> list[Member]:
    """Members whose hosts and zones may coincide; now and then a host reaches over two zones, by mistake."""
    size = draw(st.integers(1, size_max))
    hosts = draw(st.integers(1, size))
    zones = draw(st.integers(1, 4))
    heavy = draw(st.sampled_from([1, 1, 4, 100]))
    labels = st.tuples(st.integers(1, hosts), st.integers(1, zones), st.integers(1, heavy))
    drawn = draw(st.lists(labels, min_size=size, max_size=size))
    return [make_member(number, host, zone, weight) for number, (host, zone, weight) in enumerate(drawn, 1)]


@st.composite
def changes(draw: st.DrawFn) -> tuple[list[Member], list[Member]]:
    """Members before, and after some left, some joined and some changed their weight."""
    pool = draw(member_lists())
    before = [member for member in pool if draw(st.integers(0, 3))] or pool[:1]
    after = [member for member in pool if draw(st.integers(0, 3))] or pool[-1:]
    return before, after


def fewest_moves(held: Counter[int], members: list[Member], partitions: int) -> int:
    """A lower bound on the tokens that must move until everybody has its fair share, rounded up or down."""
    total = sum(member.weight for member in members)
    share = {member.number: Fraction(partitions * member.weight, total) for member in members}
    given = sum(max(0, count - ceil(share.get(number, 0))) for number, count in held.items())
    taken = sum(max(0, floor(fair) - held[number]) for number, fair in share.items())
    return max(given, taken)


def walk_by_hand(ring: Ring, partition: int, n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The preference list as a person would make it: for each next place, look along the whole walk again."""
    walk: list[Member] = []
    for step in range(ring.partitions):
        owner = ring.member(ring.owners[(partition + step) % ring.partitions])
        if owner not in walk:
            walk.append(owner)
    walk += sorted((member for member in ring.members if member not in walk), key=lambda member: member.number)
    chosen: list[Member] = []
    while len(chosen) < len(ring.members):
        hosts = [member.host for member in chosen]
        zones = [member.zone for member in chosen]
        left = [member for member in walk if member not in chosen]
        fresh_host = [member for member in left if member.host not in hosts]
        fresh_both = [member for member in fresh_host if member.zone not in zones]
        chosen.append((fresh_both or fresh_host or left)[0])
    numbers = tuple(member.number for member in chosen)
    return numbers[:n], numbers[n:]


@settings(max_examples=60, deadline=None)
@given(member_lists(12), st.sampled_from([16, 64]), st.integers(1, 5), st.data())
def test_the_walk_equals_its_brute_force_twin(
    members: list[Member], partitions: int, n: int, data: st.DataObject
) -> None:
    numbers = st.sampled_from([member.number for member in members])
    owners = data.draw(st.lists(numbers, min_size=partitions, max_size=partitions))
    ring = Ring(CLUSTER, 1, members, owners)
    lists = PreferenceLists(ring)
    for partition in range(partitions):
        made = lists.of(partition, n)
        assert (made.replicas, made.fallbacks) == walk_by_hand(ring, partition, n)
        assert made.replicas[0] == owners[partition]


@settings(max_examples=25, deadline=None)
@given(member_lists(), st.sampled_from([64, 256, 1024]), st.integers(1, 5))
def test_a_first_ring_is_valid(members: list[Member], partitions: int, n: int) -> None:
    check_ring(create_ring(CLUSTER, members, partitions, n), n)


@settings(max_examples=30, deadline=None)
@given(changes(), st.sampled_from([64, 128, 512]), st.integers(1, 5))
def test_a_change_moves_little_and_leaves_a_valid_ring(
    change: tuple[list[Member], list[Member]], partitions: int, n: int
) -> None:
    before, after = change
    previous = create_ring(CLUSTER, before, partitions, n).owners
    owners = claim(previous, after, partitions, n)
    check_ring(Ring(CLUSTER, 2, after, owners), n)
    moved = sum(old != new for old, new in zip(previous, owners, strict=True))
    assert moved <= 1.05 * fewest_moves(Counter(previous), after, partitions)


@settings(max_examples=25, deadline=None)
@given(member_lists(), st.lists(member_lists(), min_size=1, max_size=4), st.integers(1, 4))
def test_a_chain_of_changes_stays_within_bounds(start: list[Member], then: list[list[Member]], n: int) -> None:
    owners = create_ring(CLUSTER, start, 128, n).owners
    for members in then:
        previous, owners = owners, claim(owners, members, 128, n)
        check_ring(Ring(CLUSTER, 2, members, owners), n)
        moved = sum(old != new for old, new in zip(previous, owners, strict=True))
        assert moved <= 1.05 * fewest_moves(Counter(previous), members, 128)


@settings(max_examples=20, deadline=None)
@given(changes())
def test_claim_is_a_function_of_the_set_of_members(change: tuple[list[Member], list[Member]]) -> None:
    """Whatever the order in which a node lists the members, it computes the same owners; and claim settles at once."""
    before, after = change
    previous = create_ring(CLUSTER, before, 128).owners
    owners = claim(previous, after, 128, 3)
    assert claim(previous, after[::-1], 128, 3) == owners
    assert create_ring(CLUSTER, before[::-1], 128).owners == previous
    assert claim(owners, after, 128, 3) == owners


def load_range(owners: list[int], members: list[Member]) -> tuple[float, float]:
    """The least and the most replicas that a member holds, in units of the mean."""
    lists = PreferenceLists(Ring(CLUSTER, 1, members, owners))
    held = Counter(number for partition in range(len(owners)) for number in lists.of(partition, 3).replicas)
    mean = 3 * len(owners) / len(members)
    return min(held.values()) / mean, max(held.values()) / mean


@pytest.mark.parametrize("sizes", [range(3, 17), range(16, 2, -1)], ids=["growing", "shrinking"])
def test_replicas_are_as_even_as_tokens(sizes: range) -> None:
    """Equal members on hosts of their own hold as many replicas as each other, within 5%, through every change."""
    owners: list[int] | None = None
    for size in sizes:
        members = [make_member(number, number, 1, 1) for number in range(1, size + 1)]
        owners = claim(owners, members, 1024, 3)
        least, most = load_range(owners, members)
        assert 0.95 <= least <= most <= 1.05, f"{size} members: {least:.3f} to {most:.3f}"


def test_uneven_zones_share_their_zones_load() -> None:
    """3, 2 and 2 members in three zones, one replica in each: a zone's load is given, and its members share it."""
    members = [make_member(number, number, number % 3, 1) for number in range(1, 8)]
    least, most = load_range(create_ring(CLUSTER, members, 1024).owners, members)
    assert least >= 0.9 * (7 / 3 / 3)
    assert most <= 1.1 * (7 / 3 / 2)


def walk_around(ring: Ring, partition: int) -> list[int]:
    """The walk as it is defined: once around the ring, from place to place."""
    numbers = [member.number for member in ring.members]
    around = [ring.owners[(partition + step) % ring.partitions] for step in range(ring.partitions)]
    return list(dict.fromkeys(around + sorted(numbers)))


def three_passes(ring: Ring, walk: list[int]) -> list[int]:
    """The order of the members, as it is defined: each pass over the whole walk."""
    chosen: list[int] = []
    for zones_too, hosts_too in ((True, True), (False, True), (False, False)):
        for number in walk:
            others = [ring.member(other) for other in chosen]
            new_host = ring.member(number).host not in [other.host for other in others]
            new_zone = ring.member(number).zone not in [other.zone for other in others]
            if number not in chosen and (new_host or not hosts_too) and (new_zone or not zones_too):
                chosen.append(number)
    return chosen


@settings(max_examples=40, deadline=None)
@given(member_lists(20), st.sampled_from([1, 2, 16, 32, 64, 128]), st.booleans(), st.data())
def test_shared_walks_equal_walks_around_the_ring(
    members: list[Member], partitions: int, apart: bool, data: st.DataObject
) -> None:
    """Also of members whose tokens are few and far between, or that have none; asked for in any order, by both ways."""
    if apart:
        members = [make_member(member.number, member.number, 1, 1) for member in members]
    numbers = [member.number for member in members]
    common = st.sampled_from(data.draw(st.lists(st.sampled_from(numbers), min_size=1, max_size=3)))
    owners = data.draw(st.lists(common, min_size=partitions, max_size=partitions))
    for rare in data.draw(st.lists(st.sampled_from(numbers), max_size=6)):
        owners[data.draw(st.integers(0, partitions - 1))] = rare
    ring = Ring(CLUSTER, 1, members, owners)
    lists = PreferenceLists(ring)
    order = list(range(partitions))
    data.draw(st.randoms(use_true_random=False)).shuffle(order)
    for partition in order[:48]:
        expected = three_passes(ring, walk_around(ring, partition))
        for n in (1, 3, 16):
            assert lists.replicas(partition, n) == tuple(expected[:n])
            made = lists.of(partition, n)
            assert (made.replicas, made.fallbacks) == (tuple(expected[:n]), tuple(expected[n:]))
