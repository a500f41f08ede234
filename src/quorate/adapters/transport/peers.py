"""What is known about each peer beyond its present connection: counters for status, and which refusals were logged.

Both outlive connections. A peer that is refused dials again every second or so; the operator needs the reason once, at
full length, and afterwards in the status, not in ten thousand lines of log.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from quorate.core.limits import PEER_REFUSALS_REMEMBERED_MAX


class PeerCounters:
    """Totals over all connections with one peer since this node started. Bytes include headers.

    A plain class with slots: setting an attribute of a msgspec struct costs more, and these are set for every frame.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "connects",
        "frames_in",
        "frames_out",
        "last_refusal",
        "messages_in",
        "messages_out",
        "sends_refused",
    )

    def __init__(self) -> None:
        self.frames_in = 0
        self.messages_in = 0
        self.bytes_in = 0
        self.frames_out = 0
        self.messages_out = 0
        self.bytes_out = 0
        self.connects = 0
        self.sends_refused = 0
        """Messages that were not accepted because the output buffer was full."""
        self.last_refusal = ""
        """Why the latest handshake failed; empty once one has succeeded."""

    def document(self) -> dict[str, Any]:
        """All of it, by name."""
        return {name: getattr(self, name) for name in self.__slots__}


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
