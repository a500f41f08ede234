"""A connection between two processes, and the codec that its frames pass through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from quorate.core.messages import Message

if TYPE_CHECKING:
    from quorate.sim.network import SimTransport

OPENING: Final = 0
OPEN: Final = 1
CLOSED: Final = 2

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Message])


def encode_frame(messages: list[Message]) -> bytes:
    return _encoder.encode(messages)


def decode_frame(frame: bytes) -> list[Message]:
    """The messages of a frame, with every type checked, as production does on arrival."""
    return _decoder.decode(frame)


class Connection:
    """Each side opens and closes for itself; `state` and `transports` are by member number."""

    __slots__ = ("_least_difference_ms", "state", "transports")

    def __init__(self, transports: dict[int, SimTransport]) -> None:
        assert len(transports) == 2
        self.transports = transports
        self.state = dict.fromkeys(transports, OPENING)
        self._least_difference_ms: dict[int, float] = {}

    def stands_between(self, first: SimTransport, second: SimTransport) -> bool:
        """Both sides are up (or coming up), and between these very lives of the two members."""
        ends = list(self.transports.values())
        return first in ends and second in ends and CLOSED not in self.state.values()

    def age_ms(self, receiver: int, sent_ms: float, received_ms: float) -> float:
        """How much longer than the quickest frame so far this one took: the rule of the `Transport` port."""
        difference_ms = received_ms - sent_ms
        least_ms = min(self._least_difference_ms.get(receiver, difference_ms), difference_ms)
        self._least_difference_ms[receiver] = least_ms
        return difference_ms - least_ms
