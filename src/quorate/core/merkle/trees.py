"""Hash trees: what a replica holds of each partition, in sums that two replicas can compare (SOSP 2007, §4.7).

A leaf is the XOR of the digests of all records whose keys fall into it; every node above is the XOR of its children,
and the root that of all leaves. So a write changes one leaf by `old digest XOR new digest`, whatever else is there:
the tree is kept exact on every write and never recomputed from the data, and any level can be had from the leaves.

Digests are of key and record together (`envelope.digest_of`), 64 bits, equal on every replica that holds equal records.
Two different sets of records have one sum once in 2^64 tries; nothing that is compared here is chosen by an enemy.

There is one tree for each partition and each n, since buckets with another n have their partition's records on other
nodes. Where all buckets have the default n, which is the usual case, no key is ever taken apart.

Invariants: a tree that is `ready` equals the one that a scan would give, at the end of every turn; which leaf a key is
in depends on the key and on the number of partitions only.
Rejected: hashes of hashes (a write would recompute the path to the root, and the leaf from all of its keys); leaves
that are ranges of keys (a leaf is then read in one short scan, but some key patterns put everything into a few).
"""

from __future__ import annotations

from array import array
from binascii import crc32
from collections.abc import Sequence
from typing import Final

LEAVES_TOTAL: Final = 1 << 18
"""Leaves of all partitions together, 8 bytes each: a million records put four into each leaf."""
LEAVES_MIN: Final = 16
LEAVES_MAX: Final = 1_024
FAN_OUT: Final = 16


def leaves_per_partition(partitions: int) -> int:
    """How many leaves each tree has in a ring of so many partitions: a power of two, from 16 to 1,024."""
    return min(LEAVES_MAX, max(LEAVES_MIN, LEAVES_TOTAL // partitions))


class HashTree:
    """The tree of one partition and one n. Keys go to leaves by `leaf_of`."""

    __slots__ = ("leaves", "root")

    def __init__(self, leaf_count: int) -> None:
        assert leaf_count & (leaf_count - 1) == 0, "a power of two"
        self.leaves = array("Q", bytes(8 * leaf_count))
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
        sums = []
        for node in nodes:
            total = 0
            for leaf in leaves[node * span : (node + 1) * span]:
                total ^= leaf
            sums.append(total)
        return sums


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
