"""An ordered set of byte strings, kept as a list of short sorted blocks.

The memory engine needs ordered ranges over keys that are added and removed at random. One flat sorted list would move
half of its pointers on every insertion; a sort at the next scan would stall the loop for a whole data set after a
single put. Blocks of bounded length make both O(√n)-like and small: a million keys are some two thousand blocks.

Invariants: no block is empty; blocks are sorted and follow one another; `_firsts[i] == _blocks[i][0]`.

Rejected: a balanced tree (slower in Python by its pointers), and a third-party container for these fifty lines.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

_BLOCK_KEYS_MAX = 1024


class OrderedKeys:
    """A set of `bytes` in lexicographic order. The caller knows what is in it: see `add` and `remove`."""

    __slots__ = ("_blocks", "_firsts")

    def __init__(self) -> None:
        self._blocks: list[list[bytes]] = []
        self._firsts: list[bytes] = []

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    def add(self, key: bytes) -> None:
        """Add a key that is not in the set."""
        if not self._blocks:
            self._blocks.append([key])
            self._firsts.append(key)
            return
        index = self._block_of(key)
        block = self._blocks[index]
        insort(block, key)
        self._firsts[index] = block[0]
        if len(block) > _BLOCK_KEYS_MAX:
            upper = block[_BLOCK_KEYS_MAX // 2 :]
            del block[_BLOCK_KEYS_MAX // 2 :]
            self._blocks.insert(index + 1, upper)
            self._firsts.insert(index + 1, upper[0])

    def remove(self, key: bytes) -> None:
        """Remove a key that is in the set."""
        index = self._block_of(key)
        block = self._blocks[index]
        position = bisect_left(block, key)
        assert block[position] == key, "the key to remove is in the set"
        del block[position]
        if block:
            self._firsts[index] = block[0]
        else:
            del self._blocks[index]
            del self._firsts[index]

    def between(self, start: bytes, end: bytes) -> list[bytes]:
        """The keys with start ≤ key < end, in order, as a list of its own."""
        found: list[bytes] = []
        if not self._blocks:
            return found
        for index in range(self._block_of(start), len(self._blocks)):
            if self._firsts[index] >= end:
                break
            block = self._blocks[index]
            if block[0] >= start and block[-1] < end:
                found += block
            else:
                found += block[bisect_left(block, start) : bisect_left(block, end)]
        return found

    def _block_of(self, key: bytes) -> int:
        """The block that holds `key`, or would."""
        return max(bisect_right(self._firsts, key) - 1, 0)
