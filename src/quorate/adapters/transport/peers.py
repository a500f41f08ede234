"""What is known about each peer beyond its present connection: counters for status, and which refusals were logged.

Both outlive connections. A peer that is refused dials again every second or so; the operator needs the reason once, at
full length, and afterwards in the status, not in ten thousand lines of log.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from quorate.core.limits import PEER_REFUSALS_REMEMBERED_MAX


class PeerCounters(msgspec.Struct):
    """Totals over all connections with one peer since this node started. Bytes include headers."""

    frames_in: int = 0
    messages_in: int = 0
    bytes_in: int = 0
    frames_out: int = 0
    messages_out: int = 0
    bytes_out: int = 0
    connects: int = 0
    sends_refused: int = 0
    """Messages that were not accepted because the output buffer was full."""
    last_refusal: str = ""
    """Why the latest handshake failed; empty once one has succeeded."""


class OnceLog:
    """Remembers a bounded number of (subject, text) pairs: the oldest are forgotten first."""

    def __init__(self, capacity: int = PEER_REFUSALS_REMEMBERED_MAX) -> None:
        self._capacity = capacity
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def first(self, subject: str, text: str) -> bool:
        """True if this pair is new, that is, worth a line in the log."""
        key = (subject, text)
        if key in self._seen:
            self._seen.move_to_end(key)
            return False
        self._seen[key] = None
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return True

    def forget(self, subject: str) -> None:
        """Things changed for `subject`: say it again if it happens again."""
        for key in [key for key in self._seen if key[0] == subject]:
            del self._seen[key]
