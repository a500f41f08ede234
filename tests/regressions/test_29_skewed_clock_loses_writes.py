"""Hard case 29: a clock that jumped made later last-write-wins writes lose (scylladb#10966).

Causality comes first: a write that saw another is later than it, whatever any wall clock says. Between concurrent
writes time decides, within the skew that is documented.
"""

from __future__ import annotations

import pytest

from quorate.core.store import GetResult, PutResult
from tests.unit.small_cluster import SmallCluster

HOUR_MS = 3_600_000


@pytest.mark.parametrize("skews_ms", [(HOUR_MS, 0, -HOUR_MS), (0, -HOUR_MS, HOUR_MS), (-HOUR_MS, HOUR_MS, 0)])
def test_no_write_that_saw_the_other_is_undone_by_a_skewed_or_strobing_clock(skews_ms: tuple[int, int, int]) -> None:
    cluster = SmallCluster()
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"conflicts": "lww"}, reply))
    cluster.world.run(20)
    context = None
    for index in range(30):
        for number in cluster.nodes:
            cluster.ports[number].skew_ms = skews_ms[(number + index) % 3]
        writer = 1 + index % 3
        result = cluster.put(writer, b"k", b"%d" % index, context)
        assert isinstance(result, PutResult)
        read = cluster.get(1 + (index + 1) % 3, b"k")
        assert isinstance(read, GetResult)
        assert [sibling.value for sibling in read.siblings] == [b"%d" % index]
        context = read.context


def test_an_overwriting_set_is_later_than_what_it_overwrites() -> None:
    cluster = SmallCluster()
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"conflicts": "lww"}, reply))
    cluster.world.run(20)
    cluster.ports[1].skew_ms = HOUR_MS
    cluster.put(1, b"k", b"an hour ahead", overwrite_seen=True)
    cluster.put(2, b"k", b"now", overwrite_seen=True)
    assert cluster.values(3, b"k", r=3) == [b"now"]
