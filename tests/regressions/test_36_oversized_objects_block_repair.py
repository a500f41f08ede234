"""Hard case 36: values above a lowered limit could be neither repaired nor moved (riak_kv#1156).

The limit guards the client path; repair and transfer carry whatever was once accepted.
"""

from __future__ import annotations

import pytest

from quorate.core.limits import EXCHANGE_BYTES_MAX
from quorate.core.store import Failure
from quorate.node import exchange as exchange_module
from quorate.node import exchange_responder
from quorate.node.options import NodeOptions
from tests.unit.exchange_cluster import exchange, held, plant, record_of
from tests.unit.small_cluster import SmallCluster


def test_a_value_above_a_lowered_limit_is_still_read_and_repaired() -> None:
    cluster = SmallCluster()
    cluster.kill(3)
    cluster.put(1, b"k", b"v" * 1_000)
    cluster.options = NodeOptions(value_bytes_max=10)
    for number in (1, 2):
        cluster.kill(number)
        cluster.boot(number)
    cluster.boot(3)
    refused = cluster.put(1, b"other", b"v" * 11)
    assert isinstance(refused, Failure)
    assert "limit is 10" in refused.message
    assert cluster.values(3, b"k", r=3) == [b"v" * 1_000]
    cluster.world.run(20)
    assert len(set(cluster.bodies(b"k"))) == 1


def test_an_exchange_moves_what_is_above_the_limit_and_above_its_own_measure_both_ways() -> None:
    """Stored sizes above a lowered limit, and one record alone larger than what an answer usually carries."""
    sizes = {b"small": 5, b"medium": 1_000, b"large": 3 * EXCHANGE_BYTES_MAX}
    for holder, other in ((1, 2), (2, 1)):
        cluster = SmallCluster(size=2, partitions=2, options=NodeOptions(value_bytes_max=10))
        for name, size_bytes in sizes.items():
            for index in range(3):
                plant(cluster, holder, b"%s %d" % (name, index), record_of(b"v" * size_bytes))
        figures = exchange(cluster, 1, 2)
        assert figures.complete, figures.ended_because
        assert figures.received + figures.sent == 9
        assert held(cluster, other) == held(cluster, holder)
        assert cluster.values(other, b"large 2", r=2) == [b"v" * sizes[b"large"]]


def test_a_record_that_fits_in_no_frame_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "EXCHANGE_RECORD_BYTES_MAX", 5_000)
    monkeypatch.setattr(exchange_responder, "EXCHANGE_RECORD_BYTES_MAX", 5_000)
    for holder in (1, 2):
        cluster = SmallCluster(size=2, partitions=2)
        for index in range(50):
            plant(cluster, holder, b"k%d" % index, record_of(b"v" * (6_000 if index == 7 else 100)))
        figures = exchange(cluster, 1, 2)
        assert figures.received + figures.sent == 49
        assert cluster.counter("records_too_large_to_send") == 1
