"""Exchanges between whole nodes: what differs in any way ends identical, and what does not moves only roots."""

from __future__ import annotations

import random

import msgspec
import pytest

from quorate.core.causality.dotted_version_vectors import sync
from quorate.core.errors import StorageError
from quorate.core.limits import (
    EXCHANGE_BYTES_MAX,
    EXCHANGE_KEYS_MAX,
    EXCHANGE_RECORDS_MAX,
    EXCHANGE_WRITES_IN_FLIGHT_MAX,
)
from quorate.core.messages import (
    LeafKeys,
    LeafKeysReply,
    Message,
    TreeSums,
    Write,
    WriteReply,
)
from quorate.core.ports import Space
from quorate.core.record import TOMBSTONE, Record, Sibling, decode_record
from quorate.node.exchange import SETTLE_MS
from tests.unit.exchange_cluster import (
    MOVED,
    ROOTS,
    clocks,
    damage,
    exchange,
    held,
    plant,
    put_raw,
    record_of,
    sent,
    started,
    stored_key,
    weight,
)
from tests.unit.small_cluster import SmallCluster


def names(count: int, prefix: bytes = b"k") -> list[bytes]:
    return [prefix + b"%05d" % index for index in range(count)]


def diverged(seed: int, count: int = 300, partitions: int = 4) -> SmallCluster:
    """Two replicas of `count` keys that differ in every way that there is."""
    rng = random.Random(seed)
    cluster = SmallCluster(size=2, partitions=partitions)
    for key in names(count):
        common, newer, other = record_of(b"old"), record_of(b"new", counter=2), record_of(b"other", member=2)
        tombstone = Record({**newer.clock}, [msgspec.structs.replace(newer.siblings[0], kind=TOMBSTONE, value=b"")])
        one, two = rng.choice(
            [(common, common)] * 6
            + [(common, None), (common, newer), (common, other), (newer, tombstone), (sync(common, other), other)]
        )
        here, there = rng.sample([1, 2], 2)
        plant(cluster, here, key, one)
        if two is not None:
            plant(cluster, there, key, two)
    cluster.world.run(10)
    cluster.sent.clear()
    return cluster


@pytest.mark.parametrize("seed", range(6))
def test_replicas_that_differ_in_every_way_end_identical_and_nothing_is_minted(seed: int) -> None:
    cluster = diverged(seed)
    before = [held(cluster, number) for number in (1, 2)]
    expected = {
        key: sync(*(decode_record(side.get(key, before[1 - place].get(key, b""))) for place, side in enumerate(before)))
        for key in before[0] | before[1]
    }
    assert before[0] != before[1]
    figures = exchange(cluster, 1, 2)
    assert figures.complete, figures.ended_because
    assert figures.received > 0
    assert figures.sent > 0
    assert held(cluster, 1) == held(cluster, 2)
    assert clocks(cluster, 1) == {key: record.clock for key, record in sorted(expected.items())}
    again = exchange(cluster, 2, 1)
    assert (again.complete, again.differed, again.received, again.sent) == (True, 0, 0, 0)


def test_where_nothing_differs_only_roots_move() -> None:
    cluster = SmallCluster(size=3)
    for key in names(50):
        cluster.put(1, key, b"v")
    cluster.world.run(50)
    cluster.sent.clear()
    figures = exchange(cluster, 1, 3)
    assert (figures.complete, figures.compared, figures.differed) == (True, 16, 0)
    assert [type(message) for _, _, message in cluster.sent] == list(ROOTS)


def test_what_moves_is_in_proportion_to_what_differs() -> None:
    moved: dict[int, int] = {}
    for lost in (5, 50):
        cluster = SmallCluster(size=2, partitions=64)
        for key in names(2_000):
            for number in (1, 2):
                plant(cluster, number, key, record_of(b"v" * 50))
        cluster.world.run(10)
        for key in names(lost, b"x"):
            plant(cluster, 2, key, record_of(b"v" * 50))
        cluster.world.run(10)
        cluster.sent.clear()
        figures = exchange(cluster, 1, 2)
        assert figures.received == lost
        moved[lost] = weight([message for _, _, message in cluster.sent])
        assert 0.5 < figures.payload_bytes / moved[lost] < 1.5, "the counter tells about what moves"
    # The roots move in any case, 2,000 records of 100 bytes do not.
    assert moved[5] < 10_000
    assert moved[50] < 10 * moved[5]


