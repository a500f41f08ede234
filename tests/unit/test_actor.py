"""Actors and epochs: never the same one twice, over restarts, crashes and wiped disks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.causality.actor import (
    BIRTH_RANDOM_BITS,
    EPOCH_MASK,
    EpochCounter,
    epoch_of,
    first_epoch,
    make_actor,
    member_of,
    vouches,
)
from quorate.core.errors import StartupError

NOW_MS = 1_750_000_000_000


@given(st.integers(1, 65_535), st.integers(0, EPOCH_MASK))
def test_an_actor_is_its_member_and_its_epoch(member: int, epoch: int) -> None:
    actor = make_actor(member, epoch)
    assert (member_of(actor), epoch_of(actor)) == (member, epoch)
    assert 0 < actor < 1 << 64


@pytest.mark.parametrize(("member", "epoch"), [(0, 1), (65_536, 1), (1, -1), (1, EPOCH_MASK + 1)])
def test_what_does_not_fit_an_actor_is_our_bug(member: int, epoch: int) -> None:
    with pytest.raises(AssertionError):
        make_actor(member, epoch)


def test_a_store_vouches_for_its_own_marker_from_the_floor_on() -> None:
    assert vouches(make_actor(3, 10), 10, 3)
    assert vouches(make_actor(3, 11), 10, 3)
    assert not vouches(make_actor(3, 9), 10, 3), "from before an unclean stop"
    assert not vouches(make_actor(4, 11), 10, 3), "another member's"
    assert not vouches(0, 0, 3), "no marker"
    assert not vouches(0, 0, 0), "no marker is nobody's"


def test_epochs_are_minted_in_order_and_below_the_ceiling_only() -> None:
    counter = EpochCounter(member=5, next_epoch=100)
    assert counter.needs_reservation(1)
    with pytest.raises(AssertionError, match="reserved durably"):
        counter.mint()
    assert counter.reserve(3) == 103
    assert not counter.needs_reservation(3)
    assert counter.needs_reservation(4)
    assert [counter.mint() for _ in range(3)] == [make_actor(5, epoch) for epoch in (100, 101, 102)]
    with pytest.raises(AssertionError, match="reserved durably"):
        counter.mint()
    assert counter.reserve(2) == 105
    assert epoch_of(counter.mint()) == 103
    assert counter.next_epoch == 104


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), max_size=20))
def test_no_actor_is_minted_twice_over_any_number_of_crashes(lives: list[tuple[int, int]]) -> None:
    """Each life reserves a block, mints some of it, and crashes; only the ceiling was made durable."""
    durable = first_epoch(NOW_MS, 1)
    minted = []
    for block, count in lives:
        counter = EpochCounter(member=1, next_epoch=durable)
        for _ in range(count):
            if counter.needs_reservation(1):
                durable = counter.reserve(block)
            minted.append(counter.mint())
    assert minted == sorted(set(minted))


def test_a_fresh_store_begins_above_every_epoch_of_its_former_life() -> None:
    former = first_epoch(NOW_MS, (1 << BIRTH_RANDOM_BITS) - 1)
    assert first_epoch(NOW_MS + 2_000, 0) > former + 100_000


def test_two_births_in_one_second_differ_by_the_random_bits_only() -> None:
    births = {first_epoch(NOW_MS, bits) for bits in range(1 << BIRTH_RANDOM_BITS)}
    assert len(births) == 1 << BIRTH_RANDOM_BITS
    assert max(births) < first_epoch(NOW_MS + 1_000, 0)


def test_epochs_last_for_decades() -> None:
    in_2080_ms = 3_471_292_800_000
    assert first_epoch(in_2080_ms, 0) <= EPOCH_MASK - (1 << 32)


@pytest.mark.parametrize("wall_ms", [0, 1_577_836_799_999, 4_102_444_800_000])
def test_a_store_is_not_born_by_a_clock_that_cannot_be_right(wall_ms: int) -> None:
    with pytest.raises(StartupError, match="set the clock"):
        first_epoch(wall_ms, 0)
