"""SCAN positions: Redis's cursors are integers, ours are opaque text, so this node remembers which stands for which.

Bounded: the least recently used position is forgotten, and its SCAN has to begin again. Cursors are good on the node
that gave them, as in Redis Cluster.

Rejected: packing the position into the integer. Clients in typed languages read cursors as 64 bits, and a position is a
partition and a key.
"""

from __future__ import annotations

from quorate.core.errors import CallerError


class ScanCursors:
    """A map from integer to cursor, least recently used first. 0 is Redis's beginning and end, and the text ''."""

    def __init__(self, cursors_max: int) -> None:
        self._cursors_max = cursors_max
        self._texts: dict[int, str] = {}
        self._next_number = 1

    def number_of(self, text: str) -> int:
        """Remember a position; 0 if it is the end."""
        if not text:
            return 0
        number = self._next_number
        self._next_number += 1
        self._texts[number] = text
        if len(self._texts) > self._cursors_max:
            del self._texts[next(iter(self._texts))]
        return number

    def text_of(self, number: int) -> str:
        """The position, which stays remembered, for a client may ask again; raises `CallerError` if it is unknown."""
        if number == 0:
            return ""
        text = self._texts.pop(number, None)
        if text is None:
            raise CallerError(f"this node does not know SCAN cursor {number} (any more); begin again with 0")
        self._texts[number] = text
        return text
