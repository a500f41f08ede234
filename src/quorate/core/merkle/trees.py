"""Hash trees: what a replica holds of each partition, in sums that two replicas can compare (SOSP 2007, §4.7).

A leaf is the XOR of the digests of all records whose keys fall into it; every node above is the XOR of its children,
and the root that of all leaves. So a write changes one leaf by `old digest XOR new digest`, whatever else is there:
the tree is kept exact on every write and never recomputed from the data, and any level can be had from the leaves.

Digests are of key and record together (`envelope.digest_of`), 64 bits, equal on every replica that holds equal records.
Two different sets of records have one sum once in 2^64 tries; nothing that is compared here is chosen by an enemy.

There is one tree for each partition and each n, since buckets with another n have their partition's records on other
nodes. Where all buckets have the default n, which is the usual case, no key is ever taken apart. The trees of all
partitions for one n lie together in a `Forest`: two lists, so that a write touches two places in memory. They take some
ten megabytes more than arrays of words would, and save each write the conversions.

Invariants: which leaf a key is in depends on the key and on the number of partitions only; a root is the XOR of its
leaves after every call.
Rejected: hashes of hashes (a write would recompute the path to the root, and the leaf from all of its keys); leaves
that are ranges of keys (a leaf is then read in one short scan, but some key patterns put everything into a few);
roots that are computed when they are asked for (a tenth of a microsecond less for each write, and milliseconds in
which the loop stands still at each comparison).
"""

from __future__ import annotations

from array import array
from binascii import crc32
from collections.abc import Callable, Sequence
from functools import reduce
from operator import xor
from typing import Final

LEAVES_TOTAL: Final = 1 << 18
"""Leaves of all partitions together, 8 bytes each: a million records put four into each leaf."""
LEAVES_MIN: Final = 16
LEAVES_MAX: Final = 1_024
FAN_OUT: Final = 16

Update = Callable[[bytes, int], None]
"""Called as update(storage key, delta) when a record changes: `delta` = old digest XOR new digest (0: no record)."""


def leaves_per_partition(partitions: int) -> int:
    """How many leaves each tree has in a ring of so many partitions: a power of two, from 16 to 1,024."""
    return min(LEAVES_MAX, max(LEAVES_MIN, LEAVES_TOTAL // partitions))


class HashTree:
    """The tree of one partition and one n. Keys go to leaves by `leaf_of`."""

    __slots__ = ("leaves", "root")

    def __init__(self, leaf_count: int) -> None:
        assert leaf_count & (leaf_count - 1) == 0, "a power of two"
        self.leaves = _zeros(leaf_count)
        self.root = 0

    def toggle(self, key: bytes, delta: int) -> None:
        """The record under the storage key `key` has changed: `delta` = old digest XOR new digest (0: no record)."""
        leaves = self.leaves
        leaves[crc32(key) & len(leaves) - 1] ^= delta
        self.root ^= delta

    def sums(self, width: int, nodes: Sequence[int]) -> list[int]:
        """The sums of these `nodes` of the level that has `width` nodes (a power of two up to the number of leaves)."""
        leaves = self.leaves
        span = len(leaves) // width
        return [reduce(xor, leaves[node * span : (node + 1) * span]) for node in nodes]


class Forest:
    """The trees of all partitions for one n: `roots`, and the leaves in order."""

    __slots__ = ("_leaves", "_mask", "_nothing", "_shift", "leaf_count", "roots")

    def __init__(self, partitions: int, leaf_count: int) -> None:
        assert leaf_count & (leaf_count - 1) == 0, "a power of two"
        self.leaf_count = leaf_count
        self._leaves = [0] * (partitions * leaf_count)
        self._nothing = [0] * leaf_count
        self.roots = [0] * partitions
        self._shift = leaf_count.bit_length() - 1
        self._mask = leaf_count - 1

    def update(self, key: bytes, delta: int) -> None:
        """The record under a storage key has changed; `delta` as for `Update`. Called for every write of a replica."""
        partition = key[0] << 8 | key[1]
        self._leaves[partition << self._shift | crc32(key) & self._mask] ^= delta
        self.roots[partition] ^= delta

    def tree(self, partition: int) -> HashTree:
        """The tree of a partition as it is now: a copy, which later writes leave alone."""
        tree = HashTree(self.leaf_count)
        tree.leaves = self.leaves(partition)
        tree.root = self.roots[partition]
        return tree

    def leaves(self, partition: int) -> array[int]:
        """A copy of the leaves of a partition."""
        start = partition * self.leaf_count
        return array("Q", self._leaves[start : start + self.leaf_count])

    def plant(self, partition: int, leaves: array[int]) -> None:
        """Put these leaves, as many as each tree has, in the place of those of a partition."""
        assert len(leaves) == self.leaf_count, "a forest only ever has the size it was made with"
        start = partition * self.leaf_count
        self._leaves[start : start + self.leaf_count] = leaves
        self.roots[partition] = reduce(xor, leaves)

    def clear(self, partition: int) -> None:
        """As if the partition had no record."""
        start = partition * self.leaf_count
        self._leaves[start : start + self.leaf_count] = self._nothing
        self.roots[partition] = 0

    def empty(self, partition: int) -> bool:
        """Are all leaves of this partition 0?"""
        start = partition * self.leaf_count
        return not self.roots[partition] and self._leaves[start : start + self.leaf_count] == self._nothing


def _zeros(words: int) -> array[int]:
    return array("Q", bytes(8 * words))


def leaf_of(key: bytes, leaf_count: int) -> int:
    """The leaf that a storage key is in."""
    return crc32(key) & leaf_count - 1


def widths(leaf_count: int) -> list[int]:
    """The levels to compare below the root, from the widest span to the leaves, such as [16, 256]."""
    found = []
    width = 1
    while width < leaf_count:
        width = min(leaf_count, width * FAN_OUT)
        found.append(width)
    return found


def children(nodes: Sequence[int], width: int, width_below: int) -> list[int]:
    """The nodes of the next level below `nodes` of the level with `width` nodes."""
    span = width_below // width
    return [child for node in nodes for child in range(node * span, (node + 1) * span)]
