"""Hard case 25: corrupt records were loaded, or the node restarted for ever (bitcask#212, riak_kv#1120).

Every byte of what a node stores is flipped, and everything is cut off at every offset: records, hints, and the
documents that a node needs to start. No wrong value is ever answered; the node starts or says why it does not; and what
was damaged comes back from the others.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from quorate.core.errors import StartupError
from quorate.core.ports import Space
from quorate.core.store import GetResult, PutResult
from quorate.node.epochs import EPOCH_KEY
from quorate.node.ring_keeper import LEDGER_KEY
from tests.unit.collecting import OPTIONS
from tests.unit.exchange_cluster import exchange
from tests.unit.small_cluster import SmallCluster

VALUE = b"the only right value"
MASKS = (0x01, 0x80, 0xFF)


def spoiled(stored: bytes) -> Iterator[bytes]:
    """`stored` with each byte changed in a few ways, and cut off everywhere."""
    for index in range(len(stored)):
        for mask in MASKS:
            yield stored[:index] + bytes([stored[index] ^ mask]) + stored[index + 1 :]
        yield stored[:index]


def place_of(cluster: SmallCluster, number: int, space: Space) -> tuple[Space, bytes]:
    return next(place for place in cluster.engines[number].data if place[0] == space)


def test_no_damage_to_a_record_is_ever_answered() -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.put(1, b"k", VALUE)
    cluster.world.run(100)
    node, data = cluster.nodes[1], cluster.engines[1].data
    place = place_of(cluster, 1, Space.DATA)
    whole = data[place]
    tried = 0
    for damaged in spoiled(whole):
        data[place] = damaged
        node._cache.clear()
        tried += 1
        alone = cluster.get(1, b"k", r=3)
        assert not isinstance(alone, GetResult), "three answers were asked for, and one replica has none"
        assert cluster.values(1, b"k", r=2) == [VALUE]
    assert tried == (len(MASKS) + 1) * len(whole)
    assert node._shared.counters["records_damaged"] >= tried


@pytest.mark.parametrize("offset", [0, 1, 8, 9, 16, 17, 30, -1])
@pytest.mark.parametrize("cut", [False, True])
def test_one_exchange_repairs_it(offset: int, cut: bool) -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.put(1, b"k", VALUE)
    cluster.world.run(100)
    place = place_of(cluster, 2, Space.DATA)
    data = cluster.engines[2].data
    stored = bytearray(data[place])
    stored[offset] ^= 0x10
    data[place] = bytes(stored[:offset]) if cut else bytes(stored)
    cluster.nodes[2]._cache.clear()
    cluster.get(2, b"k", r=2)  # It is noticed.
    cluster.world.run(5_000)
    figures = exchange(cluster, 2, 1)
    assert figures.received == 1
    assert cluster.values(2, b"k", r=3) == [VALUE]
    assert len(set(cluster.bodies(b"k"))) == 1


def test_no_damage_to_a_hint_brings_a_wrong_value_home() -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.kill(3)
    assert isinstance(cluster.put(1, b"k", VALUE), PutResult)
    data = cluster.engines[1].data
    place = place_of(cluster, 1, Space.HINTS)
    whole = data[place]
    hints = cluster.nodes[1]._shared.hints
    for damaged in spoiled(whole):
        data[place] = damaged
        assert hints.held([3], place[1][2:]) == (None, 0)
    data[place] = whole
    assert hints.held([3], place[1][2:])[0] is not None


def test_a_node_with_a_damaged_document_starts_as_it_was_or_says_why_it_does_not() -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"ttl": "77"}, reply))
    ring = cluster.nodes[1].ring()
    assert ring.version == 2
    for index in range(20):
        cluster.put(1, b"k%d" % index, VALUE)
    cluster.world.run(61_000)
    cluster.nodes[1].stop()
    cluster.kill(1)
    kept = dict(cluster.engines[1].data)
    documents = sorted(key for space, key in kept if space == Space.META)
    assert {LEDGER_KEY, EPOCH_KEY, b"alive"} <= set(documents)
    refused = dict.fromkeys(documents, 0)
    tried = dict.fromkeys(documents, 0)
    for key in documents:
        for damaged in _sample(kept[Space.META, key]):
            cluster.engines[1].data = {**kept, (Space.META, key): damaged}
            tried[key] += 1
            try:
                cluster.boot(1)
            except StartupError as error:
                assert "does not match its checksum" in str(error) and "move it away" in str(error)
                refused[key] += 1
                continue
            cluster.world.run(20)
            node = cluster.nodes[1]
            assert node.bucket_properties(b"b").ttl == 77
            assert node.ring() == ring
            assert _ceiling(cluster) > _ceiling_of(kept[Space.META, EPOCH_KEY])
            cluster.kill(1)
    for key in (LEDGER_KEY, EPOCH_KEY):
        assert refused[key] == tried[key] > 0, f"no damage to '{key.decode()}' goes unnoticed"
    cluster.engines[1].data = kept
    cluster.join(1)
    cluster.world.run(5_000)
    assert cluster.values(1, b"k7", r=3) == [VALUE]


def _sample(stored: bytes) -> Iterator[bytes]:
    """All damages of a short document; of a long one (the leaves of a tree) those at some places."""
    if len(stored) <= 300:
        yield from spoiled(stored)
        return
    for index in range(0, len(stored), len(stored) // 20):
        yield stored[:index] + bytes([stored[index] ^ 0x40]) + stored[index + 1 :]
        yield stored[:index]


def _ceiling(cluster: SmallCluster) -> int:
    return _ceiling_of(cluster.engines[1].data[Space.META, EPOCH_KEY])


def _ceiling_of(stored: bytes) -> int:
    ceiling, _ = msgspec.msgpack.decode(stored[8:], type=tuple[int, int])
    return ceiling
