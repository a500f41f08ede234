"""The check T: every hash tree that a node calls ready is the one that its records make.

It looks between two turns of the loop: a node's records are then those on its disk and those that it has queued for its
next batch. A record that is damaged on the disk counts as absent once the node has found that out; until then nobody
can say what its partition's trees must be.
"""

from __future__ import annotations

from quorate.core.envelope import unpack
from quorate.core.errors import DamagedRecord
from quorate.core.merkle.trees import HashTree
from quorate.core.ports import Space
from quorate.node.node import Node
from quorate.sim.disk import Disk
from quorate.sim.history import Violation


def check_trees(number: int, node: Node, disk: Disk, when: str) -> list[Violation]:
    """Violations of T on the member `number`; `when` says which moment this is."""
    digests, unclear = _digests(node, disk)
    trees = node.trees
    expected: dict[tuple[int, int], HashTree] = {}
    for key, digest in digests.items():
        place = (_partition(key), node.bucket_properties(key[3 : 3 + key[2]]).n)
        expected.setdefault(place, HashTree(trees.leaf_count)).toggle(key, digest)
    nothing = HashTree(trees.leaf_count)
    violations = []
    for partition in range(len(node.ring().owners)):
        for n in trees.n_values():
            if partition in unclear or not trees.ready(partition, n):
                continue
            held, right = trees.tree(partition, n), expected.get((partition, n), nothing)
            if held.leaves != right.leaves or held.root != right.root or trees.root(partition, n) != right.root:
                message = f"n{number}, {when}: the tree of partition {partition} and n={n} is not what its records make"
                violations.append(Violation("T", message))
    return violations


def _digests(node: Node, disk: Disk) -> tuple[dict[bytes, int], set[int]]:
    """(storage key → digest, partitions with damage that the node has not found yet)."""
    digests: dict[bytes, int] = {}
    unclear: set[int] = set()
    for key, stored in {**disk.values[Space.DATA], **dict(node.queued_writes())}.items():
        if stored is None or node.trees.counts_as_absent(key):
            continue
        try:
            digests[key] = unpack(key, stored)[0]
        except DamagedRecord:
            unclear.add(_partition(key))
    return digests, unclear


def _partition(key: bytes) -> int:
    return int.from_bytes(key[:2], "big")