def test_writes_on_their_way_are_not_looked_into() -> None:
    cluster = SmallCluster(size=2)
    plant(cluster, 2, b"late", record_of(b"v"))
    under_way = started(cluster, 1, 2)
    cluster.world.run(SETTLE_MS / 2)
    plant(cluster, 1, b"late", record_of(b"v"))
    figures = under_way.finish()
    assert (figures.complete, figures.differed) == (True, 0)
    assert not sent(cluster, TreeSums, *MOVED)


def test_writes_during_an_exchange_lose_nothing() -> None:
    cluster = diverged(seed=9, count=400)
    under_way = started(cluster, 1, 2)
    step = 0
    while not under_way.ended:
        cluster.world.run(5)
        step += 1
        assert step < 5_000
        plant(cluster, 1 + step % 2, b"k%05d" % (step % 500), record_of(b"during", member=3, counter=1 + step))
    exchange(cluster, 1, 2)
    assert held(cluster, 1) == held(cluster, 2)


def test_a_wiped_replica_is_filled() -> None:
    cluster = SmallCluster(size=3, partitions=8)
    for key in names(600):
        cluster.put(1, key, b"v", w=3)
    before = clocks(cluster, 1)
    cluster.wipe(3)
    cluster.join(3)
    cluster.world.run(20)
    cluster.sent.clear()
    figures = exchange(cluster, 3, 1)
    assert figures.complete, figures.ended_because
    assert figures.received == 600
    assert held(cluster, 3) == held(cluster, 1)
    assert clocks(cluster, 3) == before
    assert not sent(cluster, TreeSums), "an empty tree differs everywhere"
    assert all(len(reply.records) <= EXCHANGE_RECORDS_MAX for reply in sent(cluster, LeafKeysReply))


def test_a_wiped_peer_is_filled() -> None:
    cluster = SmallCluster(size=2, partitions=2)
    for key in names(1_500):
        plant(cluster, 1, key, record_of(b"v"))
    in_flight = most = 0
    genuine = cluster.transmit

    def transmit(sender: int, target: int, message: Message) -> None:
        nonlocal in_flight, most
        in_flight += isinstance(message, Write) - isinstance(message, WriteReply)
        most = max(most, in_flight)
        genuine(sender, target, message)

    cluster.transmit = transmit  # type: ignore[method-assign]
    figures = exchange(cluster, 1, 2)
    assert figures.complete
    assert figures.sent == 1_500
    assert held(cluster, 1) == held(cluster, 2)
    assert most == EXCHANGE_WRITES_IN_FLIGHT_MAX
    assert all(len(question.entries) <= EXCHANGE_KEYS_MAX for question in sent(cluster, LeafKeys))


def test_answers_that_are_cut_short_are_continued() -> None:
    """Both sides hold long, different listings of one partition, with records that fill an answer soon."""
    cluster = SmallCluster(size=2, partitions=2)
    for index, key in enumerate(names(900)):
        plant(cluster, 1 + index % 2, key, record_of(b"v" * 8_000))
    figures = exchange(cluster, 1, 2)
    assert (figures.complete, figures.received, figures.sent) == (True, 450, 450)
    assert held(cluster, 1) == held(cluster, 2)
    cut = [reply for reply in sent(cluster, LeafKeysReply) if reply.covered]
    assert len(cut) >= 2
    sizes = [sum(len(body) for _, body in reply.records) for reply in sent(cluster, LeafKeysReply)]
    assert max(sizes) < EXCHANGE_BYTES_MAX + 9_000


