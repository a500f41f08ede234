"""Going through what this node stores of some leaves of a hash tree: both sides of an exchange do it.

A leaf is a set of keys all over its partition, so the partition is scanned, chunk by chunk, with turns of the loop
between and as fast as background work is admitted. Records in other leaves are passed over unread. The others are
checked against their checksums; a damaged one is reported and counts as not there, so that the peer sends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from quorate.core.envelope import unpack
from quorate.core.errors import DamagedRecord
from quorate.core.limits import (
    EXCHANGE_SCANNED_RECORDS_MAX,
    SCAN_CHUNK_BYTES,
    SCAN_CHUNK_RECORDS,
    SCAN_RECORDS_PER_OPERATION,
)
from quorate.core.merkle.reconcile import range_of_partition
from quorate.core.merkle.trees import leaf_of
from quorate.core.ports import Space
from quorate.node.context import NodeContext
from quorate.node.steps import admission, pause

See = Callable[[bytes, int, bytes], bool]
"""(storage key, digest, body) of a record in key order → is there room for more?"""


class LeafScan:
    """Some leaves of the tree of one partition and one n. Leaf numbers are within the tree."""

    __slots__ = ("_leaf_count", "_leaves", "_n", "_node", "_partition")

    def __init__(self, node: NodeContext, n: int, partition: int, leaves: Sequence[int]) -> None:
        self._node = node
        self._n = n
        self._partition = partition
        self._leaf_count = node.trees.leaf_count
        self._leaves = bytearray(self._leaf_count)
        for leaf in leaves:
            self._leaves[leaf] = 1

    async def go_through(self, after: bytes, upto: bytes, see: See) -> bytes:
        """Show `see` the records above `after`, up to `upto` (empty: to the partition's end), in key order.

        Returns how far it came: `upto` if to the end of the range, else the last key that was looked at. It stops when
        `see` says so and after `EXCHANGE_SCANNED_RECORDS_MAX` records. Raises `StorageError`.
        """
        looked_at = 0
        while looked_at < EXCHANGE_SCANNED_RECORDS_MAX:
            count, last, more = self._chunk(after, upto, see)
            await admission(self._node, 1 + count // SCAN_RECORDS_PER_OPERATION)
            if not last:
                return upto
            looked_at += count
            after = last
            if not more:
                break
            await pause(self._node, 0)
        return after

    def _chunk(self, after: bytes, upto: bytes, see: See) -> tuple[int, bytes, bool]:
        """(records looked at, the last of them or empty if that was the end of the range, is there room for more?)"""
        node = self._node
        start, end = range_of_partition(self._partition)
        node.commits.flush()
        count = size_bytes = 0
        for key, stored in node.engine.scan(
            Space.DATA, after + b"\x00" if after else start, upto + b"\x00" if upto else end
        ):
            count += 1
            size_bytes += len(stored)
            if self._is_of_these(key) and not self._show(key, stored, see):
                return count, key, False
            if count >= SCAN_CHUNK_RECORDS or size_bytes >= SCAN_CHUNK_BYTES:
                return count, key, True
        return count, b"", True

    def _is_of_these(self, key: bytes) -> bool:
        return bool(self._leaves[leaf_of(key, self._leaf_count)]) and self._node.trees.n_of(key) == self._n

    def _show(self, key: bytes, stored: bytes, see: See) -> bool:
        try:
            digest, _, body = unpack(key, stored)
        except DamagedRecord:
            self._node.records.on_damaged(key)
            return True
        return see(key, digest, body)
