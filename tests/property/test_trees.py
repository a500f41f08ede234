"""Hash trees against a brute-force twin: whatever happens in whatever order, a tree that is ready is exact."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import chain, combinations
from operator import xor
from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from quorate.core.buckets import BucketProperties
from quorate.core.envelope import unpack
from quorate.core.errors import DamagedRecord
from quorate.core.merkle.trees import Forest, HashTree, children, leaf_of, widths
from quorate.core.ports import Space
from quorate.core.record import Record, Sibling, encode_record
from quorate.core.ring.metadata import of_value, to_value
from quorate.core.store import PutRequest
from quorate.node import trees as trees_module
from quorate.node.options import NodeOptions
from tests.unit.small_cluster import SmallCluster
from tests.unit.tree_twin import differing

PARTITIONS = 2
KEYS = [b"\x00\x00\x01b1", b"\x00\x00\x01b2", b"\x00\x00\x01b3", b"\x00\x00\x07special1", b"\x00\x01\x01b1"]
keys = st.sampled_from(KEYS)


def subsets(members: list[bytes]) -> Iterator[tuple[bytes, ...]]:
    return chain.from_iterable(combinations(members, size) for size in range(len(members) + 1))


def ignore(argument: Any, durable: bool) -> None:
    pass


class TreesMachine(RuleBasedStateMachine):
    """`digests` holds what was last written under each key, whatever has become of it on the disk since."""

    @initialize(cached=st.booleans(), damaged_max=st.sampled_from([1, 100]))
    def begin(self, cached: bool, damaged_max: int) -> None:
        self.patches = [
            # A step of the walk is one record, so that much can happen between two of them.
            patch.object(trees_module, "SCAN_RECORDS_PER_OPERATION", 1),
            patch.object(trees_module, "TOKENS_PER_STEP_MAX", 1),
            patch.object(trees_module, "DAMAGED_KEYS_MAX", damaged_max),
        ]
        for patched in self.patches:
            patched.start()
        options = NodeOptions(record_cache_bytes=1 << 20 if cached else 0)
        self.forgetful = damaged_max == 1
        self.cluster = SmallCluster(1, PARTITIONS, options)
        self.digests: dict[bytes, int] = {}
        self.whole: dict[bytes, bytes] = {}
        self.written = 0
        self.take_node()
        for key in KEYS:
            self.put(key, True)
        self.cluster.world.run(20)

    def take_node(self) -> None:
        self.node = self.cluster.nodes[1]
        self.shared = self.node._shared
        self.engine = self.cluster.engines[1]

    def teardown(self) -> None:
        if hasattr(self, "cluster"):
            self.cluster.world.run(1_000)
            assert self.shared.trees.report()["ready"] == PARTITIONS, "the walk comes to its end"
            self.ready_trees_are_exact()
            for patched in self.patches:
                patched.stop()

    def changed(self, key: bytes) -> None:
        """Note what is queued under `key`: that cannot be damaged yet."""
        for _, stored in self.shared.commits.queued_between(key, key + b"\x00"):
            assert stored is not None
            self.digests[key] = unpack(key, stored)[0]
            self.whole.pop(key, None)

    @rule(key=keys, overwrite=st.booleans())
    def put(self, key: bytes, overwrite: bool) -> None:
        self.written += 1
        records = self.shared.records
        found = records.base(key)
        request = PutRequest(b"", b"", b"v%d" % self.written, overwrite_seen=overwrite)
        new = records.coordinate(found, request, 0, False)
        records.write(key, new[1], new[2], False, ignore, None, found[2])
        self.changed(key)

    @rule(key=keys, actor=st.integers(1, 3), counter=st.integers(1, 3))
    def merge(self, key: bytes, actor: int, counter: int) -> None:
        body = encode_record(Record({actor: counter}, [Sibling(actor, counter, counter << 16, b"w%d" % counter)]))
        self.shared.records.merge(key, body, False, False, ignore, None)
        self.changed(key)
        assert self.shared.records.read(key) is not None, "a merge leaves a whole record"

    @rule(key=keys)
    def merge_upon_what_is_here(self, key: bytes) -> None:
        self.written += 1
        records = self.shared.records
        found = records.base(key)
        request = PutRequest(b"", b"", b"u%d" % self.written, overwrite_seen=True)
        new = records.coordinate(found, request, 0, False)
        records.merge(key, new[1], False, False, ignore, None, new[3])
        self.changed(key)

    @rule(key=keys, right=st.booleans())
    def remove(self, key: bytes, right: bool) -> None:
        digest = self.digests.get(key, 5) if right else 7
        if self.shared.records.remove(key, digest, ignore, None):
            del self.digests[key]
            self.whole.pop(key, None)
            assert self.shared.commits.get(key) is None

    @rule(key=keys)
    def read(self, key: bytes) -> None:
        try:
            stored = self.shared.records.read(key)
        except DamagedRecord:
            assert key in self.whole, "it was damaged on purpose"
        else:
            assert (None if stored is None else stored[0]) == self.digests.get(key)

    @rule(key=keys)
    def damage(self, key: bytes) -> None:
        stored = self.engine.data.get((Space.DATA, key))
        queued = self.shared.commits.queued_between(key, key + b"\x00")
        if stored is not None and not queued and key not in self.whole:
            self.whole[key] = stored
            self.engine.data[Space.DATA, key] = stored[:-1] + bytes([stored[-1] ^ 1])

    @precondition(lambda self: self.whole and not self.forgetful)
    @rule()
    def the_disk_mends_itself(self) -> None:
        key, stored = self.whole.popitem()
        if (Space.DATA, key) in self.engine.data:
            self.engine.data[Space.DATA, key] = stored

    @rule()
    def end_of_turn(self) -> None:
        self.cluster.world.run(0)

    @rule(callbacks=st.integers(1, 3))
    def go_on(self, callbacks: int) -> None:
        for _ in range(callbacks):
            self.cluster.world.step()

    @rule(milliseconds=st.integers(1, 20))
    def wait(self, milliseconds: int) -> None:
        self.cluster.world.run(milliseconds)

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def rebuild(self, partition: int) -> None:
        self.shared.trees.rebuild(partition)

    @rule(n=st.integers(1, 3))
    def change_n(self, n: int) -> None:
        rings = self.shared.rings
        present = of_value(rings.chain.ring)
        ring = replace(present.ring, version=present.ring.version + 1)
        rings.learn(to_value(replace(present, ring=ring, buckets={b"special": BucketProperties(n=n, r=1, w=1)}), 0))

    @rule(clean=st.booleans(), spoil=st.sampled_from(["nothing", "a document", "a bit"]))
    def restart(self, clean: bool, spoil: str) -> None:
        if clean:
            self.node.stop()
        else:
            self.shared.commits.flush()
        self.cluster.ports[1].alive = False
        documents = sorted(key for space, key in self.engine.data if space == Space.META and key.startswith(b"tree:"))
        if documents and spoil == "a document":
            del self.engine.data[Space.META, documents[0]]
        elif documents and spoil == "a bit":
            stored = self.engine.data[Space.META, documents[0]]
            self.engine.data[Space.META, documents[0]] = stored[:-1] + bytes([stored[-1] ^ 1])
        self.cluster.boot(1)
        self.take_node()
        assert not any(space == Space.META and key.startswith(b"tree:") for space, key in self.engine.data)
        self.cluster.world.run(0)

    @invariant()
    def ready_trees_are_exact(self) -> None:
        if hasattr(self, "cluster"):
            absent = self.shared.trees.counts_as_absent
            held = {key: digest for key, digest in self.digests.items() if not absent(key)}
            found = differing(self.node, held)
            if found and self.forgetful:
                # Which of the damaged records it has found and forgotten again, the node cannot tell.
                for absent_keys in subsets(sorted(self.whole)):
                    found = differing(self.node, {key: held[key] for key in held if key not in absent_keys})
                    if not found:
                        break
            assert found == []


TreesMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestTrees = TreesMachine.TestCase


@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=4), st.integers(0, (1 << 64) - 1)), max_size=30),
    st.sampled_from([16, 32, 256, 1024]),
)
@settings(deadline=None, max_examples=40)
def test_a_forest_is_as_many_trees(writes: list[tuple[int, bytes, int]], leaf_count: int) -> None:
    forest = Forest(4, leaf_count)
    trees = [HashTree(leaf_count) for _ in range(4)]
    leaves = [[0] * leaf_count for _ in range(4)]
    for partition, rest, delta in writes:
        key = partition.to_bytes(2, "big") + rest
        forest.update(key, delta)
        trees[partition].toggle(key, delta)
        leaves[partition][leaf_of(key, leaf_count)] ^= delta
    for partition, tree in enumerate(trees):
        for found in (tree, forest.tree(partition)):
            assert list(found.leaves) == leaves[partition]
            assert found.root == reduce(xor, leaves[partition])
            above, sums_above = [0], [found.root]
            width = 1
            for width_below in widths(leaf_count):
                below = children(above, width, width_below)
                assert below == list(range(width_below))
                sums = found.sums(width_below, below)
                span = width_below // width
                assert [reduce(xor, sums[node * span : (node + 1) * span]) for node in above] == sums_above
                above, sums_above, width = below, sums, width_below
            assert sums_above == leaves[partition]
