"""The hybrid logical clock under any skew and any jump (hard case 29)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.causality.hybrid_logical_clock import LOGICAL_BITS, HybridLogicalClock

SKEW_MAX_MS = 60_000
NOW_MS = 1_750_000_000_000
HOUR_MS = 3_600_000

walls = st.integers(NOW_MS - 2 * HOUR_MS, NOW_MS + 2 * HOUR_MS) | st.sampled_from([0, NOW_MS, 2 * NOW_MS])


def test_a_tick_is_the_wall_clock_when_that_moves() -> None:
    clock = HybridLogicalClock(SKEW_MAX_MS)
    assert clock.tick(NOW_MS) == NOW_MS << LOGICAL_BITS
    assert clock.tick(NOW_MS + 1) == NOW_MS + 1 << LOGICAL_BITS


def test_ticks_within_one_millisecond_count_up_and_carry_into_the_next() -> None:
    clock = HybridLogicalClock(SKEW_MAX_MS)
    times = [clock.tick(NOW_MS) for _ in range((1 << LOGICAL_BITS) + 3)]
    assert times == list(range(NOW_MS << LOGICAL_BITS, (NOW_MS << LOGICAL_BITS) + len(times)))
    assert clock.tick(NOW_MS + 1) == times[-1] + 1


def test_ticks_grow_while_the_wall_clock_goes_back() -> None:
    clock = HybridLogicalClock(SKEW_MAX_MS)
    before = clock.tick(NOW_MS)
    assert clock.tick(NOW_MS - HOUR_MS) == before + 1


def test_a_context_within_the_skew_is_followed() -> None:
    clock = HybridLogicalClock(SKEW_MAX_MS)
    after = NOW_MS + SKEW_MAX_MS - 1 << LOGICAL_BITS
    assert clock.tick(NOW_MS, after) == after + 1
    assert clock.tick(NOW_MS) == after + 2


def test_a_context_beyond_the_skew_is_answered_and_not_followed() -> None:
    clock = HybridLogicalClock(SKEW_MAX_MS)
    far = NOW_MS + HOUR_MS << LOGICAL_BITS
    assert clock.tick(NOW_MS, far) == far + 1
    assert clock.tick(NOW_MS, far + 1) == far + 2
    assert clock.tick(NOW_MS) >> LOGICAL_BITS == NOW_MS


def test_a_peer_is_followed_up_to_the_skew_and_no_further() -> None:
    clock = HybridLogicalClock(SKEW_MAX_MS)
    believable = NOW_MS + SKEW_MAX_MS << LOGICAL_BITS
    assert not clock.observe(believable + (1 << LOGICAL_BITS), NOW_MS)
    assert clock.tick(NOW_MS) == NOW_MS << LOGICAL_BITS
    assert clock.observe(believable, NOW_MS)
    assert clock.tick(NOW_MS) == believable + 1


def test_an_older_time_of_a_peer_changes_nothing() -> None:
    clock = HybridLogicalClock(SKEW_MAX_MS)
    time = clock.tick(NOW_MS)
    assert clock.observe(NOW_MS - HOUR_MS << LOGICAL_BITS, NOW_MS)
    assert clock.tick(NOW_MS) == time + 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), walls, st.integers(0, 9), st.booleans()), max_size=40))
def test_an_event_is_later_than_all_it_has_seen_whatever_the_wall_clocks_do(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    """Three clocks; each step observes or follows a time that any of them made, then ticks on its own."""
    clocks = [HybridLogicalClock(SKEW_MAX_MS) for _ in range(3)]
    latest = [0, 0, 0]  # what each clock must stay later than
    trusted_ms = [0, 0, 0]  # how far ahead its own wall clock alone could have brought it
    times = [0]
    for which, wall_ms, choice, observes in steps:
        clock = clocks[which]
        seen = times[-1 - choice % len(times)]
        trusted_ms[which] = max(trusted_ms[which], wall_ms + SKEW_MAX_MS)
        believable = seen >> LOGICAL_BITS <= wall_ms + SKEW_MAX_MS
        if observes:
            assert clock.observe(seen, wall_ms) == believable
        else:
            followed = clock.tick(wall_ms, seen)
            assert followed > seen, "later than what its writer had seen"
            assert followed > latest[which], "later than every earlier tick that was not dragged ahead"
            times.append(followed)
        own = clock.tick(wall_ms)
        assert own > latest[which]
        assert own > seen or not believable, "a believable time is followed"
        assert wall_ms <= own >> LOGICAL_BITS <= trusted_ms[which], "and no other is"
        latest[which] = own
        times.append(own)