def test_a_damaged_record_is_reported_and_repaired_within_one_exchange() -> None:
    cluster = SmallCluster(size=3)
    for key in names(30):
        cluster.put(1, key, b"v", w=3)
    before = held(cluster, 1)
    damage(cluster, 2, b"k00007")
    assert exchange(cluster, 2, 1).received == 0, "nobody has read it yet"
    cluster.nodes[2]._shared.trees.rebuild_all()
    cluster.world.run(3_000)
    figures = exchange(cluster, 2, 1)
    assert (figures.complete, figures.received, figures.sent) == (True, 1, 0)
    assert held(cluster, 2) == before
    assert cluster.counter("records_damaged") >= 1


def test_a_damaged_record_that_the_answering_side_comes_across_is_repaired_as_well() -> None:
    cluster = SmallCluster(size=2, partitions=2)
    for key in names(30):
        for number in (1, 2):
            plant(cluster, number, key, record_of(b"v"))
    before = held(cluster, 1)
    damage(cluster, 2, b"k00007")
    cluster.nodes[2]._shared.trees.rebuild_all()
    cluster.world.run(3_000)
    figures = exchange(cluster, 1, 2)
    assert (figures.complete, figures.received, figures.sent) == (True, 0, 1)
    assert held(cluster, 2) == before


def test_a_record_that_cannot_be_read_holds_up_no_other() -> None:
    """Its checksum fits, its content is none (hard case 28)."""
    for node, peer in ((1, 2), (2, 1)):
        cluster = SmallCluster(size=2, partitions=2)
        put_raw(cluster, 2, b"k00003", b"\xc1 this is no record")
        for key in names(800, b"x"):
            plant(cluster, 2, key, record_of(b"v"))
        figures = exchange(cluster, node, peer)
        assert (figures.received + figures.sent, figures.failed, figures.complete) == (800, 1, False)
        assert figures.ended_because == ""
        assert cluster.counter("records_not_repaired") == 1
        assert len(held(cluster, 1)) == len(held(cluster, 2)) - 1


@pytest.mark.parametrize("after_messages", range(1, 12))
def test_a_peer_that_vanishes_half_way_ends_the_exchange_and_the_next_one_goes_on(after_messages: int) -> None:
    cluster = diverged(seed=4, count=120, partitions=2)
    under_way = started(cluster, 1, 2)
    while len(cluster.sent) < after_messages:
        cluster.world.run(1)
    cluster.cut(1, 2)
    figures = under_way.finish(limit_ms=5_000)
    assert not figures.complete
    assert cluster.counter("exchanges_given_up") == 1
    cluster.heal()
    cluster.world.run(100)
    assert exchange(cluster, 1, 2).complete
    assert held(cluster, 1) == held(cluster, 2)
    assert not any(node._shared.requests.pending for node in cluster.nodes.values())


def test_a_silent_peer_costs_one_timeout() -> None:
    cluster = diverged(seed=4, count=20)
    cluster.muted = {2}
    figures = exchange(cluster, 1, 2)
    assert figures.ended_because == "no answer in time"
    assert figures.compared == 0


def test_another_ring_version_ends_the_exchange() -> None:
    cluster = diverged(seed=4, count=20)
    view = cluster.nodes[2]._shared.view
    view.version += 1
    before = held(cluster, 1)
    figures = exchange(cluster, 1, 2)
    assert "STALE_RING" in figures.ended_because
    assert held(cluster, 1) == before


def test_a_fenced_node_takes_no_part() -> None:
    cluster = diverged(seed=4, count=20)
    cluster.nodes[2].fence(StorageError("Input/output error"))
    assert "FENCED" in exchange(cluster, 1, 2).ended_because
    assert "fenced" in exchange(cluster, 2, 1).ended_because or exchange(cluster, 2, 1).compared == 0


