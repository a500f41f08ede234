"""The brute-force twin of a node's hash trees: what they must say of the records that its engine holds."""

from __future__ import annotations

from collections.abc import Mapping

from quorate.core.envelope import unpack
from quorate.core.errors import DamagedRecord
from quorate.core.merkle.trees import HashTree
from quorate.core.ports import Engine, Space
from quorate.node.node import Node


def digests_in(engine: Engine) -> dict[bytes, int]:
    """Storage key → digest of every record that is whole."""
    found = {}
    for key, stored in engine.scan(Space.DATA, b"", b"\xff\xff"):
        try:
            found[key] = unpack(key, stored)[0]
        except DamagedRecord:
            continue
    return found


def differing(node: Node, digests: Mapping[bytes, int]) -> list[tuple[int, int]]:
    """(partition, n) of the trees of `node` that are ready and are not what `digests` make."""
    shared = node._shared
    trees = shared.trees
    expected = {
        (partition, n): HashTree(trees.leaf_count)
        for partition in range(shared.view.ring.partitions)
        for n in trees.n_values()
        if trees.ready(partition, n)
    }
    for key, digest in digests.items():
        n = shared.view.bucket(key[3 : 3 + key[2]]).properties.n
        tree = expected.get((int.from_bytes(key[:2], "big"), n))
        if tree is not None:
            tree.toggle(key, digest)
    return [
        place
        for place, tree in expected.items()
        for held in [trees.tree(*place)]
        if held.leaves != tree.leaves or held.root != tree.root or trees.root(*place) != tree.root
    ]
