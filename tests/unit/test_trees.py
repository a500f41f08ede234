"""The hash trees of a node, scene by scene; `tests/property/test_trees.py` mixes all of it at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quorate.core.errors import DamagedRecord, StorageError
from quorate.core.merkle.trees import LEAVES_MAX, LEAVES_TOTAL, Forest, leaves_per_partition
from quorate.core.ports import Space
from quorate.core.record import Record, Sibling, encode_record
from quorate.node import trees as trees_module
from quorate.node.node import Node
from quorate.node.options import NodeOptions
from quorate.node.trees import Trees
from tests.unit.small_cluster import SmallCluster
from tests.unit.tree_twin import differing, digests_in

PARTITIONS = 4
KEYS = [b"\x00\x01\x01b%d" % number for number in range(6)]
"""All in partition 1, in order."""


def ignore(argument: Any, durable: bool) -> None:
    pass


def body(value: bytes) -> bytes:
    return encode_record(Record({9: 1}, [Sibling(9, 1, 1 << 16, value)]))


class Bench:
    """One node whose walk takes one record at a step, and forgets what it has read."""

    def __init__(self) -> None:
        self.cluster = SmallCluster(1, PARTITIONS, NodeOptions(record_cache_bytes=0))
        self.run = self.cluster.world.run

    @property
    def node(self) -> Node:
        return self.cluster.nodes[1]

    @property
    def trees(self) -> Trees:
        return self.node.trees

    def write(self, key: bytes, value: bytes) -> None:
        """Queue a record; whatever is there before is replaced, without being merged."""
        records = self.node._shared.records
        records.write(key, body(value), 0, False, ignore, None, records.base(key)[2])

    def fill(self) -> None:
        for key in KEYS:
            self.write(key, b"first")
        self.settle()

    def settle(self) -> None:
        """Until everything is written and walked through."""
        self.run(100)
        assert self.trees.report()["ready"] == PARTITIONS

    def walk_past(self, count: int) -> None:
        """Begin to make partition 1 anew, and stop behind the first `count` records."""
        self.trees.rebuild(1)
        while self.trees._unready[1] < KEYS[count - 1]:
            self.cluster.world.step()
        assert self.trees._unready[1] == KEYS[count - 1]

    def damage(self, key: bytes) -> Callable[[], None]:
        """Flip a bit on the disk; the result mends it."""
        data = self.cluster.engines[1].data
        whole = data[Space.DATA, key]
        data[Space.DATA, key] = whole[:-1] + bytes([whole[-1] ^ 1])
        return lambda: data.__setitem__((Space.DATA, key), whole)

    def read(self, key: bytes) -> bool:
        """Is there a whole record?"""
        try:
            return self.node._shared.records.read(key) is not None
        except DamagedRecord:
            return False

    def restart(self, clean: bool = True) -> None:
        if clean:
            self.node.stop()
        self.cluster.ports[1].alive = False
        self.cluster.boot(1)

    def documents(self) -> list[bytes]:
        data = self.cluster.engines[1].data
        return sorted(key for space, key in data if space == Space.META and key.startswith(b"tree:"))

    def exact(self) -> bool:
        """Are all trees ready, and what the whole records on the disk make?"""
        self.settle()
        return differing(self.node, digests_in(self.cluster.engines[1])) == []


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(trees_module, "SCAN_RECORDS_PER_OPERATION", 1)
    monkeypatch.setattr(trees_module, "TOKENS_PER_STEP_MAX", 1)
    made = Bench()
    made.fill()
    yield made


def test_the_number_of_leaves_is_bounded_both_ways() -> None:
    assert [leaves_per_partition(1 << power) for power in (0, 8, 10, 14)] == [LEAVES_MAX, LEAVES_MAX, 256, 16]
    assert all((1 << power) * leaves_per_partition(1 << power) <= LEAVES_TOTAL for power in range(15))


def test_a_forest_keeps_its_trees_apart_and_hands_out_copies() -> None:
    forest = Forest(3, 16)
    forest.update(b"\x00\x01key", 6)
    before = forest.tree(1)
    forest.update(b"\x00\x01key", 3)
    assert (before.root, forest.roots[1], forest.tree(1).root) == (6, 5, 5)
    assert forest.empty(0) and not forest.empty(1) and forest.empty(2)
    forest.plant(2, forest.leaves(1))
    forest.clear(1)
    assert forest.empty(1) and forest.tree(2).leaves != before.leaves and forest.roots[2] == 5
    forest.update(b"\x00\x00a", 7)
    forest.update(b"\x00\x00b", 7)
    assert forest.roots[0] == 0 and not forest.empty(0), "a root of 0 does not mean that there is nothing"


def test_a_write_is_in_the_tree_in_the_same_turn(bench: Bench) -> None:
    before = bench.trees.root(1, 1)
    bench.write(KEYS[0], b"second")
    assert bench.trees.root(1, 1) != before
    assert bench.exact()


def test_a_fresh_store_is_ready_at_once() -> None:
    bench = Bench()
    assert bench.trees.report() == {"partitions": PARTITIONS, "ready": PARTITIONS, "damaged_records": 0}
    assert bench.trees.n_values() == [1]


# Stops and starts.


def test_a_clean_stop_saves_the_trees_and_the_next_start_takes_them_away(bench: Bench) -> None:
    bench.write(KEYS[0], b"queued when the node stops")
    bench.node.stop()
    assert len(bench.documents()) == 2, "one tree that is not empty, and the head"
    bench.cluster.boot(1)
    assert bench.trees.ready(1, 1), "without any walk"
    assert bench.documents() == []
    assert bench.exact()


def test_after_a_kill_the_trees_are_made_anew(bench: Bench) -> None:
    bench.restart(clean=False)
    assert not bench.trees.ready(1, 1)
    assert bench.exact()


def test_trees_that_outlived_an_unclean_stop_are_not_believed(bench: Bench) -> None:
    """The first start after the save writes and is killed; had it not removed them, they would be old."""
    bench.node.stop()
    saved = {place: value for place, value in bench.cluster.engines[1].data.items() if place[1].startswith(b"tree:")}
    bench.cluster.boot(1)
    bench.write(KEYS[0], b"second")
    bench.run(1)
    bench.cluster.engines[1].data.update(saved)
    report = bench.cluster.engines[1].report
    bench.cluster.engines[1].report = type(report)(fresh=False, clean=False, may_have_lost_writes=False)
    bench.restart(clean=False)
    assert not bench.trees.ready(1, 1)
    assert bench.exact()


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("spoil", ["missing", "flipped", "cut", "moved"])
def test_a_spoilt_document_costs_a_walk_and_no_more(bench: Bench, index: int, spoil: str) -> None:
    bench.node.stop()
    data, key = bench.cluster.engines[1].data, bench.documents()[index]
    value = data.pop((Space.META, key))
    if spoil == "flipped":
        data[Space.META, key] = value[:-1] + bytes([value[-1] ^ 1])
    elif spoil == "cut":
        data[Space.META, key] = value[:-8]
    elif spoil == "moved":
        data[Space.META, key[:-1] + bytes([key[-1] ^ 2])] = value
    bench.cluster.boot(1)
    assert not bench.trees.ready(1, 1)
    assert bench.documents() == []
    assert bench.exact()


@pytest.mark.sources
def test_a_tree_that_was_not_ready_is_not_saved(bench: Bench) -> None:
    bench.walk_past(2)
    bench.restart()
    assert not bench.trees.ready(1, 1)
    assert bench.trees.ready(0, 1)
    assert bench.exact()


def test_damage_that_was_known_at_the_stop_is_looked_at_again(bench: Bench) -> None:
    mend = bench.damage(KEYS[2])
    assert not bench.read(KEYS[2])
    bench.settle()
    bench.node.stop()
    mend()
    bench.cluster.boot(1)
    assert bench.read(KEYS[2])
    bench.write(KEYS[2], b"second")
    assert bench.exact()


def test_nothing_is_written_after_the_trees_are_saved(bench: Bench) -> None:
    bench.node.stop()
    with pytest.raises(AssertionError, match="after the hash trees were saved"):
        bench.write(KEYS[0], b"too late")


def test_a_store_that_cannot_take_the_trees_away_takes_no_writes(bench: Bench) -> None:
    bench.node.stop()
    bench.cluster.engines[1].failure = StorageError("Input/output error")
    bench.cluster.boot(1)
    assert "Input/output error" in bench.node._shared.fenced_because


# The walk, and what happens meanwhile.


@pytest.mark.sources
@pytest.mark.parametrize("written", range(5))
def test_a_write_during_the_walk_counts_once(bench: Bench, written: int) -> None:
    """Behind the walk, just where it is, and before it; written in the same turn, or long before the next step."""
    for turns in (0, 1):
        bench.walk_past(3)
        bench.write(KEYS[written], b"second")
        if turns:
            bench.node._shared.commits.flush()
        assert bench.exact()


def test_a_step_sees_what_its_own_turn_has_queued(bench: Bench) -> None:
    for key in (KEYS[0], KEYS[5], b"\x00\x01\x01b00", b"\x00\x01\x01c"):
        bench.trees.rebuild(1)
        bench.write(key, b"queued, and not flushed when the first step runs")
        assert bench.exact()


def test_a_removal_is_in_the_tree(bench: Bench) -> None:
    records, commits = bench.node._shared.records, bench.node._shared.commits
    digest = records.base(KEYS[1])[2]
    done: list[tuple[Any, bool]] = []
    assert not records.remove(KEYS[1], digest + 1, ignore, None)
    assert records.remove(KEYS[1], digest, lambda argument, durable: done.append((argument, durable)), "removed")
    assert commits.get(KEYS[1]) is None and not bench.read(KEYS[1])
    assert not records.remove(KEYS[1], digest, ignore, None), "it is gone already"
    assert done == []
    assert bench.exact()
    assert done == [("removed", True)]
    assert (Space.DATA, KEYS[1]) not in bench.cluster.engines[1].data


@pytest.mark.sources
def test_a_removal_during_the_walk(bench: Bench) -> None:
    records = bench.node._shared.records
    for place in (0, 2, 4):
        bench.walk_past(3) if place < 4 else bench.trees.rebuild(1)
        assert records.remove(KEYS[place], records.base(KEYS[place])[2], ignore, None)
        assert bench.exact()
        bench.fill()


def test_the_walk_waits_while_the_disk_is_failed(bench: Bench) -> None:
    bench.trees.rebuild(1)
    bench.node._shared.fenced_because = "the disk is full"
    bench.run(5_000)
    assert not bench.trees.ready(0, 1), "no tree is ready on a fenced node"
    assert bench.trees.report()["ready"] == 0
    bench.node._shared.fenced_because = ""
    assert bench.trees.ready(0, 1) and not bench.trees.ready(1, 1)
    bench.run(2_000)
    assert bench.exact()


@pytest.mark.sources
def test_a_step_is_bounded_in_bytes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees_module, "SCAN_RECORDS_PER_OPERATION", 1_000)
    monkeypatch.setattr(trees_module, "STEP_BYTES_MAX", 60)
    bench.walk_past(2)
    assert bench.exact()


# Damage.


@pytest.mark.sources
@pytest.mark.parametrize("walked", [0, 2, 4])
def test_a_damaged_record_counts_as_absent_wherever_the_walk_is(bench: Bench, walked: int) -> None:
    if walked:
        bench.walk_past(walked)
    bench.damage(KEYS[2])
    assert not bench.read(KEYS[2])
    assert not bench.trees.ready(1, 1)
    assert bench.exact()
    assert bench.trees.report()["damaged_records"] == 1
    assert not bench.read(KEYS[2])
    assert bench.trees.ready(1, 1), "found once, it is known"


@pytest.mark.parametrize("at_once", [False, True])
def test_what_repair_writes_over_a_damaged_record_counts_again(bench: Bench, at_once: bool) -> None:
    bench.damage(KEYS[2])
    if not at_once:
        assert not bench.read(KEYS[2])
        bench.settle()
    bench.node._shared.records.merge(KEYS[2], body(b"from a peer"), False, False, ignore, None)
    assert bench.exact()
    assert bench.read(KEYS[2])
    assert bench.trees.report()["damaged_records"] == 0
    bench.damage(KEYS[2])
    assert not bench.read(KEYS[2])
    assert not bench.trees.ready(1, 1), "damaged anew"
    assert bench.exact()


def test_a_record_that_can_be_read_again_counts_again(bench: Bench) -> None:
    mend = bench.damage(KEYS[2])
    assert not bench.read(KEYS[2])
    bench.settle()
    mend()
    assert bench.read(KEYS[2])
    assert bench.exact()
    assert bench.trees.report()["damaged_records"] == 0


def test_a_damaged_record_that_is_cached_is_not_believed_after_the_walk_has_seen_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = Bench.__new__(Bench)
    cached.cluster = SmallCluster(1, PARTITIONS, NodeOptions(record_cache_bytes=1 << 20))
    cached.run = cached.cluster.world.run
    cached.fill()
    cached.damage(KEYS[2])
    assert cached.read(KEYS[2])
    cached.trees.rebuild(1)
    cached.settle()
    assert not cached.read(KEYS[2])
    cached.write(KEYS[2], b"second")
    assert cached.exact()


@pytest.mark.sources
def test_more_damage_than_can_be_remembered_costs_walks_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees_module, "DAMAGED_KEYS_MAX", 2)
    for key in KEYS[:5]:
        bench.damage(key)
        assert not bench.read(key)
    assert bench.exact()
    assert bench.trees.report()["damaged_records"] == 2
    for key in KEYS[:5]:
        bench.write(key, b"from a peer")
    assert bench.exact()
    assert bench.trees.report()["damaged_records"] <= 2


# Buckets with another n.


def test_a_bucket_with_another_n_has_trees_of_its_own() -> None:
    cluster = SmallCluster(3, PARTITIONS)
    for number in range(20):
        cluster.put(1, b"k%d" % number, b"v")
        cluster.put(1, b"s%d" % number, b"v", bucket=b"special")
    before = {number: node.trees.n_values() for number, node in cluster.nodes.items()}
    cluster.call(lambda reply: cluster.nodes[2].set_bucket(b"special", {"n": "2"}, reply))
    cluster.world.run(200)
    for number, node in cluster.nodes.items():
        assert (before[number], node.trees.n_values()) == ([3], [3, 2])
        assert node.trees.report()["ready"] == PARTITIONS
        assert any(node.trees.root(partition, 2) for partition in range(PARTITIONS))
        assert differing(node, digests_in(cluster.engines[number])) == []
    cluster.put(1, b"s1", b"w", bucket=b"special", overwrite_seen=True)
    cluster.world.run(10)
    for number, node in cluster.nodes.items():
        assert differing(node, digests_in(cluster.engines[number])) == []
    cluster.call(lambda reply: cluster.nodes[2].set_bucket(b"special", {"n": "3"}, reply))
    cluster.world.run(200)
    assert [node.trees.n_values() for node in cluster.nodes.values()] == [[3]] * 3
    for number, node in cluster.nodes.items():
        assert differing(node, digests_in(cluster.engines[number])) == []


def test_another_n_costs_no_walk_where_there_are_no_records_and_other_properties_none_at_all(bench: Bench) -> None:
    cluster = SmallCluster(3, PARTITIONS)
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"n": "2", "w": "1"}, reply))
    cluster.world.run(2)
    assert all(node.trees.ready(partition, 2) for node in cluster.nodes.values() for partition in range(PARTITIONS))
    cluster.put(1, b"k", b"v")
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"w": "2"}, reply))
    cluster.world.run(2)
    assert all(node.trees.ready(partition, 2) for node in cluster.nodes.values() for partition in range(PARTITIONS))
