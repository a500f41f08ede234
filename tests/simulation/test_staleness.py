"""What a node tells of staleness, against what readers see: real nodes on links whose delays are known.

The node knows nothing of the links but what its own requests took. Puts are made at node 1; their readers are at the
others, which is what `fresh_elsewhere` is of.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from quorate.core.store import Admin, Failure, GetRequest, GetResult, PutRequest, PutResult
from tests.simulation.test_scenarios import BUCKET, Story

MEASURED_PUTS = 800
SPACING_MS = 40.0
"""Longer than nearly all frames take, so that none waits for the one before."""
OBSERVED = 400
"""Puts, each with a read, for each time that is looked at."""
TOLERANCE = 0.075
"""Three standard deviations of an observed share at its worst, 0.5."""
LATE = 0.05
"""By so much more a share may be told too low. The least delay that ages are counted from is let rise by a thousandth
of the time (`core.wire.age`): some half a millisecond on links as slow and as idle as these (decision 0024)."""
AFTER_MS = (0.0, 1.0, 5.0, 20.0)


class Cluster(Story):
    """Three nodes on slow links, of which node 1 has measured its own."""

    def __init__(self, delays_ms: dict[tuple[int, int], tuple[float, float]]) -> None:
        """`delays_ms`: link → (least delay, mean of what comes on top, exponentially distributed)."""
        super().__init__(nodes=3, durability="os")
        for link, (least, mean) in delays_ms.items():
            self.cluster.network.links[link].set_delay(least, mean)
        for number in range(MEASURED_PUTS):
            self.begin_put(b"measured %d" % number, 1)
            if number % 3 == 0:
                self.store(1).get(GetRequest(BUCKET, b"measured %d" % number, 3), lambda result: None)
            self.passes(SPACING_MS)
        answers: list[Admin | Failure] = []
        self.store(1).staleness(BUCKET, answers.append)
        self.passes(5_000)
        (answer,) = answers
        assert isinstance(answer, Admin) and answer.document["ready"], answer
        self.told = answer.document
        self.cells = {(cell["r"], cell["w"]): cell for cell in self.told["configurations"]}

    def store(self, number: int) -> Any:
        return self.cluster.machines[number].node

    def begin_put(self, key: bytes, w: int, then: Any = lambda: None) -> None:
        def answered(result: PutResult | Failure) -> None:
            assert isinstance(result, PutResult), result
            then()

        self.store(1).put(PutRequest(BUCKET, key, b"value", w=w), answered)

    def predicted(self, r: int, w: int, after_ms: float) -> float:
        share: float = self.cells[r, w]["fresh_elsewhere"][self.told["times_ms"].index(after_ms)]
        return share

    def observed(self, r: int, w: int, after_ms: float) -> float:
        """The share of reads that see a put when they begin so long after its acknowledgement."""
        loop = self.simulation.loop
        seen: list[bool] = []

        def read(key: bytes, reader: int) -> None:
            def answered(result: GetResult | Failure) -> None:
                assert isinstance(result, GetResult)
                seen.append(bool(result.siblings))

            self.store(reader).get(GetRequest(BUCKET, key, r), answered)

        for number in range(OBSERVED):
            key = b"observed %d %d %g %d" % (r, w, after_ms, number)
            reader = 2 + number % 2
            self.begin_put(key, w, lambda k=key, n=reader: loop.after_ms(after_ms, lambda: read(k, n)))
            self.passes(SPACING_MS)
        self.passes(1_000)
        assert len(seen) == OBSERVED
        return sum(seen) / OBSERVED


def every_link(least_ms: float, mean_ms: float) -> dict[tuple[int, int], tuple[float, float]]:
    return {(one, other): (least_ms, mean_ms) for one in (1, 2, 3) for other in (1, 2, 3) if one != other}


def check(told: float, seen: float) -> None:
    print(f"told {told:.3f}, seen {seen:.3f}")
    assert seen - TOLERANCE - LATE <= told <= seen + TOLERANCE


@pytest.fixture(scope="module")
def alike() -> Cluster:
    return Cluster(every_link(0.5, 4.0))


@pytest.mark.parametrize("after_ms", AFTER_MS)
def test_reads_of_one_replica_see_a_put_as_often_as_was_told(alike: Cluster, after_ms: float) -> None:
    told, seen = alike.predicted(1, 1, after_ms), alike.observed(1, 1, after_ms)
    truth = 0.0 if after_ms <= 0.5 else 1.0 - math.exp(-(after_ms - 0.5) / 4.0)
    assert seen == pytest.approx(truth, abs=TOLERANCE)
    check(told, seen)


@pytest.mark.parametrize("after_ms", [0.0, 5.0])
@pytest.mark.parametrize(("r", "w"), [(1, 2), (2, 1)])
def test_so_it_is_for_larger_quorums_that_do_not_overlap(alike: Cluster, r: int, w: int, after_ms: float) -> None:
    told, seen = alike.predicted(r, w, after_ms), alike.observed(r, w, after_ms)
    check(told, seen)
    assert told < 1.0


@pytest.mark.parametrize(("r", "w"), [(2, 2), (1, 3), (3, 1)])
def test_quorums_that_overlap_miss_nothing(alike: Cluster, r: int, w: int) -> None:
    assert alike.cells[r, w]["certain"]
    assert alike.observed(r, w, 0.0) == 1.0


def test_a_link_that_is_slow_in_one_direction_is_told_by_its_tail() -> None:
    """From node 1 to node 3 it takes ten times as long as back: the age of replies tells which way the time went."""
    cluster = Cluster({**every_link(0.5, 1.0), (1, 3): (0.5, 10.0)})
    for after_ms in (2.0, 10.0):
        told, seen = cluster.predicted(1, 1, after_ms), cluster.observed(1, 1, after_ms)
        check(told, seen)


@pytest.mark.parametrize("w", [2, 3])
def test_waits_are_those_of_the_requests(alike: Cluster, w: int) -> None:
    loop = alike.simulation.loop
    waits: list[float] = []
    for number in range(OBSERVED):
        began_us = loop.now_us
        alike.begin_put(b"waits %d %d" % (w, number), w, lambda b=began_us: waits.append((loop.now_us - b) / 1000))
        alike.passes(SPACING_MS)
    told, waits = alike.cells[1, w]["write_wait_ms"], sorted(waits)
    assert told["p50"] == pytest.approx(waits[OBSERVED // 2], rel=0.2)
    assert told["p99"] == pytest.approx(waits[OBSERVED * 99 // 100], rel=0.4)
