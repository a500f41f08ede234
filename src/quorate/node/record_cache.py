"""A cache of stored records in front of the engine, bounded in bytes.

A warm get of the engine costs five to ten microseconds, most of it memory that is not in the processor's cache, and
each put or get of a client asks for a record on two or three nodes. A hit here costs a tenth of one.

Two generations instead of a list of recent use: what is put, or found in the old generation, goes to the young one;
whoever came last into the old one makes room first. When nobody is left there, the young generation becomes the old
one. What is used often comes back early in each generation, so it is the last to go, and a hit in the young generation,
which is most of them, moves nothing.

Invariant: what is here is what the engine will answer, once this turn's batch is written; when a batch fails, all is
forgotten (`clear`).

Rejected: dropping an old generation as a whole. To give back 25,000 records takes ten to twenty milliseconds, in which
no request is served: of the latencies at the 99.9th percentile those were the ones that came every four seconds.
"""

from __future__ import annotations

from typing import Final

Stored = tuple[int, int, bytes]
"""(digest, local marker, body)"""

ENTRY_OVERHEAD_BYTES: Final = 300
"""What Python takes for an entry beside the key's and the body's bytes."""


class RecordCache:
    """Storage key → stored record, in at most `bytes_max`."""

    __slots__ = ("_bytes", "_bytes_max", "_old", "_young")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._young: dict[bytes, Stored] = {}
        self._old: dict[bytes, Stored] = {}

    def get(self, key: bytes) -> Stored | None:
        found = self._young.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is not None:
                self._young[key] = found
        return found

    def put(self, key: bytes, stored: Stored) -> None:
        """Remember `stored`; a record larger than a sixteenth of the bound is not worth the others' places."""
        body_bytes = len(stored[2])
        size_bytes = body_bytes + len(key) + ENTRY_OVERHEAD_BYTES
        if size_bytes > self._bytes_max >> 4:
            self.forget(key)
            return
        young = self._young
        before = young.get(key)
        if before is None:
            before = self._old.pop(key, None)
        young[key] = stored
        self._bytes += size_bytes if before is None else body_bytes - len(before[2])
        while self._bytes > self._bytes_max:
            self._drop_one()

    def forget(self, key: bytes) -> None:
        before = self._young.pop(key, None)
        if before is None:
            before = self._old.pop(key, None)
        if before is not None:
            self._bytes -= len(before[2]) + len(key) + ENTRY_OVERHEAD_BYTES

    def clear(self) -> None:
        self._young = {}
        self._old = {}
        self._bytes = 0

    def _drop_one(self) -> None:
        if not self._old:
            self._old, self._young = self._young, self._old
        key, before = self._old.popitem()
        self._bytes -= len(before[2]) + len(key) + ENTRY_OVERHEAD_BYTES
