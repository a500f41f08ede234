"""A cache of stored records in front of the engine, bounded in bytes.

A warm get of the engine costs five to ten microseconds, most of it memory that is not in the processor's cache, and
each put or get of a client asks for a record on two or three nodes. A hit here costs a tenth of one.

Two generations instead of a list of recent use: what is read or written goes to the young one; when that has filled
half of the bound, it becomes the old one, and the former old one is dropped at once. So a record survives as long as
it is used within about half a bound's worth of others, and no hit moves anything.

Invariant: what is here is what the engine will answer, once this turn's batch is written; when a batch fails, all is
forgotten (`clear`).
"""

from __future__ import annotations

from typing import Final

Stored = tuple[int, int, bytes]
"""(digest, local marker, body)"""

ENTRY_OVERHEAD_BYTES: Final = 300
"""What Python takes for an entry beside the key's and the body's bytes."""


class RecordCache:
    """Storage key → stored record."""

    __slots__ = ("_generation_bytes_max", "_old", "_young", "_young_bytes")

    def __init__(self, bytes_max: int) -> None:
        self._generation_bytes_max = bytes_max // 2
        self._young: dict[bytes, Stored] = {}
        self._old: dict[bytes, Stored] = {}
        self._young_bytes = 0

    def get(self, key: bytes) -> Stored | None:
        found = self._young.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: bytes, stored: Stored) -> None:
        """Remember `stored`; a record larger than a sixteenth of the bound is not worth the others' places."""
        young = self._young
        size_bytes = len(stored[2]) + len(key) + ENTRY_OVERHEAD_BYTES
        if size_bytes > self._generation_bytes_max >> 3:
            self.forget(key)
            return
        before = young.get(key)
        if before is None:
            self._young_bytes += size_bytes
        else:
            self._young_bytes += len(stored[2]) - len(before[2])
        young[key] = stored
        if self._young_bytes > self._generation_bytes_max:
            self._old = young
            self._young = {}
            self._young_bytes = 0

    def forget(self, key: bytes) -> None:
        before = self._young.pop(key, None)
        if before is not None:
            self._young_bytes -= len(before[2]) + len(key) + ENTRY_OVERHEAD_BYTES
        self._old.pop(key, None)

    def clear(self) -> None:
        self._young = {}
        self._old = {}
        self._young_bytes = 0