def test_a_tree_that_is_being_made_anew_is_not_compared_on_either_side() -> None:
    for node, peer in ((1, 2), (2, 1)):
        cluster = diverged(seed=4, count=20)
        trees = cluster.nodes[1]._shared.trees
        trees._walking = True  # Nothing walks: the tree stays as it is.
        trees.rebuild(2)
        figures = exchange(cluster, node, peer)
        assert (figures.unready, figures.compared, figures.complete) == (1, 3, False)


def test_buckets_with_another_n_are_compared_where_they_are_kept() -> None:
    cluster = SmallCluster(size=4, partitions=8)
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"two", {"n": "2", "r": "1", "w": "1"}, reply))
    cluster.world.run(3_000)
    shared = cluster.nodes[1]._shared
    assert shared.trees.n_values() == [3, 2]
    for index, key in enumerate(names(200)):
        bucket = (b"b", b"two")[index % 2]
        place = stored_key(cluster, key, bucket)
        replicas = shared.view.bucket(bucket).placements[place[0] << 8 | place[1]].replicas
        plant(cluster, replicas[index % len(replicas)], key, record_of(b"v"), bucket)
    cluster.world.run(10)
    for node in cluster.nodes:
        for peer in cluster.nodes:
            if node < peer:
                figures = exchange(cluster, node, peer)
                assert figures.complete, figures.ended_because
    for index, key in enumerate(names(200)):
        bucket = (b"b", b"two")[index % 2]
        place = stored_key(cluster, key, bucket)
        replicas = shared.view.bucket(bucket).placements[place[0] << 8 | place[1]].replicas
        assert [number for number in cluster.nodes if place in held(cluster, number)] == sorted(replicas)


def test_a_bucket_where_the_last_write_wins_ends_with_one_value_everywhere() -> None:
    cluster = SmallCluster(size=2)
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"conflicts": "lww"}, reply))
    cluster.world.run(100)
    for key in names(40):
        plant(cluster, 1, key, record_of(b"early", member=1, counter=1))
        plant(cluster, 2, key, record_of(b"late", member=2, counter=2))
    assert exchange(cluster, 1, 2).complete
    assert held(cluster, 1) == held(cluster, 2)
    for body in held(cluster, 1).values():
        record = decode_record(body)
        assert [sibling.value for sibling in record.siblings] == [b"late"]
        assert len(record.clock) == 2


def test_one_bucket_alone_is_repaired_if_that_is_what_was_asked() -> None:
    cluster = SmallCluster(size=2, partitions=4)
    for bucket in (b"carts", b"cart", b"cartt", b"cas\xff", b"z"):
        for index, key in enumerate(names(60)):
            plant(cluster, 1 + index % 2, key, record_of(b"v"), bucket)
    cluster.world.run(10)
    figures = exchange(cluster, 1, 2, b"carts")
    assert (figures.complete, figures.received, figures.sent) == (True, 30, 30)

    def of(number: int, bucket: bytes) -> list[bytes]:
        return [key for key in held(cluster, number) if key[3:].startswith(bucket) and key[2] == len(bucket)]

    for number in (1, 2):
        assert [len(of(number, bucket)) for bucket in (b"carts", b"cart", b"cartt", b"cas\xff", b"z")] == [
            60,
            *(30,) * 4,
        ]


def test_one_record_that_was_stored_under_no_known_digest_is_still_one_record() -> None:
    """A sibling of another epoch of the very same member, as after a wipe: merged, never replaced."""
    cluster = SmallCluster(size=2, partitions=2)
    plant(cluster, 1, b"k", record_of(b"first life", member=1))
    second = record_of(b"second life", member=1)
    actor = next(iter(second.clock)) + 1
    plant(cluster, 2, b"k", Record({actor: 1}, [Sibling(actor, 1, 5 << 16, b"second life")]))
    assert exchange(cluster, 1, 2).complete
    (body,) = held(cluster, 1).values()
    assert sorted(sibling.value for sibling in decode_record(body).siblings) == [b"first life", b"second life"]
    assert held(cluster, 1) == held(cluster, 2)
    assert all(space != Space.HINTS for space, _ in cluster.engines[1].data)
