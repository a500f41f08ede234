"""How long requests take to a replica and back, each way for itself, as this node has measured it lately.

Clocks of two nodes are not synchronised, so one way alone cannot be read off a clock. What can be is the round trip,
and how much longer than the fastest one a reply was under way: its frame's *age* (`core.wire.age`). So

    back = half of the least round trip + the age of the reply
    away = round trip - back

Only the halving is an assumption: it is wrong by at most half of the least round trip, where a path is always slower
one way than the other. The work at the replica is in `away`, which is where it belongs: a write can be read when it is
committed there. What else is not known is counted in `away` too (an answer that waits for its turn of the loop at
either end), so that a write is taken to be visible later rather than sooner than it is.

Two generations of `STALENESS_GENERATION_MS`, so that figures are of the last one or two minutes of traffic; after as
long without any there are none. Memory is two small histograms for each kind of request, peer and generation.

Rejected: halving each round trip (what delays a request is mostly delay of one way; two halves of it hide the tail that
matters), timestamps in messages (a field in the hottest ones, for offsets that drift), and keeping the samples
themselves (a tail of one in a thousand takes more of them than a histogram has buckets).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import frexp, inf
from operator import add
from typing import Final, NamedTuple

from quorate.core.limits import STALENESS_GENERATION_MS

Draw = Callable[[float], float]
"""From a number in [0, 1) to a time in milliseconds: the inverse of a distribution."""

STEPS: Final = 8
"""Buckets for each power of two: each is at most an eighth wide."""
LOWEST_EXPONENT: Final = -6
HIGHEST_EXPONENT: Final = 16
BUCKETS: Final = (HIGHEST_EXPONENT - LOWEST_EXPONENT) * STEPS
LOWER_MS: Final[tuple[float, ...]] = (
    0.0,
    *(2.0 ** (LOWEST_EXPONENT + index // STEPS) * (STEPS + index % STEPS) / STEPS for index in range(1, BUCKETS + 1)),
)
"""Lower ends of the buckets, and the upper end of the last; all below the first step is one bucket from 0."""


def bucket_of(milliseconds: float) -> int:
    """The bucket that a time (≥ 0) belongs to."""
    mantissa, exponent = frexp(milliseconds)
    if exponent <= LOWEST_EXPONENT or milliseconds <= 0.0:
        return 0
    index = (exponent - 2 - LOWEST_EXPONENT) * STEPS + int(mantissa * (2 * STEPS))
    return index if index < BUCKETS else BUCKETS - 1


def draw_from(counts: Sequence[int], shift_ms: float = 0.0) -> Draw:
    """Draws from a histogram, evenly within a bucket, with `shift_ms` added; never below 0. There must be something in
    it."""
    filled = [index for index, count in enumerate(counts) if count]
    assert filled, "nothing can be drawn from nothing"
    ends = list(accumulate(counts[index] for index in filled))
    total = ends[-1]
    slopes = [(LOWER_MS[index + 1] - LOWER_MS[index]) / counts[index] for index in filled]
    starts = [LOWER_MS[index] + shift_ms for index in filled]
    befores = [0, *ends]

    def draw(chance: float) -> float:
        place = chance * total
        bucket = bisect_right(ends, place)
        found = starts[bucket] + (place - befores[bucket]) * slopes[bucket]
        return found if found > 0.0 else 0.0

    return draw


class Leg:
    """Round trips to one peer, of one kind of request, in one generation."""

    __slots__ = ("ages", "count", "least_ms", "rests")

    def __init__(self) -> None:
        self.count = 0
        self.least_ms = inf
        """The least round trip, as far as it was not the age of the reply."""
        self.ages = array("I", bytes(array("I").itemsize * BUCKETS))
        """How many replies had which age."""
        self.rests = array("I", bytes(array("I").itemsize * BUCKETS))
        """How many round trips were how long without the age of the reply."""

    def add(self, round_trip_ms: float, age_ms: float) -> None:
        rest_ms = round_trip_ms - age_ms
        rest_ms = max(rest_ms, 0.0)  # By the rounding of two clocks.
        self.least_ms = min(self.least_ms, rest_ms)
        self.count += 1
        self.ages[bucket_of(age_ms)] += 1
        self.rests[bucket_of(rest_ms)] += 1

    def merge(self, other: Leg) -> None:
        """Take in what `other` has counted."""
        self.count += other.count
        self.least_ms = min(self.least_ms, other.least_ms)
        self.ages = array("I", map(add, self.ages, other.ages))
        self.rests = array("I", map(add, self.rests, other.rests))

    def draws(self) -> tuple[Draw, Draw]:
        """(away, back)."""
        half_ms = self.least_ms / 2
        return draw_from(self.rests, -half_ms), draw_from(self.ages, half_ms)


def joined(legs: Iterable[Leg]) -> Leg:
    """All of them as one."""
    whole = Leg()
    for leg in legs:
        whole.merge(leg)
    return whole


class Measured(NamedTuple):
    """What there is by now."""

    writes: dict[int, Leg]
    """By peer, of those that were asked about."""
    reads: dict[int, Leg]
    write_count: int
    """Of all peers."""
    read_count: int
    window_ms: float
    """The time that it is of."""


class LegBook:
    """The round trips of one node's own requests."""

    __slots__ = ("_before", "_before_ms", "_now", "_now_ms")

    def __init__(self, now_ms: float) -> None:
        self._now: tuple[dict[int, Leg], dict[int, Leg]] = ({}, {})
        """(writes, reads) since `_now_ms`."""
        self._before: tuple[dict[int, Leg], dict[int, Leg]] = ({}, {})
        self._now_ms = now_ms
        self._before_ms = now_ms

    def observe(self, peer: int, read: bool, round_trip_ms: float, age_ms: float, now_ms: float) -> None:
        """`peer` answered a read or a write `round_trip_ms` after it was asked, in a frame of this age."""
        if now_ms - self._now_ms >= STALENESS_GENERATION_MS:
            self._turn(now_ms)
        legs = self._now[read]
        leg = legs.get(peer)
        if leg is None:
            leg = legs[peer] = Leg()
        leg.add(round_trip_ms, age_ms)

    def measured(self, now_ms: float, peers: Sequence[int]) -> Measured:
        """What was measured in this generation and the one before, with the legs of `peers`."""
        if now_ms - self._now_ms >= STALENESS_GENERATION_MS:
            self._turn(now_ms)
        generations = (self._before, self._now)
        counts = [sum(leg.count for both in generations for leg in both[kind].values()) for kind in (False, True)]
        legs = []
        for kind in (False, True):
            known = {peer: [both[kind][peer] for both in generations if peer in both[kind]] for peer in peers}
            legs.append({peer: joined(found) for peer, found in known.items() if found})
        return Measured(legs[0], legs[1], counts[0], counts[1], now_ms - self._before_ms)

    def _turn(self, now_ms: float) -> None:
        """Begin a new generation; one that ended longer ago than it lasted is forgotten."""
        fresh = now_ms - self._now_ms < 2 * STALENESS_GENERATION_MS
        self._before = self._now if fresh else ({}, {})
        self._before_ms = self._now_ms if fresh else now_ms
        self._now = ({}, {})
        self._now_ms = now_ms
